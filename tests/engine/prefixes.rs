//! What was computed before is not computed again, and the answer is the same.

use std::path::PathBuf;

use tramontane::engine::{Engine, Request};
use tramontane::{Chat, EngineOptions, Error, KvType, Message, Model, SessionOptions};

use crate::{
    Answer, alone, cost, greedy, is_empty_after_forgetting, piece, read, result, shared, stories,
    storyteller, text, tiny,
};

fn engine(model: &Model) -> Engine {
    let options = EngineOptions::default().with_num_ctx(2048);
    Engine::new(model, &options).unwrap()
}

/// The answer, and how many prompt tokens were computed for it.
fn ask(engine: &Engine, request: &Request) -> (Answer, u64) {
    let before = engine.stats().prompt_tokens;
    let answer = read(&mut engine.submit(request.clone()).unwrap());
    (answer, engine.stats().prompt_tokens - before)
}

fn check(model: &Model, request: &Request, answer: &Answer) {
    check_in(model, request, answer, 2048);
}

fn check_in(model: &Model, request: &Request, answer: &Answer, num_ctx: usize) {
    assert_eq!(*answer, alone(model, request, KvType::default(), num_ctx));
}

fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

#[test]
fn every_turn_of_a_chat_computes_its_new_tokens() {
    let _guard = shared();
    let model = storyteller();
    let engine = engine(&model);
    let options = greedy(12).with_ignore_eos(false);
    let (mut messages, mut held) = (Vec::new(), Vec::new());
    for turn in 0..10 {
        messages.push(Message::user(format!("Tell me about the {turn} dogs.")));
        let chat = Chat::new(messages.clone());
        let prompt = model.chat_tokens(&chat).unwrap();
        // The token that was sampled last was not computed.
        let known = common(&held, &prompt).min(prompt.len() - 1);
        let before = engine.stats();
        let mut reply = engine.chat(&chat, &options).unwrap();
        let pieces = read(&mut reply).pieces;
        let (stats, timings) = (engine.stats(), reply.summary().timings);
        let computed = stats.prompt_tokens - before.prompt_tokens;
        assert_eq!(computed as usize, prompt.len() - known, "turn {turn}");
        assert_eq!((stats.reused_tokens - before.reused_tokens) as usize, known);
        assert_eq!((timings.prompt_tokens, timings.reused_tokens), (prompt.len() - known, known));
        assert!(turn == 0 || computed < 40, "turn {turn} computed {computed} tokens");

        let session = SessionOptions::default().with_num_ctx(2048);
        let mut session = model.session(&session).unwrap();
        let expected: Vec<_> = session.chat(&chat, &options).unwrap().map(Result::unwrap).collect();
        assert_eq!(pieces, expected, "turn {turn}");
        held = prompt;
        held.extend(pieces.iter().map(|piece| piece.token));
        held.pop();
        let answer: String = pieces.iter().map(|piece| &*piece.text).collect();
        messages.push(Message::assistant(&answer));
    }
    is_empty_after_forgetting(&engine);
}

/// Requests with the same beginning, each with a text of its own after it.
fn family(beginning: &[u32], count: usize) -> Vec<Request> {
    let member = |i| {
        let prompt = [beginning, &[100 + i as u32, 7, 8, 9]].concat();
        Request::new(prompt, greedy(6 + i))
    };
    (0..count).map(member).collect()
}

/// `busy`: they arrive while a pass is under way, so that all are let in at once.
fn common_part_is_computed_once(count: usize, busy: bool) {
    let model = stories();
    let engine = engine(&model);
    let story = text(&model, 1400);
    let requests = family(&story[..600], count);
    let blocker = busy.then(|| {
        let prompt = story[800..].to_vec();
        engine.submit(Request::new(prompt, greedy(1))).unwrap()
    });
    let mut replies: Vec<_> =
        requests.iter().map(|request| engine.submit(request.clone()).unwrap()).collect();
    for (reply, request) in replies.iter_mut().zip(&requests) {
        check(&model, request, &read(reply));
    }
    let other = blocker.map_or(0, |mut reply| {
        assert_eq!(read(&mut reply).pieces.len(), 1);
        600
    });
    let stats = engine.stats();
    assert_eq!(stats.prompt_tokens - other, 600 + 4 * count as u64, "busy: {busy}");
    assert_eq!(stats.reused_tokens, 600 * (count as u64 - 1));
    is_empty_after_forgetting(&engine);
}

#[test]
fn a_beginning_in_common_is_computed_once() {
    let _guard = shared();
    for busy in [false, true] {
        common_part_is_computed_once(2, busy);
        common_part_is_computed_once(12, busy);
    }
}

