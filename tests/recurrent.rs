//! Models with recurrent layers: their state cannot be cut back, and nobody notices.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, bits};
use tramontane::engine::{Engine, EngineOptions, Reply, Request};
use tramontane::{Error, GenerateOptions, Model, Session, SessionOptions, Timings};

const MODELS: [&str; 5] = ["qwen35", "qwen3next", "lfm2moe", "granitehybrid", "nemotron-h"];

fn model(name: &str) -> Model {
    Way::whole().model(&format!("arch/{name}/mini-f32.gguf"))
}

fn session(model: &Model) -> Session {
    model.session(&SessionOptions::default().with_num_ctx(1000).with_num_batch(100)).unwrap()
}

/// Tokens that are no control tokens.
fn tokens(len: u32, seed: u32) -> Vec<u32> {
    (0..len).map(|i| 3 + (i * i * 31 + i * 7 + seed * 13) % 480).collect()
}

/// Goes on after the end of text, so that lengths are what is asked for.
fn greedy(num_predict: usize) -> GenerateOptions {
    GenerateOptions::greedy().with_num_predict(num_predict).with_ignore_eos(true)
}

fn read(mut reply: Reply) -> (Vec<u32>, Timings) {
    let tokens = reply.blocking_iter().map(|piece| piece.unwrap().token).collect();
    (tokens, reply.summary().timings)
}

/// Restored from a file, forked, or taken back to a state that is kept: the same bits.
#[test]
fn a_state_goes_wherever_keys_and_values_go() {
    let path = std::env::temp_dir().join(format!("tramontane-recurrent-{}", std::process::id()));
    for name in MODELS {
        let model = model(name);
        let (prompt, next) = (tokens(130, 1), tokens(40, 2));
        let mut first = session(&model);
        first.feed(&prompt).unwrap();
        first.save(&path).unwrap();
        let mut fork = first.fork();
        let expected = bits(first.feed(&next).unwrap());
        assert_eq!(bits(fork.feed(&next).unwrap()), expected, "{name}: forked");
        let mut restored = session(&model);
        restored.restore(&path).unwrap();
        assert_eq!(bits(restored.feed(&next).unwrap()), expected, "{name}: restored");
        // The state before the last pass is there.
        first.truncate(130).unwrap();
        assert_eq!(bits(first.feed(&next).unwrap()), expected, "{name}: taken back");
        first.truncate(0).unwrap();
        first.feed(&prompt).unwrap();
        assert_eq!(bits(first.feed(&next).unwrap()), expected, "{name}: from the start");
        std::fs::remove_file(&path).unwrap();
    }
}

#[test]
fn a_state_that_is_not_kept_is_one_clear_sentence_and_nothing_is_lost() {
    let model = model("qwen35");
    let mut session = session(&model);
    session.feed(&tokens(90, 1)).unwrap();
    let error = session.truncate(50).unwrap_err();
    assert!(matches!(&error, Error::Misuse(text) if text.contains("recurrent")), "{error}");
    assert_eq!(session.tokens().len(), 90);
    let mut other = self::session(&model);
    other.feed(&tokens(90, 1)).unwrap();
    let next = tokens(3, 9);
    assert_eq!(bits(session.feed(&next).unwrap()), bits(other.feed(&next).unwrap()));
}

/// Drafts that are rejected go back to a state before them: drafts of the model itself are
/// right, those of the same with a short window sometimes, those of another model never.
#[test]
fn speculation_changes_nothing() {
    let (mut drafted, mut accepted) = (0, 0);
    for name in MODELS {
        let model = model(name);
        let path = format!("arch/{name}/mini-f32.gguf");
        let near = Way { window: Some(3), ..Way::whole() }.model(&path);
        let far = self::model(if name == "qwen35" { "lfm2moe" } else { "qwen35" });
        let options = EngineOptions::default().with_num_ctx(1000).with_keep_prefixes(false);
        let plain = Engine::new(&model, &options.clone().with_speculate(false)).unwrap();
        for draft in [&model, &near, &far] {
            let with = Engine::with_draft(&model, draft, &options).unwrap();
            for seed in 0..2 {
                let request = Request::new(tokens(40, seed), greedy(60));
                let (expected, _) = read(plain.submit(request.clone()).unwrap());
                let together: Vec<Reply> =
                    (0..3).map(|_| with.submit(request.clone()).unwrap()).collect();
                for reply in together {
                    let (tokens, timings) = read(reply);
                    assert_eq!(tokens, expected, "{name}");
                    drafted += timings.drafted_tokens;
                    accepted += timings.accepted_tokens;
                }
            }
        }
    }
    assert!(accepted > 100 && drafted > accepted + 100, "{accepted} of {drafted}");
}

