//! Requests that mean harm: each gets a 4xx at once, the next ordinary request is
//! served, and nothing outside the store is read or written.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Reply, Server, server, server_with};

/// A request's method, path and body.
type Case = (&'static str, String, Vec<u8>);

fn post(path: &str, body: impl Into<Vec<u8>>) -> Case {
    ("POST", path.to_owned(), body.into())
}

/// Values that are wrong wherever a value of another kind belongs.
fn wrong_types() -> Vec<Case> {
    let odd = [json!(17), json!(true), json!([1]), json!({"a": 1}), json!("text")];
    // Route, field, and which of these values the field takes.
    let fields = [
        ("/api/generate", "model", "text"),
        ("/api/generate", "prompt", "text"),
        ("/api/generate", "suffix", "text"),
        ("/api/generate", "system", "text"),
        ("/api/generate", "template", "text"),
        ("/api/generate", "raw", "true"),
        ("/api/generate", "stream", "true"),
        ("/api/generate", "truncate", "true"),
        ("/api/generate", "logprobs", "true"),
        ("/api/generate", "top_logprobs", "17"),
        ("/api/generate", "options", "{"),
        ("/api/chat", "model", "text"),
        ("/api/chat", "stream", "true"),
        ("/api/chat", "messages", ""),
        ("/api/chat", "options", "{"),
        ("/api/embed", "model", "text"),
        ("/api/embed", "truncate", "true"),
        ("/api/embed", "dimensions", "17"),
        ("/api/rerank", "query", "text"),
        ("/api/rerank", "documents", ""),
        ("/v1/rerank", "top_n", "17"),
        ("/v1/rerank", "return_documents", "true"),
        ("/rerank", "model", "text"),
        ("/api/show", "verbose", "true"),
        ("/api/create", "from", "text"),
        ("/api/create", "files", ""),
        ("/api/create", "parameters", "{"),
        ("/api/create", "template", "text"),
        ("/api/create", "messages", ""),
        ("/api/pull", "insecure", "true"),
        ("/api/pull", "stream", "true"),
        ("/api/copy", "source", ""),
        ("/v1/chat/completions", "messages", ""),
        ("/v1/chat/completions", "stream", "true"),
        ("/v1/completions", "model", "text"),
        ("/v1/embeddings", "model", "text"),
        ("/v1/messages", "messages", ""),
    ];
    let mut cases = Vec::new();
    for (path, field, takes) in fields {
        for value in &odd {
            if takes.is_empty() || !value.to_string().trim_matches('"').starts_with(takes) {
                let mut body = ordinary(path);
                body[field] = value.clone();
                cases.push(post(path, body.to_string()));
            }
        }
    }
    cases
}

/// A body that would be right.
fn ordinary(path: &str) -> Value {
    let messages = json!([{"role": "user", "content": "hi"}]);
    match path {
        "/api/create" => json!({"model": "new", "from": "storyteller"}),
        "/api/copy" => json!({"source": "storyteller", "destination": "new"}),
        "/api/pull" => json!({"model": "127.0.0.1:1/a/b"}),
        "/api/embed" => json!({"model": "storyteller", "input": "hi"}),
        "/v1/embeddings" => json!({"model": "storyteller", "input": "hi"}),
        "/api/rerank" | "/v1/rerank" | "/rerank" => {
            json!({"model": "storyteller", "query": "hi", "documents": ["a"]})
        }
        "/v1/completions" => json!({"model": "storyteller", "prompt": "hi", "max_tokens": 1}),
        "/v1/messages" | "/v1/chat/completions" => {
            json!({"model": "storyteller", "messages": messages, "max_tokens": 1})
        }
        "/api/chat" => json!({"model": "storyteller", "messages": messages,
            "options": {"num_predict": 1}}),
        _ => json!({"model": "storyteller", "prompt": "hi", "options": {"num_predict": 1}}),
    }
}

/// Bodies that are no JSON, or JSON of which nobody has a use.
fn odd_bodies() -> Vec<Case> {
    let deep = |open: &str, close: &str| open.repeat(100_000) + &close.repeat(100_000);
    let bodies: Vec<Vec<u8>> = vec![
        Vec::new(),
        b"\0".to_vec(),
        b"\xef\xbb\xbf{}x".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"{\"model\":\"\xc3\x28\"}".to_vec(),
        b"{\"model\":\"\xed\xa0\x80\"}".to_vec(),
        b"{\"model\":\"\\ud800\"}".to_vec(),
        b"{\"model\":\"a\nb\"}".to_vec(),
        b"{\"model\":NaN}".to_vec(),
        b"{\"model\":Infinity}".to_vec(),
        b"{\"model\":1e999}".to_vec(),
        b"{\"model\":-}".to_vec(),
        b"{\"model\":01}".to_vec(),
        b"{'model':'x'}".to_vec(),
        b"{\"model\":\"x\",}".to_vec(),
        b"{\"model\":\"x\"".to_vec(),
        b"[]".to_vec(),
        b"\"text\"".to_vec(),
        b"12".to_vec(),
        b"true".to_vec(),
        deep("[", "]").into_bytes(),
        deep("{\"a\":", "}").into_bytes(),
        format!("{{\"model\":{}}}", deep("[", "]")).into_bytes(),
        format!("{{\"options\":{}1{}}}", "{\"a\":".repeat(50_000), "}".repeat(50_000)).into_bytes(),
        format!("{{\"model\":\"{}\",\"prompt\":\"x\"}}", "a".repeat(1_000_000)).into_bytes(),
        b"x".repeat(17 << 20),
    ];
    let paths = ["/api/generate", "/api/chat", "/v1/chat/completions"];
    bodies.into_iter().flat_map(|body| paths.map(|path| post(path, body.clone()))).collect()
}

/// Names and digests that are paths.
fn paths() -> Vec<Case> {
    let names = [
        "../../etc/passwd",
        "/etc/passwd",
        "..",
        ".",
        "a/../b",
        "a/b/../../c:d",
        "a:../b",
        "%2e%2e/%2e%2e",
        "..%2fx",
        "a\0b",
        "a\nb",
        "C:\\x",
        "\\\\host\\share",
        "~/x",
        "$(id)",
        "a b",
        "модель",
        "a/b/c/d/e",
        "http://",
        "https://a/b/c/../../../d",
        "file:///etc/passwd",
        "x@sha256:0000",
        "-x",
        "a/-b",
        "-a/b",
        ".a",
        "a:.b",
        "a:-b",
        "\u{202e}x",
        "ａ",
    ];
    let mut cases = Vec::new();
    for name in names {
        cases.push(post("/api/show", json!({"model": name}).to_string()));
        cases.push(post("/api/create", json!({"model": name, "from": "storyteller"}).to_string()));
        cases.push(post("/api/pull", json!({"model": name, "stream": false}).to_string()));
        cases.push(post(
            "/api/copy",
            json!({"source": "storyteller", "destination": name}).to_string(),
        ));
        cases.push((
            "DELETE",
            "/api/delete".into(),
            json!({"model": name}).to_string().into_bytes(),
        ));
        cases.push(post("/api/generate", json!({"model": name, "prompt": "x"}).to_string()));
    }
    let zeros = "0".repeat(64);
    for digest in [
        "sha256:..",
        "sha256-..%2f..%2fetc",
        "sha256:",
        "md5:00",
        "..%2f..%2fetc%2fpasswd",
        "sha256:zz",
        "sha256%3a%2e%2e",
        "%00",
    ] {
        cases.push(post(&format!("/api/blobs/{digest}"), "x"));
        cases.push(("HEAD", format!("/api/blobs/{digest}"), Vec::new()));
    }
    for file in ["/etc/passwd", "../../x.gguf", "a/../../x.gguf", "..\\x.gguf", "", "./../x"] {
        let body = json!({"model": "new", "files": {file: format!("sha256:{zeros}")}});
        cases.push(post("/api/create", body.to_string()));
    }
    for digest in ["sha256:../../etc/passwd", "/etc/passwd", "", "sha256:1"] {
        let body = json!({"model": "new", "files": {"x.gguf": digest}});
        cases.push(post("/api/create", body.to_string()));
    }
    cases
}

/// Numbers that are out of every range.
fn numbers() -> Vec<Case> {
    let mut cases = Vec::new();
    for (field, value) in [
        ("temperature", json!("NaN")),
        ("temperature", json!(1e300)),
        ("top_p", json!(-1)),
        ("top_p", json!(7)),
        ("min_p", json!(-0.5)),
        ("min_p", json!(2)),
        ("typical_p", json!(-3)),
        ("repeat_penalty", json!(-1)),
        ("repeat_penalty", json!(0)),
        ("stop", json!([1])),
        ("stop", json!(7)),
        ("logit_bias", json!({"99999999999": 1})),
        ("logit_bias", json!([1])),
    ] {
        let body = json!({"model": "storyteller", "prompt": "x", "options": {field: value}});
        cases.push(post("/api/generate", body.to_string()));
    }
    for (field, value) in [
        ("top_logprobs", json!(-1)),
        ("top_logprobs", json!(1e18)),
        ("top_logprobs", json!(21)),
        ("context", json!([-1])),
        ("context", json!([4294967296u64])),
        ("context", json!([1.5])),
        ("context", json!(["a"])),
        ("context", vec![-1; 1_000_000].into()),
        ("keep_alive", json!("9999999999999999999999h1")),
        ("keep_alive", json!({})),
        ("keep_alive", json!("1x")),
    ] {
        let body = json!({"model": "storyteller", "prompt": "x", field: value});
        cases.push(post("/api/generate", body.to_string()));
    }
    for body in [
        json!({"model": "storyteller", "tokens": [-1]}),
        json!({"model": "storyteller", "tokens": [4294967295u32]}),
        json!({"model": "storyteller", "tokens": ["x"]}),
    ] {
        cases.push(post("/api/detokenize", body.to_string()));
    }
    for (field, value) in [("n", json!(1_000_000)), ("n", json!(-1)), ("max_tokens", json!("x"))] {
        let mut body = ordinary("/v1/chat/completions");
        body[field] = value;
        cases.push(post("/v1/chat/completions", body.to_string()));
    }
    cases
}

/// Numbers that are odd, but that Ollama takes: they must not do harm.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn odd_numbers_do_no_harm() {
    let server = server().await;
    for options in [
        json!({"num_ctx": -5}),
        json!({"num_ctx": 1}),
        json!({"num_ctx": 9_000_000_000_000_000_000u64}),
        json!({"num_predict": i64::MIN}),
        json!({"num_predict": u64::MAX}),
        json!({"seed": i64::MIN}),
        json!({"top_k": i64::MIN, "repeat_last_n": i64::MAX}),
        json!({"num_keep": i64::MAX}),
        json!({"temperature": -1e30, "presence_penalty": 1e30, "frequency_penalty": -1e30}),
        json!({"num_batch": -1, "num_thread": 1_000_000, "num_gpu": 99}),
    ] {
        let mut all = json!({"num_predict": 3});
        all.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
        if options["num_predict"].is_number() {
            all["stop"] = json!(["e"]);
        }
        let body =
            json!({"model": "storyteller", "prompt": "Once", "stream": false, "options": all});
        let reply = server.post("/api/generate", &body).await;
        assert!(reply.status.as_u16() < 500, "{options}: {} {}", reply.status, reply.text());
    }
    for dimensions in [json!(-1), json!(0), json!(1), json!(u32::MAX)] {
        let body = json!({"model": "storyteller", "input": "x", "dimensions": dimensions});
        let reply = server.post("/api/embed", &body).await;
        assert!(reply.status.as_u16() < 500, "{dimensions}: {}", reply.text());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_requests_get_4xx_at_once() {
    let server = server().await;
    // Loaded: what is measured is the refusal.
    assert_eq!(server.post("/api/generate", &json!({"model": "storyteller"})).await.status, 200);
    let secret = server.folder.path().join("secret.gguf");
    std::fs::write(&secret, tramontane_serve::builtin::BYTES).unwrap();
    let before = outside(&server);
    let cases: Vec<Case> =
        [wrong_types(), odd_bodies(), paths(), numbers()].into_iter().flatten().collect();
    assert!(cases.len() >= 300, "{}", cases.len());
    let mut failures = Vec::new();
    for (method, path, body) in cases {
        let shown = String::from_utf8_lossy(&body).chars().take(120).collect::<String>();
        let attempt = async || {
            let request = Request::builder().method(method).uri(&path).header("host", "localhost");
            let Ok(request) = request.body(Body::from(body.clone())) else {
                panic!("{path} is no request");
            };
            let start = Instant::now();
            let reply = Reply::of(server.send(request).await).await;
            (reply, start.elapsed())
        };
        let (reply, mut took) = attempt().await;
        // Other programs on the machine only ever add to it: the shortest time counts.
        for _ in 0..4 {
            if took > Duration::from_secs(1) {
                took = took.min(attempt().await.1);
            }
        }
        let refused = reply.status.is_client_error();
        // What happens after the first line of a stream is a line.
        let told = reply.status == 200 && last_is_error(&reply);
        if !(refused || told) || took > Duration::from_secs(1) {
            failures.push(format!("{method} {path} {shown}: {} after {took:?}", reply.status));
        }
        assert_eq!(server.get("/api/version").await.status, 200);
    }
    assert!(failures.is_empty(), "{}:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(outside(&server), before, "something outside the store was written");
    let body = json!({"model": "storyteller", "prompt": "Once", "stream": false,
        "options": {"num_predict": 2}});
    assert_eq!(server.post("/api/generate", &body).await.status, 200);
}

fn last_is_error(reply: &Reply) -> bool {
    let last = reply.body.split(|&byte| byte == b'\n').rfind(|line| !line.is_empty());
    last.and_then(|line| serde_json::from_slice::<Value>(line).ok())
        .is_some_and(|line| line["error"].is_string())
}

/// Everything around the store, with its bytes.
fn outside(server: &Server) -> BTreeMap<PathBuf, Vec<u8>> {
    fn walk(folder: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                if path.file_name().unwrap() != "models" {
                    walk(&path, files);
                }
                files.insert(path, Vec::new());
            } else {
                let bytes = std::fs::read(&path).unwrap();
                files.insert(path, bytes);
            }
        }
    }
    let mut files = BTreeMap::new();
    walk(server.folder.path(), &mut files);
    files
}

/// Files are only served where that was asked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_are_served_only_if_allowed() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("own.gguf");
    std::fs::write(&file, tramontane_serve::builtin::BYTES).unwrap();
    let name = file.display().to_string();
    let body = json!({"model": name, "prompt": "Once", "stream": false,
        "options": {"num_predict": 2}});
    assert_eq!(server().await.post("/api/generate", &body).await.status, 400);
    let given = server_with(|args| args.files = vec![file.clone()]).await;
    assert_eq!(given.post("/api/generate", &body).await.status, 200);
    assert_eq!(given.get("/api/tags").await.json()["models"][0]["name"], name);
    let allowing = server_with(|args| args.allow_paths = true).await;
    assert_eq!(allowing.post("/api/generate", &body).await.status, 200);
    let other = json!({"model": "/etc/passwd", "prompt": "x"});
    assert_eq!(allowing.post("/api/generate", &other).await.status, 400);
    let missing = json!({"model": "/nowhere/x.gguf", "prompt": "x"});
    assert_eq!(allowing.post("/api/generate", &missing).await.status, 404);
}