#[test]
fn what_a_running_text_computed_is_shared_with_it() {
    let _guard = shared();
    let model = stories();
    let engine = engine(&model);
    let story = text(&model, 300);
    // Nobody reads it, so it pauses and stays.
    let long = Request::new(story.clone(), greedy(1000));
    let mut running = engine.submit(long.clone()).unwrap();
    let begun: Vec<u32> = (0..40).map(|_| piece(&mut running).token).collect();
    // Until it pauses: all that was read is computed then.
    crate::wait_for(std::time::Duration::from_secs(20), "pausing", || {
        engine.stats().generated_tokens >= 40 + 256
    });
    let prompt = [&story[..], &begun, &[5, 6, 7]].concat();
    let request = Request::new(prompt, greedy(20));
    let (answer, computed) = ask(&engine, &request);
    check(&model, &request, &answer);
    let known = alone(&model, &long, KvType::default(), 2048);
    let both = common(&known.tokens()[40..], &[5, 6, 7]) as u64;
    assert_eq!(computed, 3 - both, "prompt and answer of the other were there");
    assert_eq!(engine.stats().running, 1);
    let rest: Vec<u32> = read(&mut running).tokens();
    assert_eq!([begun, rest].concat(), known.tokens());
    is_empty_after_forgetting(&engine);
}

/// A text that waits for its reader is no reason for another to wait with it.
#[test]
fn nobody_waits_for_a_beginning_that_pauses() {
    let _guard = shared();
    let model = stories();
    // Memory for all.
    let mut options = EngineOptions::default().with_num_ctx(2048);
    options.kv_bytes = Some(30 * cost(&model, 1000, &options));
    let engine = Engine::new(&model, &options).unwrap();
    let story = text(&model, 200);
    let context_full = tramontane::ContextFull::Shift { num_keep: 60 };
    // Drops a part again and again while nobody reads.
    let options = greedy(400).with_context_full(context_full);
    let mut replies: Vec<_> = (0..24)
        .map(|i| {
            let mut request = Request::new(story[..150].to_vec(), options.clone());
            request.num_ctx = Some(160 + i);
            (engine.submit(request.clone()).unwrap(), request)
        })
        .collect();
    let paused = |engine: &Engine| {
        let passes = engine.stats().passes;
        std::thread::sleep(std::time::Duration::from_millis(30));
        engine.stats().passes == passes
    };
    crate::wait_for(std::time::Duration::from_secs(20), "pausing", || paused(&engine));
    let request = Request::new([&story[..150], &[9, 8, 7]].concat(), greedy(5));
    let mut reply = engine.submit(request.clone()).unwrap();
    let first = reply.next_timeout(std::time::Duration::from_secs(5));
    assert!(first.is_ready(), "waits for those that wait for their readers");
    drop(reply);
    for (reply, request) in &mut replies {
        check(&model, request, &read(reply));
    }
    is_empty_after_forgetting(&engine);
}

/// Where the window has moved on, what was found is of no use; that is no reason to wait.
#[test]
fn a_beginning_that_is_out_of_reach_is_computed_at_once() {
    let _guard = shared();
    let model = tiny("Q4_0", Some(64));
    let engine = engine(&model);
    let story = text(&model, 500);
    ask(&engine, &Request::new(story[..400].to_vec(), greedy(3)));
    // Nobody reads it, so it stays.
    let mut other = engine.submit(Request::new(story[420..].to_vec(), greedy(400))).unwrap();
    piece(&mut other);
    let request = Request::new([&story[..100], &[5, 6]].concat(), greedy(3));
    let mut reply = engine.submit(request.clone()).unwrap();
    let first = reply.next_timeout(std::time::Duration::from_secs(10));
    assert!(first.is_ready(), "waits for one that waits for its reader");
    drop((reply, other));
    check(&model, &request, &ask(&engine, &request).0);
}

#[test]
fn making_room_for_others_changes_no_answer() {
    let _guard = shared();
    for model in [stories(), tiny("Q4_0", Some(64))] {
        let mut options = EngineOptions::default().with_num_ctx(500);
        options.kv_bytes = Some(cost(&model, 500, &options) * 2);
        let engine = Engine::new(&model, &options).unwrap();
        let story = text(&model, 900);
        let mut dice = crate::Dice(5);
        for _ in 0..40 {
            let start = 80 * dice.below(6);
            let prompt = story[start..start + 30 + dice.below(300)].to_vec();
            let request = Request::new(prompt, greedy(1 + dice.below(20)));
            let (answer, _) = ask(&engine, &request);
            assert_eq!(answer, alone(&model, &request, KvType::default(), 500));
            let stats = engine.stats();
            assert!(stats.kv_bytes + stats.kv_reserved <= options.kv_bytes.unwrap());
        }
        assert!(engine.stats().reused_tokens > 0, "some were found again");
        is_empty_after_forgetting(&engine);
    }
}

