//! How replies are read: by threads, by tasks, as a whole; one shape for session and engine.

use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use tramontane::engine::{Engine, Request};
use tramontane::{EngineOptions, Error, FinishReason, GenerateOptions, SamplerOptions};

use crate::{greedy, is_empty_after_forgetting, shared, stories, text};

fn engine() -> Engine {
    Engine::new(&stories(), &EngineOptions::default()).unwrap()
}

#[test]
fn every_way_of_reading_gives_the_same_text_and_summary() {
    let _guard = shared();
    let engine = engine();
    let ask = || engine.generate("Once upon a time", &greedy(20)).unwrap();
    let whole = ask().wait().unwrap();
    assert_eq!(whole.summary.finish_reason, Some(FinishReason::Length));
    assert_eq!(whole.summary.timings.generated_tokens, 20);

    let mut reply = ask();
    let text: String = reply.blocking_iter().map(|piece| piece.unwrap().text).collect();
    assert_eq!((&text, reply.summary().finish_reason), (&whole.text, whole.summary.finish_reason));
    assert!(reply.blocking_iter().next().is_none());

    assert_eq!(pollster::block_on(async { ask().await }).unwrap().text, whole.text);
    let by_task = pollster::block_on(async {
        let (mut reply, mut text) = (ask(), String::new());
        while let Some(piece) = reply.next().await {
            text += &piece.unwrap().text;
        }
        assert!(reply.next().await.is_none());
        assert_eq!(reply.summary().timings.generated_tokens, 20);
        text
    });
    assert_eq!(by_task, whole.text);

    let mut session = engine.model().session(&Default::default()).unwrap();
    let alone = session.generate("Once upon a time", &greedy(20)).unwrap().wait().unwrap();
    assert_eq!(alone.text, whole.text);
    assert_eq!(alone.summary.finish_reason, whole.summary.finish_reason);
    is_empty_after_forgetting(&engine);
}

#[cfg(feature = "futures")]
#[test]
fn a_reply_is_a_stream() {
    use futures_core::Stream;

    let _guard = shared();
    let engine = engine();
    let whole = engine.generate("The dog", &greedy(5)).unwrap().wait().unwrap().text;
    let mut reply = pin!(engine.generate("The dog", &greedy(5)).unwrap());
    let next = std::future::poll_fn(|context| Stream::poll_next(reply.as_mut(), context));
    let first = pollster::block_on(next).unwrap().unwrap();
    assert!(whole.starts_with(&first.text));
}

/// A seed from entropy is told, and repeats the answer.
#[test]
fn a_reply_tells_its_seed() {
    let _guard = shared();
    let engine = engine();
    let lively = GenerateOptions::default().with_temperature(1.5).with_num_predict(30);
    let first = engine.generate("Once", &lively).unwrap();
    let again = lively.clone().with_seed(first.seed());
    let second = engine.generate("Once", &again).unwrap();
    assert_eq!(first.wait().unwrap().text, second.wait().unwrap().text);
}

#[test]
fn clones_share_one_engine_and_the_last_one_ends_it() {
    let _guard = shared();
    let (engine, options) = (engine(), greedy(3));
    let clone = engine.clone();
    std::thread::spawn(move || clone.generate("a", &options).unwrap().wait().unwrap());
    let mut reply = engine.generate("Once", &greedy(100_000)).unwrap();
    reply.blocking_iter().next().unwrap().unwrap();
    let clone = engine.clone();
    drop(engine);
    assert!(clone.generate("b", &greedy(1)).unwrap().wait().is_ok(), "it lives on");
    drop(clone);
    let end = reply.blocking_iter().find_map(Result::err);
    assert!(end.is_none_or(|error| matches!(error, Error::Closed)));
}

#[test]
fn a_pending_result_is_awaited_waited_for_or_cancelled() {
    let _guard = shared();
    let engine = engine();
    let tokens: Vec<u32> = (5..50).collect();
    let waited = engine.embed(&tokens, &Default::default()).unwrap().wait().unwrap();
    let awaited = pollster::block_on(engine.embed(&tokens, &Default::default()).unwrap()).unwrap();
    assert_eq!(waited, awaited);

    // One that waits behind a text, in an engine that computes one at a time.
    let one = EngineOptions::default().with_max_running(1);
    let busy = Engine::new(&stories(), &one).unwrap();
    let mut text = busy.generate("Once", &greedy(100_000)).unwrap();
    text.blocking_iter().next().unwrap().unwrap();
    let mut pending = busy.embed(&tokens, &Default::default()).unwrap();
    let polled = pin!(&mut pending).poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    pending.canceller().cancel();
    assert!(matches!(pending.wait(), Err(Error::Cancelled)));
}

#[test]
fn a_reply_may_be_looked_at_without_waiting() {
    let _guard = shared();
    let engine = engine();
    let mut reply = engine.generate("Once", &greedy(3)).unwrap();
    let mut pieces = 0;
    loop {
        match reply.next_timeout(Duration::from_secs(20)) {
            Poll::Ready(Some(piece)) => pieces += usize::from(piece.is_ok()),
            Poll::Ready(None) => break,
            Poll::Pending => panic!("nothing in 20 seconds"),
        }
    }
    assert_eq!(pieces, 3);
    assert!(matches!(reply.try_next(), Poll::Ready(None)));
}

/// A failure is an item: the shortest loop that handles pieces handles it.
#[test]
fn impossible_options_are_refused_at_once() {
    let _guard = shared();
    let sampler = SamplerOptions::default().with_top_p(2.0);
    let options = GenerateOptions::default().with_sampler(sampler);
    assert!(matches!(engine().generate("a", &options), Err(Error::Misuse(_))));
}

/// What a client that waits for the first token can be told.
#[test]
fn a_reply_tells_how_far_its_prompt_is() {
    let _guard = shared();
    let engine = engine();
    let prompt = text(engine.model(), 200);
    let request = Request::new(prompt.clone(), greedy(2));
    let mut reply = engine.submit(request.clone()).unwrap();
    let mut before = 0;
    let mut look = |reply: &tramontane::Reply| {
        let progress = reply.progress();
        assert_eq!(progress.total, prompt.len());
        assert!((before..=prompt.len()).contains(&progress.computed), "{progress:?}");
        before = progress.computed;
        before
    };
    look(&reply);
    while reply.blocking_iter().next().is_some() {
        assert_eq!(look(&reply), prompt.len());
    }
    // A prefix that is found counts as computed.
    let again = engine.submit(request.clone()).unwrap();
    let whole = again.wait().unwrap();
    assert!(whole.summary.timings.reused_tokens > 0);
}
