//! Many at once, those who go away, and the end of the server.

use std::time::{Duration, Instant};

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::{Reply, Server, server, server_with};

fn chat(prompt: &str, options: Value) -> Request<Body> {
    let body = json!({"model": "storyteller", "options": options,
        "messages": [{"role": "user", "content": prompt}]});
    let request = Request::builder().method("POST").uri("/api/chat").header("host", "localhost");
    request.body(Body::from(body.to_string())).unwrap()
}

/// The text of a stream's lines; and that it ended once, at its end.
fn text_of(lines: &[Value]) -> String {
    let done = lines.iter().filter(|line| line["done"] == true).count();
    assert_eq!(done, 1, "{lines:?}");
    assert_eq!(lines.last().unwrap()["done"], true);
    lines.iter().map(|line| line["message"]["content"].as_str().unwrap()).collect()
}

/// Waits until nothing runs, and tells how long that took.
async fn idle(server: &Server) -> Duration {
    let start = Instant::now();
    loop {
        let loaded = server.app.scheduler.loaded();
        if loaded.iter().all(|model| model.stats.running == 0 && model.stats.waiting == 0) {
            return start.elapsed();
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{loaded:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_streams_of_which_some_go_away() {
    let server = server().await;
    let prompts: Vec<String> = ["a cat", "a dog", "a bird", "a boat", "a tree"]
        .map(|it| format!("Tell about {it}."))
        .into();
    let options = json!({"temperature": 0, "num_predict": 40});
    let mut alone = Vec::new();
    for prompt in &prompts {
        let reply = Reply::of(server.send(chat(prompt, options.clone())).await).await;
        alone.push(text_of(&reply.lines()));
    }
    let held = |server: &Server| {
        let loaded = server.app.scheduler.loaded();
        assert_eq!(loaded.len(), 1);
        (loaded[0].stats.kv_reserved, loaded[0].stats.kv_bytes, loaded[0].stats.prefixes)
    };
    let server = std::sync::Arc::new(server);
    let mut tasks = tokio::task::JoinSet::new();
    for number in 0..200usize {
        let (server, request) = (server.clone(), chat(&prompts[number % 5], options.clone()));
        let wanted = alone[number % 5].clone();
        tasks.spawn(async move {
            let response = server.send(request).await;
            assert_eq!(response.status(), 200);
            let mut body = response.into_body();
            let (mut bytes, mut frames) = (Vec::new(), 0);
            // Every fifth goes away, at different moments.
            let leaves = (number % 5 == number / 40).then_some(number % 7);
            while let Some(frame) = body.frame().await {
                if leaves == Some(frames) {
                    return false;
                }
                frames += 1;
                bytes.extend_from_slice(&frame.unwrap().into_data().unwrap());
            }
            let lines: Vec<Value> = String::from_utf8(bytes)
                .unwrap()
                .lines()
                .map(|line| serde_json::from_str(line).unwrap())
                .collect();
            assert_eq!(text_of(&lines), wanted, "stream {number}");
            true
        });
    }
    let ended = tasks.join_all().await;
    let whole = ended.iter().filter(|whole| **whole).count();
    assert_eq!((ended.len(), whole), (200, 160));
    idle(&server).await;
    let (granted, bytes, prefixes) = held(&server);
    assert_eq!(granted, 0);
    // What is kept are prefixes for others; without them there is nothing.
    assert!(prefixes > 0 && bytes > 0);
    let leases = server.app.scheduler.loaded();
    assert_eq!(leases[0].stats.running, 0);
    let unload = json!({"model": "storyteller", "keep_alive": 0});
    assert_eq!(server.post("/api/generate", &unload).await.json()["done_reason"], "unload");
    assert!(server.app.scheduler.loaded().is_empty());
    let text = server.get("/metrics").await.text().to_owned();
    let running = text.lines().find(|line| line.starts_with("tramontane_running_answers "));
    assert_eq!(running, Some("tramontane_running_answers 0"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hangs_up_is_worked_for_no_longer() {
    let server = server().await;
    let (address, stop) = server.listen().await;
    assert_eq!(server.post("/api/generate", &json!({"model": "storyteller"})).await.status, 200);
    for stream in [true, false] {
        let body = json!({"model": "storyteller", "prompt": "Once upon a time", "raw": true,
            "stream": stream, "options": {"num_predict": 100_000, "temperature": 1.5}});
        let body = body.to_string();
        let request = format!(
            "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        // Other programs on the machine only ever add to it: the shortest time counts.
        let mut shortest = Duration::MAX;
        for _ in 0..5 {
            let mut socket = TcpStream::connect(&address).await.unwrap();
            socket.write_all(request.as_bytes()).await.unwrap();
            let start = Instant::now();
            while server.app.scheduler.loaded()[0].stats.running == 0 {
                assert!(start.elapsed() < Duration::from_secs(10));
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            drop(socket);
            shortest = shortest.min(idle(&server).await);
            if shortest < Duration::from_millis(250) {
                break;
            }
        }
        assert!(shortest < Duration::from_millis(250), "stream {stream}: {shortest:?}");
    }
    stop.send(()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn metrics_count_what_was_done() {
    let server = server().await;
    let options = json!({"num_predict": 7, "temperature": 0});
    for _ in 0..2 {
        let prompt = "Once upon a time there was a little cat. ".repeat(10);
        let body = json!({"model": "storyteller", "prompt": prompt, "stream": false,
            "options": options});
        assert_eq!(server.post("/api/generate", &body).await.status, 200);
    }
    let text = server.get("/metrics").await.text().to_owned();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.starts_with(&format!("tramontane_{name} ")));
        let line = line.unwrap_or_else(|| panic!("{name}: {text}"));
        line.rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!(value("generated_tokens_total"), 14.0);
    assert!(value("reused_prompt_tokens_total") > 0.0, "the second prompt was found");
    assert_eq!(value("time_to_first_token_seconds_count"), 2.0);
    assert_eq!(value("inter_token_seconds_count"), 12.0);
    assert_eq!(value("loaded_models"), 1.0);
    assert!(value("models_bytes") > 4e6 && value("kv_cache_bytes") > 0.0);
    assert!(text.contains(r#"tramontane_requests_total{route="/api/generate",status="200"} 2"#));
    assert!(value("resident_memory_bytes") > 4e6);
    // What only grows is a counter: rates of gauges are wrong after a restart.
    for (name, wanted) in
        [("model_loads", 1.0), ("model_evictions", 0.0), ("refused_requests", 0.0)]
    {
        assert!(text.contains(&format!("# TYPE tramontane_{name} counter\n")), "{name}: {text}");
        assert_eq!(value(&format!("{name}_total")), wanted);
    }
    assert!(text.ends_with("# EOF\n"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_takes_no_longer_than_it_may() {
    let server = server_with(|args| args.max_time = Some("200ms".into())).await;
    let options = json!({"num_predict": 100_000, "temperature": 1.5});
    assert_eq!(server.post("/api/generate", &json!({"model": "storyteller"})).await.status, 200);
    let start = Instant::now();
    let reply = Reply::of(server.send(chat("Tell me a story.", options)).await).await;
    let lines = reply.lines();
    // Either it ended by itself before, or it was ended with a clear line.
    if lines.last().unwrap()["done"] != true {
        assert!(lines.last().unwrap()["error"].as_str().unwrap().contains("longer than"));
    }
    assert!(start.elapsed() < Duration::from_secs(2));
    idle(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn predictions_are_bounded_by_the_server() {
    let server = server_with(|args| args.max_predict = Some("5".into())).await;
    let body = json!({"model": "storyteller", "prompt": "Once", "stream": false,
        "options": {"num_predict": 50}});
    let reply = server.post("/api/generate", &body).await.json();
    assert_eq!((&reply["eval_count"], &reply["done_reason"]), (&json!(5), &json!("length")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_lets_answers_end() {
    let server = server().await;
    let (address, stop) = server.listen().await;
    assert_eq!(server.post("/api/generate", &json!({"model": "storyteller"})).await.status, 200);
    let ask = |count: usize| {
        let address = address.clone();
        async move {
            let body = json!({"model": "storyteller", "prompt": "Once upon a time",
                "options": {"num_predict": count, "temperature": 0}});
            let body = body.to_string();
            let request = format!(
                "POST /api/generate HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\
                 Content-Length: {}\r\n\r\n{body}",
                body.len()
            );
            // Who comes when nobody listens any more is refused by the system.
            let Ok(mut socket) = TcpStream::connect(&address).await else { return None };
            socket.write_all(request.as_bytes()).await.unwrap();
            let mut reply = Vec::new();
            socket.read_to_end(&mut reply).await.unwrap();
            Some(String::from_utf8(reply).unwrap())
        }
    };
    let running: Vec<_> = (0..10).map(|_| tokio::spawn(ask(150))).collect();
    let start = Instant::now();
    while server.app.scheduler.loaded()[0].stats.running == 0 {
        assert!(start.elapsed() < Duration::from_secs(10), "nothing runs");
        tokio::time::sleep(Duration::from_micros(200)).await;
    }
    stop.send(()).unwrap();
    let mut whole = 0;
    for reply in running {
        let Some(reply) = reply.await.unwrap() else { continue };
        let done = reply.contains("\"done\":true");
        // One that came too late is told so.
        assert!(done || reply.contains("\"error\":\"server is shutting down\""), "{reply}");
        whole += usize::from(done);
    }
    assert!(whole > 0, "the one that ran was not let end");
    let start = Instant::now();
    while TcpStream::connect(&address).await.is_ok() {
        assert!(start.elapsed() < Duration::from_secs(5), "it still listens");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    while !server.app.scheduler.loaded().is_empty() {
        assert!(start.elapsed() < Duration::from_secs(5), "the model is still there");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(server.get("/readyz").await.status, 503);
    let refused =
        server.post("/api/generate", &json!({"model": "storyteller", "prompt": "x"})).await;
    assert_eq!((refused.status.as_u16(), refused.error()), (503, "server is shutting down".into()));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_cannot_end_in_time_is_told_so() {
    let server = server().await;
    assert_eq!(server.post("/api/generate", &json!({"model": "storyteller"})).await.status, 200);
    let options = json!({"num_predict": 100_000, "temperature": 1.5, "stop": []});
    let response = server.send(chat("Tell me a story.", options)).await;
    let scheduler = server.app.scheduler.clone();
    let draining = tokio::spawn(async move { scheduler.drain(Duration::from_millis(30)).await });
    let lines = Reply::of(response).await.lines();
    let last = lines.last().unwrap();
    assert!(last["done"] == true || last["error"] == "server is shutting down", "{last}");
    draining.await.unwrap();
}

/// A Unix socket serves like any other; another server does not take it over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_unix_socket_serves() {
    use tramontane_serve::config::Bind;
    use tramontane_serve::http::{Listener, run};
    let server = server().await;
    let path = server.folder.path().join("socket");
    let bind = Bind::Unix(path.clone());
    let listener = Listener::bind(&bind).await.unwrap();
    assert!(Listener::bind(&bind).await.is_err_and(|error| error.contains("another server")));
    let app = server.app.clone();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = tokio::spawn(run(listener, app, async move { drop(stopped.await) }));
    let mut socket = tokio::net::UnixStream::connect(&path).await.unwrap();
    let request = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    socket.write_all(request).await.unwrap();
    let mut reply = String::new();
    socket.read_to_string(&mut reply).await.unwrap();
    assert!(reply.ends_with("Ollama is running"), "{reply}");
    stop.send(()).unwrap();
    running.await.unwrap();
    // What an ended server left is replaced; a file is not.
    assert!(Listener::bind(&bind).await.is_ok());
    let file = server.folder.path().join("file");
    std::fs::write(&file, "precious").unwrap();
    assert!(Listener::bind(&Bind::Unix(file.clone())).await.is_err());
    assert_eq!(std::fs::read_to_string(file).unwrap(), "precious");
}