/// Clients that ask for much and leave take the room of each other, not of what is found
/// again and again.
#[test]
fn cancelled_requests_do_not_displace_what_is_asked_for_again() {
    let _guard = shared();
    let model = stories();
    let mut options = EngineOptions::default().with_num_ctx(500);
    options.kv_bytes = Some(cost(&model, 500, &options) * 3);
    let engine = Engine::new(&model, &options).unwrap();
    let story = text(&model, 900);
    let popular = |end: u32| Request::new([&story[..300], &[end]].concat(), greedy(2));
    let (_, computed) = ask(&engine, &popular(5));
    assert_eq!(computed, 301);
    assert_eq!(ask(&engine, &popular(4)).1, 1, "found once");
    for round in 0..60u32 {
        // Each begins in its own way, is computed and then left.
        let hostile = [&[1, 30 + round][..], &story[400..800]].concat();
        let mut reply = engine.submit(Request::new(hostile, greedy(50))).unwrap();
        piece(&mut reply);
        drop(reply);
        crate::wait_for(std::time::Duration::from_secs(10), "ending", || {
            engine.stats().running == 0
        });
        let stats = engine.stats();
        assert!(stats.kv_bytes + stats.kv_reserved <= options.kv_bytes.unwrap());
        if round % 3 == 2 {
            let request = popular(6 + round);
            let (answer, computed) = ask(&engine, &request);
            assert_eq!(answer, alone(&model, &request, KvType::default(), 500));
            assert!(computed <= 2, "round {round}: {computed} tokens computed again");
        }
    }
    // All of it is room for who needs it.
    let large = Request::new(story[..450].to_vec(), greedy(3));
    let replies: Vec<_> = (0..6)
        .map(|i| engine.submit(Request::new(story[i * 30..i * 30 + 450].to_vec(), greedy(3))))
        .collect();
    for reply in replies {
        assert_eq!(read(&mut reply.unwrap()).pieces.len(), 3);
    }
    check_in(&model, &large, &ask(&engine, &large).0, 500);
    is_empty_after_forgetting(&engine);
}

/// A client that left during its prompt, and asks again.
#[test]
fn what_a_cancelled_request_computed_is_found_again() {
    let _guard = shared();
    let model = storyteller();
    let engine = engine(&model);
    let request = Request::new(text(&model, 150), greedy(100));
    let mut reply = engine.submit(request.clone()).unwrap();
    for _ in 0..20 {
        piece(&mut reply);
    }
    drop(reply);
    crate::wait_for(std::time::Duration::from_secs(10), "ending", || engine.stats().running == 0);
    let (answer, computed) = ask(&engine, &request);
    check(&model, &request, &answer);
    assert_eq!(computed, 1, "of 150");
    is_empty_after_forgetting(&engine);
}

/// A file that goes with the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Scratch {
        let name = format!("tramontane-engine-{}-{name}", std::process::id());
        Scratch(std::env::temp_dir().join(name))
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[test]
fn a_saved_beginning_is_taken_over_by_another_engine() {
    let _guard = shared();
    for model in [stories(), storyteller()] {
        let file = Scratch::new(&format!("prefix-{}", model.n_vocab()));
        let story = text(&model, 300);
        let first = engine(&model);
        let request = Request::new(story.clone(), greedy(10));
        let missing = result(first.save_prefix(&story, &file.0));
        assert!(matches!(missing, Err(Error::Misuse(_))), "{missing:?}");
        let (answer, computed) = ask(&first, &request);
        assert_eq!(computed, 300);
        assert_eq!(result(first.save_prefix(&story[..299], &file.0)).unwrap(), 299);
        drop(first);

        let second = engine(&model);
        // Handed in together: what was restored is there for what comes behind it.
        let restored = second.restore_prefix(&file.0).unwrap();
        let (again, computed) = ask(&second, &request);
        assert_eq!(restored.wait().unwrap(), 299);
        assert_eq!((again, computed), (answer, 1));
        is_empty_after_forgetting(&second);
    }
}

#[test]
fn damaged_and_foreign_files_are_refused() {
    let _guard = shared();
    let (model, file) = (stories(), Scratch::new("damaged"));
    let (engine, story) = (engine(&model), text(&model, 100));
    ask(&engine, &Request::new(story.clone(), greedy(2)));
    assert_eq!(result(engine.save_prefix(&story, &file.0)).unwrap(), 100);
    let whole = std::fs::read(&file.0).unwrap();
    let mut reasons = Vec::new();
    let mut refused = |engine: &Engine| {
        let error = result(engine.restore_prefix(&file.0)).unwrap_err();
        reasons.push(error.to_string());
    };
    let foreign = Engine::new(&tiny("Q8_0", None), &EngineOptions::default()).unwrap();
    refused(&foreign);
    let other_type = EngineOptions::default().with_kv_type(KvType::F32);
    refused(&Engine::new(&model, &other_type).unwrap());
    for at in [0, 9, 50, 90, 200, whole.len() / 2, whole.len() - 1] {
        let mut damaged = whole.clone();
        damaged[at] ^= 0x10;
        std::fs::write(&file.0, damaged).unwrap();
        refused(&engine);
    }
    for len in [0, 7, 100, whole.len() / 2, whole.len() - 1] {
        std::fs::write(&file.0, &whole[..len]).unwrap();
        refused(&engine);
    }
    std::fs::remove_file(&file.0).unwrap();
    refused(&engine);
    assert_eq!(reasons.len(), 15, "{reasons:?}");
    // Nothing of it was taken over, and the engine goes on.
    let stats = engine.stats();
    assert_eq!((stats.prefixes, stats.running), (1, 0));
    let request = Request::new(story, greedy(5));
    check(&model, &request, &ask(&engine, &request).0);
    is_empty_after_forgetting(&engine);
}
