//! Logits against float64 references, and the same bits however they are computed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

mod support;

use support::exact::{self, Context};
use support::{Way, bits, data, distance, floats, ids, json, ways};
use tramontane::{Gguf, Model, ModelOptions};

const CHUNKS: [usize; 4] = [usize::MAX, 1, 7, 50];

/// llama.cpp's rms error and KL divergence on the same file.
fn llama_cpp(kind: &str) -> (f64, f64) {
    let text = std::fs::read_to_string(data("tiny-mistral/llama.cpp-figures.txt")).unwrap();
    let line = text.lines().find(|line| line.starts_with(&format!("{kind} "))).expect(kind);
    let after = |word: &str| -> f64 {
        let mut words = line.split(' ').skip_while(|w| *w != word);
        words.nth(1).unwrap().parse().unwrap()
    };
    (after("rms"), after("KL"))
}

/// Logits of every position by the float64 pass.
fn exactly(name: &str, tokens: &[u32], window: Option<usize>) -> Vec<f32> {
    let file = Gguf::open(data(name)).unwrap();
    exact::logits(&file, tokens, Context { long: false, window })
}

/// The float64 pass itself: against one written in another language (which rounded its angles
/// to f32) and against Hugging Face's MistralForCausalLM.
#[test]
fn the_float64_pass_is_right() {
    let tokens = ids(&json("tiny-mistral/ids.json"));
    for (stored, window) in [("exact-f32.f32", None), ("hf-logits-window32.f32", Some(32))] {
        let stored = floats(&format!("tiny-mistral/{stored}"));
        let found = exactly("tiny-mistral/tiny-f32.gguf", &tokens, window);
        let error = distance(&stored, &found, 512);
        assert!(error.max <= 2e-5, "{window:?}: {error:?}");
    }
    for name in ["llama31", "nemo"] {
        let tokens = ids(&json(&format!("arch/{name}/ids.json")));
        let stored = floats(&format!("arch/{name}/exact-mini-f32.f32"));
        let found = exactly(&format!("arch/{name}/mini-f32.gguf"), &tokens, None);
        let n_vocab = found.len() / tokens.len();
        // The last positions see the most of the text.
        let last = &found[found.len() - stored.len()..];
        let error = distance(&stored, last, n_vocab);
        assert!(error.max <= 1e-6, "{name}: {error:?}");
    }
}

/// Checks one type against the exact logits, and every way against the first.
fn check(kind: &str) {
    let name = format!("tiny-mistral/tiny-{kind}.gguf");
    let tokens = ids(&json("tiny-mistral/ids.json"));
    let exact = exactly(&name, &tokens, None);
    let first = Way::whole().logits(&Way::whole().model(&name), &tokens);
    let error = distance(&exact, &first, 512);
    let (rms, kl) = llama_cpp(kind);
    println!("{kind}: {error:?}, llama.cpp rms {rms} KL {kl}");
    if matches!(kind, "f32" | "F16" | "BF16") {
        // Float weights meet f32 activations: nothing is rounded but sums.
        assert!(error.max <= 1e-3, "{kind}: {error:?}");
    } else {
        assert!(error.rms <= 1.05 * rms && error.kl <= 1.05 * kl, "{kind}: {error:?}");
    }
    for way in ways(&CHUNKS, None) {
        assert!(bits(&way.logits(&way.model(&name), &tokens)) == bits(&first), "{kind}: {way:?}");
    }
}

macro_rules! kinds {
    ($($test:ident $kind:literal)*) => { $(#[test] fn $test() { check($kind); })* };
}
kinds! {
    f32 "f32" f16 "F16" bf16 "BF16" q8_0 "Q8_0" q6_k "Q6_K" q5_k_m "Q5_K_M" q4_k_m "Q4_K_M" q3_k_m "Q3_K_M"
    q2_k "Q2_K" q4_0 "Q4_0" q4_1 "Q4_1" q5_0 "Q5_0" q5_1 "Q5_1" iq4_xs "IQ4_XS" iq4_nl "IQ4_NL"
}

#[test]
fn a_sliding_window_of_32() {
    let tokens = ids(&json("tiny-mistral/ids.json"));
    let exact = floats("tiny-mistral/hf-logits-window32.f32");
    let mut first = None;
    for way in ways(&CHUNKS, Some(32)) {
        let ours = way.logits(&way.model("tiny-mistral/tiny-f32.gguf"), &tokens);
        let error = distance(&exact, &ours, 512);
        assert!(error.max <= 1e-3, "{way:?}: {error:?}");
        assert!(*first.get_or_insert_with(|| bits(&ours)) == bits(&ours), "{way:?}");
    }
    // The window matters: without it the logits are far away.
    let full = Way::whole().logits(&Way::whole().model("tiny-mistral/tiny-f32.gguf"), &tokens);
    assert!(distance(&exact, &full, 512).max > 0.1);
}

#[test]
fn forced_instruction_set_is_used_or_refused() {
    for isa in support::instruction_sets() {
        let options = ModelOptions::default().with_isa(isa);
        let model = Model::open_with(data("models/stories260K.gguf"), &options).unwrap();
        assert_eq!(model.isa(), isa);
    }
    assert!(tramontane::Isa::named("avx9000").is_err());
}
