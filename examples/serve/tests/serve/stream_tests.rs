//! Streams whose answer is late: headers, signs of life, errors.

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tramontane::Message;
use tramontane_serve::answer::{self, Answer, Asked, Chat, Coming, News, Step};
use tramontane_serve::app::Shared;
use tramontane_serve::wire::{ApiError, Result};

use crate::support::{Server, server, server_with};

/// Longer than an error may keep the headers waiting.
const LATE: Duration = Duration::from_millis(1500);

async fn patient() -> Server {
    server_with(|args| args.stream_heartbeat = Some("100ms".into())).await
}

/// An answer of three tokens, after a while.
async fn answer_after(server: Shared, wait: Duration) -> Result<Answer> {
    tokio::time::sleep(wait).await;
    answer(server, "storyteller").await
}

async fn answer(server: Shared, model: &str) -> Result<Answer> {
    let mut asked = Asked::of(model);
    asked.options.insert("num_predict".into(), json!(3));
    let messages = vec![Message::user("Tell me a story")];
    answer::chat(server, Chat::of(asked, messages)).await
}

async fn all(mut coming: Coming) -> Vec<News> {
    let mut news = Vec::new();
    while let Some(one) = coming.next().await {
        news.push(one);
    }
    news
}

#[tokio::test]
async fn an_error_that_comes_at_once_has_its_status() {
    let server = server().await;
    let refused = Coming::of(&server.app, async { Err(ApiError::not_found("no")) }).await;
    assert_eq!(refused.err().unwrap().message, "no");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn headers_do_not_wait_for_the_model() {
    let server = patient().await;
    let begun = Instant::now();
    let late = async {
        tokio::time::sleep(LATE).await;
        Err(ApiError::busy("full"))
    };
    let coming = Coming::of(&server.app, late).await.unwrap();
    assert!(begun.elapsed() < LATE);
    let news = all(coming).await;
    let (last, before) = news.split_last().unwrap();
    assert!(matches!(last, News::Step(Step::Failed(error)) if error.message == "full"), "{news:?}");
    assert!(before.iter().all(|news| matches!(news, News::Quiet(None))) && !before.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_late_answer_is_told_from_its_beginning() {
    let server = patient().await;
    let prompt = answer_after(server.app.clone(), Duration::ZERO).await.unwrap().prompt_tokens();
    let coming = Coming::of(&server.app, answer_after(server.app.clone(), LATE)).await.unwrap();
    let news = all(coming).await;
    assert!(matches!(news[0], News::Quiet(None)), "{news:?}");
    let spoken: Vec<_> = news.iter().filter(|news| !matches!(news, News::Quiet(_))).collect();
    assert!(matches!(spoken[0], News::Begun(tokens) if *tokens == prompt), "{news:?}");
    assert!(matches!(spoken.last().unwrap(), News::Step(Step::Done(_))), "{news:?}");
}

/// Every route that streams, and a body for it.
fn streams() -> [(&'static str, Value); 6] {
    let messages = json!([{"role": "user", "content": "Tell me a story"}]);
    let model = "storyteller";
    [
        ("/api/generate", json!({"model": model, "prompt": "Once", "options": {"num_predict": 3}})),
        ("/api/chat", json!({"model": model, "messages": messages, "options": {"num_predict": 3}})),
        (
            "/v1/completions",
            json!({"model": model, "prompt": "Once", "max_tokens": 3, "stream": true}),
        ),
        (
            "/v1/chat/completions",
            json!({"model": model, "messages": messages, "max_tokens": 3, "stream": true}),
        ),
        (
            "/v1/responses",
            json!({"model": model, "input": "Hello", "max_output_tokens": 16, "stream": true}),
        ),
        (
            "/v1/messages",
            json!({"model": model, "messages": messages, "max_tokens": 3, "stream": true}),
        ),
    ]
}

/// What waits for its turn is told so, in bytes that clients accept: comments in event
/// streams, lines without text in Ollama's own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_route_gives_signs_of_life() {
    let folder = tempfile::tempdir().unwrap();
    let other = folder.path().join("other.gguf");
    std::fs::write(&other, tramontane_serve::builtin::BYTES).unwrap();
    let server = server_with(|args| {
        args.stream_heartbeat = Some("100ms".into());
        args.max_loaded_models = Some("1".into());
        args.files = vec![other.clone()];
    });
    let server = std::sync::Arc::new(server.await);
    // Its model stays in the only place until it is dropped.
    let first = answer(server.app.clone(), other.to_str().unwrap()).await.unwrap();
    let ask = |(path, body): (&'static str, Value)| {
        let server = server.clone();
        tokio::spawn(async move { (path, server.post(path, &body).await) })
    };
    let replies = streams().map(ask);
    tokio::time::sleep(LATE).await;
    drop(first);
    for reply in replies {
        let (path, reply) = reply.await.unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.text());
        if path.starts_with("/api/") {
            let (last, before) =
                reply.lines().split_last().map(|(a, b)| (a.clone(), b.to_vec())).unwrap();
            let text = |line: &Value| match path {
                "/api/chat" => line["message"]["content"].clone(),
                _ => line["response"].clone(),
            };
            assert_eq!(last["done"], true, "{path}");
            assert!(before.iter().all(|line| line["done"] == false && text(line).is_string()));
            assert_eq!(text(&before[0]), "", "{path}");
        } else {
            let text = reply.text();
            assert!(text.starts_with(": waiting for the model\n\n"), "{path}: {text}");
            let lines = text.lines().filter(|line| !line.is_empty());
            let known =
                |line: &str| [": ", "data: ", "event: "].iter().any(|s| line.starts_with(s));
            assert!(lines.clone().all(known), "{path}: {text}");
            assert!(lines.filter(|line| line.starts_with("data: ")).count() > 2, "{path}: {text}");
        }
    }
}
