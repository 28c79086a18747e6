//! Guesses ahead save passes and change nothing.

use tramontane::engine::{Engine, Request};
use tramontane::{EngineOptions, KvType, SamplerOptions};

use crate::{alone, greedy, is_empty_after_forgetting, read, shared, stories, storyteller, tiny};

fn samplers() -> [(&'static str, SamplerOptions); 4] {
    let greedy = SamplerOptions::greedy();
    let lively = SamplerOptions::default().with_temperature(0.4).with_seed(11);
    let penalties = lively
        .clone()
        .with_repeat_penalty(1.02)
        .with_frequency_penalty(0.01)
        .with_presence_penalty(0.01);
    let logprobs = greedy.clone().with_logprobs(true).with_top_logprobs(3);
    [("greedy", greedy), ("lively", lively), ("penalties", penalties), ("logprobs", logprobs)]
}

#[test]
fn a_text_that_repeats_itself_takes_fewer_passes() {
    let _guard = shared();
    let model = storyteller();
    let start = model.tokenizer().encode("Once upon a time", Default::default());
    let story = alone(&model, &Request::new(start.clone(), greedy(70)), KvType::default(), 512);
    let prompt = [&start[..], &story.tokens()].concat().repeat(3);
    for (name, sampler) in samplers() {
        let options = greedy(80).with_sampler(sampler);
        let request = Request::new(prompt.clone(), options);
        let answer = alone(&model, &request, KvType::default(), 512);
        let (mut passes, mut accepted) = (Vec::new(), Vec::new());
        for speculate in [false, true] {
            let options = EngineOptions::default().with_num_ctx(512).with_speculate(speculate);
            let engine = Engine::new(&model, &options).unwrap();
            let mut reply = engine.submit(request.clone()).unwrap();
            assert_eq!(read(&mut reply), answer, "{name}, speculate: {speculate}");
            let stats = engine.stats();
            assert_eq!(stats.generated_tokens, 80);
            assert!(stats.accepted_tokens <= stats.drafted_tokens);
            passes.push(stats.passes);
            accepted.push(stats.accepted_tokens);
        }
        assert!(accepted[0] == 0 && accepted[1] > 0, "{name}: {accepted:?} accepted");
        assert_eq!(passes[0] - passes[1], accepted[1], "{name}: each saves a pass");
    }
}

/// A draft model that is the model itself is always right about greedy texts, one of
/// random weights hardly ever; neither shows.
#[test]
fn a_draft_model_changes_passes_only() {
    let _guard = shared();
    let pairs = [
        (stories(), stories()),
        (tiny("Q8_0", Some(64)), tiny("Q2_K", None)),
        (tiny("Q4_0", None), tiny("Q8_0", Some(32))),
    ];
    for (index, (model, draft)) in pairs.into_iter().enumerate() {
        for (name, sampler) in samplers().into_iter().take(2) {
            let prompt = crate::text(&model, 40);
            let options = greedy(80).with_sampler(sampler);
            let request = Request::new(prompt, options);
            let options = EngineOptions::default().with_num_ctx(512);
            let engine = Engine::with_draft(&model, &draft, &options).unwrap();
            let mut replies: Vec<_> =
                (0..3).map(|_| engine.submit(request.clone()).unwrap()).collect();
            let answer = alone(&model, &request, KvType::default(), 512);
            replies.iter_mut().for_each(|reply| assert_eq!(read(reply), answer, "{name}"));
            let stats = engine.stats();
            assert!(stats.drafted_tokens > 0);
            if index == 0 && name == "greedy" {
                assert!(stats.accepted_tokens * 3 > stats.drafted_tokens * 2, "{stats:?}");
            }
            is_empty_after_forgetting(&engine);
        }
    }
}
