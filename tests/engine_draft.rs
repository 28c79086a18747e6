//! A draft model guesses; the model's answers stay what they are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use tramontane::engine::{Engine, EngineOptions, Reply, Request};
use tramontane::{EncodeOptions, Error, GenerateOptions, Model, SamplerOptions, Timings};

const STORYTELLER: &str = "../../models/storyteller-q4_k_m.gguf";

/// Another model of the same vocabulary: the same weights, but it sees only the last
/// `window` positions, so it is often right and often wrong.
fn short_sighted(window: usize) -> Model {
    support::Way { window: Some(window), ..support::Way::whole() }.model(STORYTELLER)
}

fn read(mut reply: Reply) -> (Vec<u32>, Timings) {
    let tokens = reply.blocking_iter().map(|piece| piece.unwrap().token).collect();
    (tokens, reply.summary().timings)
}

#[test]
fn answers_are_the_same_and_take_fewer_passes() {
    let model = support::Way::whole().model(STORYTELLER);
    let draft = short_sighted(24);
    let samplers = [
        SamplerOptions::greedy(),
        SamplerOptions::default().with_seed(7).with_temperature(0.8),
        SamplerOptions::greedy().with_repeat_penalty(1.3),
    ];
    let texts = ["Once upon a time", "The dog and the cat", "One day, Tom found a red ball."];
    let requests: Vec<Request> = samplers
        .into_iter()
        .flat_map(|sampler| {
            let options = GenerateOptions::default().with_sampler(sampler).with_num_predict(90);
            texts.map(|text| {
                let prompt = model.tokenizer().encode(text, EncodeOptions::default());
                Request::new(prompt, options.clone())
            })
        })
        .collect();
    let options = EngineOptions::default().with_keep_prefixes(false);
    let with = Engine::with_draft(&model, &draft, &options).unwrap();
    let without = options.with_speculate(false);
    let without = Engine::new(&model, &without).unwrap();
    let mut accepted = 0;
    for request in &requests {
        let (expected, _) = read(without.submit(request.clone()).unwrap());
        let (alone, timings) = read(with.submit(request.clone()).unwrap());
        assert_eq!(alone, expected);
        assert!(timings.accepted_tokens <= timings.drafted_tokens);
        accepted += timings.accepted_tokens;
    }
    assert!(accepted > 100, "{accepted}");
    let together: Vec<Reply> = requests.iter().map(|r| with.submit(r.clone()).unwrap()).collect();
    for (reply, request) in together.into_iter().zip(&requests) {
        let (expected, _) = read(without.submit(request.clone()).unwrap());
        assert_eq!(read(reply).0, expected);
    }
    let (done, plain) = (with.stats(), without.stats());
    assert!(done.passes < plain.passes * 2 / 3, "{done:?}, {plain:?}");
    assert_eq!((done.kv_bytes, done.kv_reserved, done.running), (0, 0, 0));
}

/// A draft model takes memory only where some is left: requests fit without it.
#[test]
fn a_short_budget_costs_guesses_and_no_request() {
    let (model, draft) = (support::Way::whole().model(STORYTELLER), short_sighted(24));
    let prompt = model.tokenizer().encode("Once upon a time", EncodeOptions::default());
    let options =
        GenerateOptions::default().with_sampler(SamplerOptions::greedy()).with_num_predict(40);
    let request = Request::new(prompt, options);
    // The least budget that one request fits: found by asking.
    let engine = |kv_bytes| {
        let options = EngineOptions::default().with_kv_bytes(kv_bytes);
        Engine::with_draft(&model, &draft, &options).unwrap()
    };
    let least = match engine(1).submit(request.clone()) {
        Err(Error::Limit { needed, .. }) => needed as usize,
        other => panic!("{other:?}"),
    };
    let engine = engine(least);
    let (tokens, timings) = read(engine.submit(request.clone()).unwrap());
    assert_eq!(tokens.len(), 40);
    let plain = Engine::new(&model, &EngineOptions::default()).unwrap();
    assert_eq!(read(plain.submit(request).unwrap()).0, tokens);
    assert!(timings.drafted_tokens < 40, "{timings:?}");
}

#[test]
fn another_vocabulary_is_refused() {
    let model = support::Way::whole().model(STORYTELLER);
    let other = support::Way::whole().model("models/stories260K.gguf");
    let result = Engine::with_draft(&model, &other, &EngineOptions::default());
    assert!(matches!(result, Err(Error::Misuse(_))));
}
