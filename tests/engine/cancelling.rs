//! Clients that go, wait too long, or find the engine gone.

use std::time::{Duration, Instant};

use tramontane::engine::{Engine, Reply, Request};
use tramontane::{EngineOptions, Error, FinishReason, KvType};

use crate::{
    End, alone, exclusive, greedy, is_empty_after_forgetting, next, piece, read, shared, stories,
    storyteller, text, wait_for,
};

/// What a client is promised.
const SOON: Duration = Duration::from_millis(250);

fn long_prompt() -> Request {
    let mut request = Request::new(text(&storyteller(), 20_000), greedy(5));
    request.num_ctx = Some(30_000);
    request
}

#[test]
fn dropping_a_stream_ends_its_work_and_keeps_what_it_computed_while_there_is_room() {
    let _alone = exclusive();
    let model = storyteller();
    let options = EngineOptions::default().with_num_ctx(30_000);
    let engine = Engine::new(&model, &options).unwrap();
    for wait in [1, 20, 60, 150] {
        is_empty_after_forgetting(&engine);
        let reply = engine.submit(long_prompt()).unwrap();
        wait_for(Duration::from_secs(5), "the start", || engine.stats().running == 1);
        std::thread::sleep(Duration::from_millis(wait));
        assert_eq!(engine.stats().running, 1, "still at its prompt");
        drop(reply);
        wait_for(SOON, "ending", || {
            let stats = engine.stats();
            (stats.running, stats.kv_reserved) == (0, 0)
        });
    }
    let stats = engine.stats();
    assert_eq!((stats.generated_tokens, stats.prefixes), (0, 1));
    let kept = stats.prefix_tokens as u64;
    assert!(kept > 0 && kept < 20_000, "{kept} tokens");
    // Asked for again, that much is found.
    let reply = engine.submit(long_prompt()).unwrap();
    wait_for(Duration::from_secs(5), "the start", || engine.stats().running == 1);
    assert_eq!(engine.stats().reused_tokens - stats.reused_tokens, kept);
    drop(reply);
    wait_for(SOON, "ending", || engine.stats().running == 0);
    is_empty_after_forgetting(&engine);
}

#[test]
fn cancelling_says_so_whether_it_waits_computes_or_writes() {
    let _alone = exclusive();
    let options = EngineOptions::default().with_num_ctx(30_000).with_max_running(1);
    let engine = Engine::new(&storyteller(), &options).unwrap();
    let mut computing = engine.submit(long_prompt()).unwrap();
    let mut waiting = engine.submit(long_prompt()).unwrap();
    let cancelled = |reply: &mut Reply| {
        assert_eq!(next(reply), Err(End::Done(FinishReason::Cancelled, 0)));
        assert!(reply.blocking_iter().next().is_none());
    };
    let start = Instant::now();
    waiting.cancel();
    cancelled(&mut waiting);
    assert!(start.elapsed() < SOON);
    let canceller = computing.canceller();
    canceller.cancel();
    cancelled(&mut computing);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());

    let mut writing = engine.generate("Once upon a time", &greedy(2000)).unwrap();
    let first = piece(&mut writing);
    writing.cancel();
    let rest = read(&mut writing);
    assert_eq!(rest.end, End::Done(FinishReason::Cancelled, 0));
    assert!(rest.pieces.len() < 1000 && !first.text.is_empty());
    canceller.cancel(); // of one that ended: nothing
    let mut last = engine.generate("Once", &greedy(3)).unwrap();
    assert_eq!(read(&mut last).pieces.len(), 3);
    is_empty_after_forgetting(&engine);
}

#[test]
fn an_engine_that_goes_ends_all_streams() {
    let _alone = exclusive();
    let options = EngineOptions::default().with_num_ctx(30_000).with_max_running(2);
    let engine = Engine::new(&storyteller(), &options).unwrap();
    let mut writing = engine.generate("Once upon a time", &greedy(5000)).unwrap();
    piece(&mut writing);
    let mut others =
        vec![engine.submit(long_prompt()).unwrap(), engine.submit(long_prompt()).unwrap()];
    let embedding = engine.embed(&[1, 2, 3], &Default::default()).unwrap();
    let forgetting = engine.forget_prefixes().unwrap();
    let start = Instant::now();
    drop(engine);
    assert!(start.elapsed() < SOON, "{:?}", start.elapsed());
    others.push(writing);
    assert!(matches!(embedding.wait(), Err(Error::Closed)));
    assert!(matches!(forgetting.wait(), Err(Error::Closed)));
    for mut reply in others {
        let end = reply.blocking_iter().find_map(Result::err);
        assert!(matches!(end, Some(Error::Closed)), "{end:?}");
        assert!(reply.blocking_iter().next().is_none());
        assert_eq!(reply.summary().finish_reason, None);
    }
}

#[test]
fn a_slow_reader_holds_up_nobody_and_loses_nothing() {
    let _guard = shared();
    let model = stories();
    let options = EngineOptions::default().with_num_ctx(2000);
    let engine = Engine::new(&model, &options).unwrap();
    let slow = Request::new(text(&model, 30), greedy(900));
    let mut reply = engine.submit(slow.clone()).unwrap();
    let other = Request::new(text(&model, 50), greedy(500));
    let answer = alone(&model, &other, KvType::default(), 2000);
    for _ in 0..3 {
        assert_eq!(read(&mut engine.submit(other.clone()).unwrap()), answer);
    }
    let stats = engine.stats();
    let by_slow = stats.generated_tokens - 1500;
    assert!((256..300).contains(&by_slow), "{by_slow} tokens for nobody");
    assert_eq!(stats.running, 1);
    // Half is not enough to go on, and then it is.
    for _ in 0..100 {
        piece(&mut reply);
    }
    std::thread::sleep(Duration::from_millis(30));
    assert_eq!(engine.stats().generated_tokens, stats.generated_tokens);
    let rest = read(&mut reply);
    let known = alone(&model, &slow, KvType::default(), 2000);
    assert_eq!((&rest.tokens()[..], rest.end), (&known.tokens()[100..], known.end));

    // One that is not read at all does not keep the engine from ending it.
    let reply = engine.submit(slow).unwrap();
    wait_for(Duration::from_secs(10), "pausing", || {
        engine.stats().generated_tokens >= stats.generated_tokens + 644 + 256
    });
    drop(reply);
    wait_for(Duration::from_secs(5), "ending", || engine.stats().running == 0);
    is_empty_after_forgetting(&engine);
}
