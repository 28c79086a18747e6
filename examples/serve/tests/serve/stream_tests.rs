//! Streams whose answer is late: headers, signs of life, errors.

use std::time::{Duration, Instant};

use serde_json::json;
use tramontane_serve::answer::{self, Answer, Asked, Chat, Coming, News, Step};
use tramontane_serve::app::Shared;
use tramontane_serve::prompt::Message;
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
    let mut asked = Asked::of("storyteller");
    asked.options.insert("num_predict".into(), json!(3));
    let messages = vec![Message { role: "user".into(), content: "Tell me a story".into() }];
    answer::chat(server, Chat { asked, messages }).await
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
