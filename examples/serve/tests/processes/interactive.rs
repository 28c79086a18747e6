//! `tramontane run` at a terminal: what a person types and sees.

use std::fs::File;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use crate::ALONE;
use crate::command::{Running, of_binary};

/// A conversation at a terminal.
struct Terminal {
    child: Child,
    keys: File,
    /// What the terminal has shown and no test has read.
    shown: Arc<Mutex<String>>,
}

impl Terminal {
    fn start(server: &Running, home: &Path) -> Self {
        let pty = nix::pty::openpty(None, None).unwrap();
        let side = || Stdio::from(pty.slave.try_clone().unwrap());
        let binary = Command::new(env!("CARGO_BIN_EXE_tramontane"));
        let mut command = of_binary(binary, &["run", "storyteller"], home);
        command.env("OLLAMA_HOST", &server.address).env("HOME", home).env("TERM", "xterm");
        command.stdin(side()).stdout(side()).stderr(side());
        let child = command.spawn().unwrap();
        let keys = File::from(pty.master);
        let mut screen = keys.try_clone().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let text = shown.clone();
        // It ends with an error when nobody holds the other side.
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = screen.read(&mut bytes) {
                text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count]));
            }
        });
        Terminal { child, keys, shown }
    }

    /// What is shown up to `end`.
    fn until(&self, end: &str) -> String {
        let begun = Instant::now();
        loop {
            let mut shown = self.shown.lock().unwrap();
            if let Some(at) = shown.find(end) {
                return shown.drain(..at + end.len()).collect();
            }
            assert!(begun.elapsed() < Duration::from_secs(60), "no {end:?} in {shown:?}");
            drop(shown);
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits until a line can be typed, and types it.
    fn line(&mut self, text: &str) {
        self.until("Send a message (/? for help)");
        self.keys.write_all(format!("{text}\r").as_bytes()).unwrap();
    }

    fn ended_well(mut self) -> bool {
        self.child.wait().unwrap().success()
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn a_conversation_at_a_terminal() {
    let _alone = ALONE.blocking_lock();
    let home = tempfile::tempdir().unwrap();
    let serve = ["serve", "--host", "127.0.0.1:0"];
    let binary = Command::new(env!("CARGO_BIN_EXE_tramontane"));
    let server = Running::start(of_binary(binary, &serve, &home.path().join("models")));

    let mut talk = Terminal::start(&server, home.path());
    talk.line("/? shortcuts");
    talk.until("Delete the sentence after the cursor");
    talk.line("/set parameter num_predict 3");
    talk.until("Set parameter 'num_predict' to '3'");
    talk.line("/show parameters");
    talk.until("User defined parameters:");
    talk.until("num_predict");
    talk.line("Once upon a time");
    // Ctrl+C at an empty line leaves nothing but says how to.
    talk.line("\x03");
    talk.until("Use Ctrl + d or /bye to exit.");
    talk.line("\"\"\"two");
    talk.until("Use \"\"\" to end multi-line input");
    talk.keys.write_all(b"lines\"\"\"\r").unwrap();
    talk.line("/set nohistory");
    talk.until("Set 'nohistory' mode.");
    talk.line("a secret");
    talk.line("/bye");
    assert!(talk.ended_well());

    // The arrow finds what was typed before, but not what was not to be remembered.
    let mut talk = Terminal::start(&server, home.path());
    talk.until("Send a message (/? for help)");
    for recalled in ["/set nohistory", "lines\"\"\"", "\"\"\"two", "Once upon a time"] {
        talk.keys.write_all(b"\x1b[A").unwrap();
        assert!(!talk.until(recalled).contains("secret"));
    }
    // Ctrl+U empties the line, Ctrl+D leaves.
    talk.keys.write_all(b"\x15\x04").unwrap();
    assert!(talk.ended_well());
    assert!(server.terminate().1);
}