/// A chat of ten turns: each prompt is all that was said, and only its new tokens are
/// computed.
#[test]
fn a_growing_conversation_computes_only_its_new_tokens() {
    for name in MODELS {
        let model = model(name);
        let options = EngineOptions::default().with_num_ctx(1000);
        let (engine, fresh) =
            (Engine::new(&model, &options).unwrap(), Engine::new(&model, &options).unwrap());
        let mut said = Vec::new();
        for turn in 0..10 {
            let new = tokens(30, turn);
            let before = said.len();
            said.extend(&new);
            let request = Request::new(said.clone(), greedy(20));
            let (answer, timings) = read(engine.submit(request.clone()).unwrap());
            // The last token of an answer is not computed when it is given.
            let due = if turn == 0 { 30 } else { 31 };
            assert_eq!(timings.prompt_tokens, due, "{name}, turn {turn} after {before}");
            fresh.forget_prefixes().unwrap().wait().unwrap();
            assert_eq!(answer, read(fresh.submit(request).unwrap()).0, "{name}, turn {turn}");
            said.extend(answer);
        }
    }
}

/// A prompt that differs from an earlier one near its end, as where a template drops the
/// thoughts of earlier turns, is computed from a mark on.
#[test]
fn a_prompt_that_differs_near_its_end_reuses_what_is_before() {
    let model = model("qwen35");
    let options = EngineOptions::default().with_num_ctx(1000);
    let engine = Engine::new(&model, &options).unwrap();
    let fresh = Engine::new(&model, &options.with_keep_prefixes(false)).unwrap();
    let mut prompt = tokens(300, 1);
    read(engine.submit(Request::new(prompt.clone(), greedy(10))).unwrap());
    prompt.truncate(297);
    prompt.extend(tokens(25, 8));
    let request = Request::new(prompt, greedy(10));
    let (answer, timings) = read(engine.submit(request.clone()).unwrap());
    assert!(timings.reused_tokens >= 280, "{timings:?}");
    assert_eq!(answer, read(fresh.submit(request).unwrap()).0);
}

/// Requests that begin alike, at the same time, and share what one of them computes.
#[test]
fn requests_that_begin_alike_get_their_own_answers() {
    let model = model("granitehybrid");
    let options = EngineOptions::default().with_num_ctx(1000);
    let engine = Engine::new(&model, &options).unwrap();
    let alone = options.with_keep_prefixes(false).with_speculate(false);
    let alone = Engine::new(&model, &alone).unwrap();
    let requests: Vec<Request> = (0..6)
        .map(|i| Request::new([tokens(200, 1), tokens(10 + i, 20 + i)].concat(), greedy(25)))
        .collect();
    let replies: Vec<Reply> = requests.iter().map(|r| engine.submit(r.clone()).unwrap()).collect();
    for (reply, request) in replies.into_iter().zip(requests) {
        assert_eq!(read(reply).0, read(alone.submit(request).unwrap()).0);
    }
    engine.forget_prefixes().unwrap().wait().unwrap();
    let stats = engine.stats();
    assert_eq!((stats.kv_bytes, stats.kv_reserved), (0, 0));
}

/// States count: a budget for less than two of them takes no request, one for two does.
#[test]
fn states_are_part_of_the_budget() {
    let model = model("qwen35");
    let engine = |kv_bytes| {
        let options = EngineOptions::default().with_num_ctx(100).with_kv_bytes(kv_bytes);
        Engine::new(&model, &options).unwrap()
    };
    let request = Request::new(tokens(60, 1), greedy(30));
    let least = match engine(1).submit(request.clone()) {
        Err(Error::Limit { needed, .. }) => needed as usize,
        other => panic!("{other:?}"),
    };
    // 3 layers of 4 heads of 16 × 16 floats, and 3 rows of 128: twice.
    let states = 2 * 4 * 3 * (4 * 16 * 16 + 3 * 128);
    assert!(least > states, "{least}");
    assert_eq!(read(engine(least).submit(request.clone()).unwrap()).0.len(), 30);
    assert!(engine(least - 1).submit(request).is_err());
}
