//! The binary itself: what it refuses, what it writes to its log, how it ends; its commands
//! in pipes and beside proxies.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::ALONE;

/// The program, with nothing of this process's settings.
fn tramontane(arguments: &[&str], folder: &std::path::Path) -> Command {
    let command = Command::new(env!("CARGO_BIN_EXE_tramontane"));
    of_binary(command, arguments, &folder.join("models"))
}

/// The same, for a command that starts the program.
pub fn of_binary(mut command: Command, arguments: &[&str], models: &std::path::Path) -> Command {
    command.env_clear().env("OLLAMA_MODELS", models).env("PATH", "/usr/bin:/bin:/usr/sbin:/sbin");
    command.args(arguments);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    command
}

/// A server that runs; killed when it is dropped.
pub struct Running {
    child: Child,
    log: BufReader<std::process::ChildStderr>,
    pub address: String,
    /// The log up to where it listens.
    pub before: Vec<String>,
}

impl Running {
    pub fn start(mut command: Command) -> Self {
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

    pub fn ask(&self, method: &str, path: &str, body: &str) -> String {
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
    pub fn terminate(mut self) -> (Vec<String>, bool) {
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

/// What a program that ends by itself said, and whether it ended well.
fn output(mut command: Command, stdin: &[u8]) -> (bool, String, String) {
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().unwrap();
    // It may have ended already.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.success(), text(&output.stdout), text(&output.stderr))
}

#[test]
fn keys_never_fail_open() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let empty = folder.path().join("empty");
    std::fs::write(&empty, "\n").unwrap();
    let empty = empty.display().to_string();
    for (name, value, said) in [
        ("TRAMONTANE_API_KEYS", "", "has no key in it"),
        ("TRAMONTANE_API_KEYS", " ", "has no key in it"),
        ("TRAMONTANE_API_KEYS", ",", "has no key in it"),
        ("TRAMONTANE_API_KEYS", "\"\"", "has no key in it"),
        ("TRAMONTANE_API_KEYS_FILE", "", "is set and empty"),
        ("TRAMONTANE_API_KEYS_FILE", empty.as_str(), "has no key in it"),
        ("TRAMONTANE_API_KEY", "secret", "did you mean TRAMONTANE_API_KEYS?"),
        ("TRAMONTANE_REGISTRIES", "", "has no host in it"),
        ("TRAMONTANE_READ_ONLY", "offf", "is neither yes nor no"),
        ("TRAMONTANE_LOG_FORMAT", "xml", "write text or json"),
        ("TRAMONTANE_ISA", "sse2", "instruction set"),
        ("OLLAMA_MODELS", empty.as_str(), "is a file"),
    ] {
        let mut command = tramontane(&["serve", "--host", "127.0.0.1:0"], folder.path());
        command.env(name, value);
        let (well, _, log) = output(command, b"");
        assert!(!well && log.contains(said), "{name}={value:?}: {log}");
    }
}

#[test]
fn the_first_line_says_what_runs() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let mut command = tramontane(&["serve"], folder.path());
    command.env("OLLAMA_HOST", "127.0.0.1:0").env("OLLAMA_NUM_THREADS", "1");
    command.env("TRAMONTANE_MEMORY", "2GiB").env("TRAMONTANE_API_KEYS", "a,b");
    // As a compose file with quotes in a list has it.
    command.env("OLLAMA_MODELS", format!("\"{}\"", folder.path().join("models").display()));
    let server = Running::start(command);
    let line = server.before.last().unwrap();
    let models = format!("models={}/models", folder.path().display());
    for part in [
        models.as_str(),
        "memory=\"2.0 GiB\"",
        "threads=1",
        "instructions=",
        "api_keys=\"2\"",
        "read_only=false",
    ] {
        assert!(line.contains(part), "{part}: {line}");
    }
    assert!(server.ask("GET", "/api/tags", "").contains("OLLAMA_API_KEY"), "the 401 says so");
    assert!(server.terminate().1);
}

#[test]
fn an_open_door_is_told() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    for (host, key, warned) in [("0.0.0.0:0", "", true), ("0.0.0.0:0", "k", false)] {
        let mut command = tramontane(&["serve", "--host", host], folder.path());
        if !key.is_empty() {
            command.env("TRAMONTANE_API_KEYS", key);
        }
        let mut child = command.spawn().unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap());
        let mut all = String::new();
        while !all.contains("listening") {
            assert!(log.read_line(&mut all).unwrap() > 0, "{all}");
        }
        let id = child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        log.read_to_string(&mut all).unwrap();
        assert!(child.wait().unwrap().success());
        assert_eq!(all.contains("everybody who reaches this address"), warned, "{host}: {all}");
    }
}

#[test]
fn commands_reach_a_server_of_this_machine() {
    let _alone = ALONE.blocking_lock();
    let folder = tempfile::tempdir().unwrap();
    let server = Running::start(tramontane(&["serve", "--host", "127.0.0.1:0"], folder.path()));
    let port = server.address.rsplit(':').next().unwrap().to_owned();
    let command = |words: &[&str]| {
        let mut command = tramontane(words, folder.path());
        command.env("OLLAMA_HOST", &server.address).env("OLLAMA_NOHISTORY", "1");
        command.env("HOME", folder.path());
        command
    };
    for proxy in ["HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy", "HTTPS_PROXY"] {
        for host in ["127.0.0.1", "localhost", "0.0.0.0", "LOCALHOST"] {
            let mut list = command(&["list"]);
            list.env(proxy, "http://127.0.0.1:1").env("OLLAMA_HOST", format!("'{host}:{port}'"));
            let (well, out, log) = output(list, b"");
            assert!(well && out.contains("storyteller"), "{proxy} {host}: {log}");
        }
    }
    // Through a pipe: any bytes, or none.
    let say = ["run", "storyteller", "--verbose"];
    for bytes in [&b"caf\xe9 au lait"[..], b"\xff\xfeh\0i\0", b"abc\xe2\x82"] {
        let (well, out, log) = output(command(&say), bytes);
        assert!(well && out.len() > 10, "{bytes:?}: {log}");
    }
    for words in [&["run", "storyteller"][..], &["run", "--keepalive", "-1s", "storyteller", ""]] {
        let (well, out, log) = output(command(words), b"");
        assert!(well && out.is_empty() && log.is_empty(), "{words:?}: {out}{log}");
    }
    assert!(output(command(&["ps"]), b"").1.contains("Forever"));
    let (well, out, _) = output(command(&["--version"]), b"");
    let own = format!("tramontane version is {}", env!("CARGO_PKG_VERSION"));
    assert!(well && out.contains("ollama version is 0.") && out.contains(&own), "{out}");
    let mut wrong = command(&["list"]);
    wrong.env("OLLAMA_HOST", "127.0.0.1:99999");
    assert!(output(wrong, b"").2.contains("has no port from 0 to 65535; 11434 is used"));
    // A Modelfile through a pipe.
    let (well, _, log) = output(command(&["create", "piped", "-f", "-"]), b"FROM storyteller\n");
    assert!(well, "{log}");
    let (well, _, log) = output(command(&["rm", "none", "piped"]), b"");
    assert!(!well && log.contains("'none' not found"), "{log}");
    assert!(!output(command(&["list"]), b"").1.contains("piped"));
    assert!(server.terminate().1);
}