/// What only a socket shows: heads, lengths, ends in the middle.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hostile_connections_end_and_others_are_served() {
    let server = server().await;
    let (address, stop) = server.listen().await;
    let long = "a".repeat(1 << 20);
    let cases: Vec<(String, &str)> = vec![
        ("GARBAGE\r\n\r\n".into(), "400"),
        (format!("GET /{long} HTTP/1.1\r\nHost: localhost\r\n\r\n"), "4"),
        (format!("GET / HTTP/1.1\r\nHost: localhost\r\nX: {long}\r\n\r\n"), "431"),
        ("GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n".into(), "400"),
        ("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n{}".into(), "400"),
        ("POST /api/chat HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n".into(), "4"),
        ("GET / HTTP/1.1\r\nHost: evil.com\r\n\r\n".into(), "403"),
        ("GET http://evil.com/ HTTP/1.1\r\nHost: evil.com\r\n\r\n".into(), "403"),
        ("GET / HTTP/9.9\r\nHost: localhost\r\n\r\n".into(), "4"),
        ("GET /api/tags HTTP/1.1\r\n\r\n".into(), "200"),
    ];
    for (request, wanted) in cases {
        let shown = request.chars().take(60).collect::<String>();
        let reply = exchange(&address, request.as_bytes()).await;
        let status = reply.split(' ').nth(1).unwrap_or("nothing");
        assert!(
            status.starts_with(wanted) || (wanted == "4" && reply.is_empty()),
            "{shown}: {reply}"
        );
        assert!(exchange(&address, ORDINARY).await.contains("Ollama is running"), "{shown}");
    }
    // Two requests in one packet: two answers in their order.
    let both = [ORDINARY, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"];
    let first = String::from_utf8_lossy(ORDINARY).replace("Connection: close\r\n", "");
    let reply = exchange(&address, &[first.as_bytes(), both[1]].concat()).await;
    assert!(reply.find("Ollama is running") < reply.find("\r\n\r\nok"), "{reply}");
    // A body that never comes holds up nobody.
    let mut waiting = TcpStream::connect(&address).await.unwrap();
    let head = "POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{";
    waiting.write_all(head.as_bytes()).await.unwrap();
    assert!(exchange(&address, ORDINARY).await.contains("Ollama is running"));
    // An upload that ends in the middle leaves nothing.
    let digest = format!("sha256:{}", "1".repeat(64));
    let upload = format!(
        "POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999\r\n\r\nabc"
    );
    let mut socket = TcpStream::connect(&address).await.unwrap();
    socket.write_all(upload.as_bytes()).await.unwrap();
    drop(socket);
    drop(waiting);
    let blobs = server.folder.path().join("models/blobs");
    for _ in 0..100 {
        if std::fs::read_dir(&blobs).unwrap().count() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(std::fs::read_dir(&blobs).unwrap().count(), 0);
    stop.send(()).unwrap();
}

const ORDINARY: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// Sends bytes and reads what comes until the end, a second at most.
async fn exchange(address: &str, request: &[u8]) -> String {
    let mut socket = TcpStream::connect(address).await.unwrap();
    // A refusal may come before all is sent.
    let _ = socket.write_all(request).await;
    let mut reply = Vec::new();
    let mut buffer = [0; 4096];
    let deadline = Instant::now() + Duration::from_secs(1);
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        match tokio::time::timeout(left, socket.read(&mut buffer)).await {
            Ok(Ok(read)) if read > 0 => reply.extend_from_slice(&buffer[..read]),
            _ => return String::from_utf8_lossy(&reply).into_owned(),
        }
        // Kept alive: the answer is there.
        if reply.ends_with(b"}") && !reply.windows(5).any(|w| w == b"close") {
            return String::from_utf8_lossy(&reply).into_owned();
        }
    }
}
