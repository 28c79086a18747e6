//! The binary itself: what it writes to its log, and how it ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::ALONE;

/// The program, with nothing of this process's settings.
fn tramontane(arguments: &[&str], folder: &std::path::Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_tramontane"));
    command.env_clear().env("OLLAMA_MODELS", folder.join("models")).args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A server that runs; killed when it is dropped.
struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    address: String,
    /// The log up to where it listens.
    before: Vec<String>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let mut server = Running { child, log, address: String::new(), before: Vec::new() };
        while server.address.is_empty() {
            let mut line = String::new();
            assert!(server.log.read_line(&mut line).unwrap() > 0, "it ended: {:?}", server.before);
            if let Some(from) = line.find("127.0.0.1:").filter(|_| line.contains("listening")) {
                let rest = &line[from..];
                let end = rest.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':'));
                server.address = rest[..end.unwrap_or(rest.len())].to_owned();
            }
            server.before.push(line);
        }
        server
    }

    fn ask(&self, method: &str, path: &str, body: &str) -> String {
        let mut socket = TcpStream::connect(&self.address).unwrap();
        let length = body.len();
        write!(
            socket,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
             Content-Length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        let mut reply = String::new();
        socket.read_to_string(&mut reply).unwrap();
        reply
    }

    /// SIGTERM; the rest of the log, and whether the server ended well.
    fn terminate(mut self) -> (Vec<String>, bool) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        let mut rest = String::new();
        self.log.read_to_string(&mut rest).unwrap();
        let lines = rest.lines().map(str::to_owned).collect();
        (lines, self.child.wait().unwrap().success())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn warnings_about_settings_are_in_the_log() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let mut command = tramontane(&["serve", "--host", "127.0.0.1:0"], folder.path());
    command.env("OLLAMA_NUM_PARALLEL", "several").env("OLLAMA_KEEP_ALIVE", "a while");
    let server = Running::start(command);
    let log = server.before.concat();
    for name in ["OLLAMA_NUM_PARALLEL", "OLLAMA_KEEP_ALIVE"] {
        let warned = |line: &&str| line.contains("WARN") && line.contains(name);
        assert!(log.lines().any(|line| warned(&line)), "{name}: {log}");
    }
    // A pipe is nobody who sees colours.
    assert!(!log.contains('\x1b'), "{log:?}");
    assert!(server.terminate().1);
}

#[test]
fn every_request_is_one_line() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let arguments = ["serve", "--host", "127.0.0.1:0", "--log-format", "json"];
    let server = Running::start(tramontane(&arguments, folder.path()));
    let prompt = r#"{"model": "storyteller", "prompt": "Once", "options": {"num_predict": 3}}"#;
    assert!(server.ask("POST", "/api/generate", prompt).contains(r#""done":true"#));
    assert!(server.ask("GET", "/api/tags?secret=1", "").contains("storyteller"));
    assert!(server.ask("POST", "/api/show", r#"{"model": "no\n\u001bsuch"}"#).contains("400"));
    let (log, ended_well) = server.terminate();
    assert!(ended_well);
    let lines: Vec<Value> = log.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let requests: Vec<&Value> = lines.iter().filter(|line| line["message"] == "request").collect();
    let about = |line: &Value| {
        let text = |name: &str| line[name].as_str().map(str::to_owned);
        (text("method").unwrap(), text("path").unwrap(), line["status"].as_u64().unwrap())
    };
    let wanted =
        [("POST", "/api/generate", 200), ("GET", "/api/tags", 200), ("POST", "/api/show", 400)];
    let wanted = wanted.map(|(method, path, status)| (method.to_owned(), path.to_owned(), status));
    assert_eq!(requests.iter().map(|line| about(line)).collect::<Vec<_>>(), wanted);
    assert_eq!(requests[0]["model"], "storyteller");
    assert!(requests[0]["prompt_tokens"].as_u64().unwrap() > 0);
    assert_eq!(requests[0]["generated_tokens"], 3);
    assert!(requests[1].get("model").is_none() && requests[1].get("prompt_tokens").is_none());
    for request in requests {
        assert_eq!(request["level"], "INFO");
        assert!(request["duration_ms"].as_f64().unwrap() > 0.0);
    }
}
