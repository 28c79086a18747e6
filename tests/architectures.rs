//! Every architecture against float64 references of the same file, beside llama.cpp's
//! figures for it, and the same bits however the text is cut, on every instruction set.
//!
//! The references are the forward pass of `support/exact.rs`, which the stored logits of
//! Hugging Face's models in turn confirm (`exact-*`: the last 32 positions).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

mod support;

use support::exact::{self, Context};
use support::{Way, bits, data, distance, floats, ids, json, ways};
use tramontane::gguf::{Metadata, TensorSpec, Value, Writer};
use tramontane::{Error, Gguf, KvType, Model, SessionOptions};

const CHUNKS: [usize; 3] = [usize::MAX, 1, 50];

/// A text on the files of one folder of `tests/data/arch`.
#[derive(Default)]
struct Case {
    folder: &'static str,
    /// Of files with factors for short and long contexts: which of the two texts.
    regime: Option<&'static str>,
    /// The sliding window asked for, and the one that is in effect.
    window: Option<usize>,
    effective: Option<usize>,
    /// Stored logits of `mini-f32.gguf`.
    stored: &'static str,
    /// llama.cpp's rms error and KL divergence with Q4_K_M, where that file is stored.
    llama_cpp: Option<(f64, f64)>,
}

impl Case {
    fn tokens(&self) -> Vec<u32> {
        let all = json(&format!("arch/{}/ids.json", self.folder));
        ids(self.regime.map_or(&all, |regime| &all[regime]))
    }

    /// Logits in f64, and ours; all ways to compute ours give the same.
    fn compute(&self, file: &str) -> (Vec<f32>, Vec<f32>) {
        let path = format!("arch/{}/{file}", self.folder);
        let tokens = self.tokens();
        let context = Context { long: self.regime == Some("long"), window: self.effective };
        let exact = exact::logits(&Gguf::open(data(&path)).unwrap(), &tokens, context);
        let first = Way { window: self.window, ..Way::whole() };
        let ours = first.logits(&first.model(&path), &tokens);
        for way in ways(&CHUNKS, self.window) {
            assert!(
                bits(&way.logits(&way.model(&path), &tokens)) == bits(&ours),
                "{path}: {way:?}"
            );
        }
        (exact, ours)
    }

    fn check(&self) {
        let name = [self.folder, self.regime.unwrap_or("")].join(" ");
        let n_vocab = 768;
        let (exact, ours) = self.compute("mini-f32.gguf");
        let stored = floats(&format!("arch/{}/{}.f32", self.folder, self.stored));
        let last = &exact[exact.len() - stored.len()..];
        let reference = distance(&stored, last, n_vocab);
        assert!(reference.max <= 2e-4, "{name}: the reference is wrong: {reference:?}");
        let error = distance(&exact, &ours, n_vocab);
        println!("{name} F32: {error:?}, stored logits differ by {:.1e}", reference.max);
        assert!(error.max <= 1e-3, "{name}: {error:?}");
        if let Some((rms, kl)) = self.llama_cpp {
            let (exact, ours) = self.compute("model-q4_k_m.gguf");
            let error = distance(&exact, &ours, n_vocab);
            println!("{name} Q4_K_M: {error:?}, llama.cpp rms {rms} KL {kl}");
            assert!(error.rms <= 1.05 * rms && error.kl <= 1.05 * kl, "{name}: {error:?}");
        }
    }
}

/// `rope_freqs` (Llama 3.1), and heads that are not width / heads wide (Nemo).
#[test]
fn llama31_and_nemo() {
    for folder in ["llama31", "nemo"] {
        Case { folder, stored: "exact-mini-f32", ..Case::default() }.check();
    }
}

#[test]
fn qwen2() {
    let llama_cpp = Some((4.32e-2, 9.26e-4));
    Case { folder: "qwen2", stored: "exact-mini-f32", llama_cpp, ..Case::default() }.check();
}

#[test]
fn qwen3() {
    let llama_cpp = Some((5.04e-2, 1.27e-3));
    Case { folder: "qwen3", stored: "exact-mini-f32", llama_cpp, ..Case::default() }.check();
}

/// The file names a window of 48, which llama.cpp ignores: its figures are of full
/// attention.
#[test]
fn phi3() {
    let phi3 = || Case { folder: "phi3", ..Case::default() };
    Case { stored: "exact-mini-f32-window48", effective: Some(48), ..phi3() }.check();
    let (window, llama_cpp) = (Some(1 << 20), Some((7.60e-2, 2.87e-3)));
    Case { stored: "exact-mini-f32", window, llama_cpp, ..phi3() }.check();
}

/// Partial rotation and LongRoPE, with short and with long contexts.
#[test]
fn phi4_mini() {
    let phi4 = || Case { folder: "phi4-partial", ..Case::default() };
    let (regime, llama_cpp) = (Some("short"), Some((1.01e-1, 5.02e-3)));
    Case { regime, stored: "exact-mini-f32-short", llama_cpp, ..phi4() }.check();
    let (regime, llama_cpp) = (Some("long"), Some((1.02e-1, 5.25e-3)));
    Case { regime, stored: "exact-mini-f32-long", llama_cpp, ..phi4() }.check();
}

#[test]
fn phi3_with_long_rope() {
    let phi3 = || Case { folder: "phi3-longrope", ..Case::default() };
    Case { regime: Some("short"), stored: "exact-mini-f32-short", ..phi3() }.check();
    Case { regime: Some("long"), stored: "exact-mini-f32-long", ..phi3() }.check();
}

/// The length of the context decides about the factors, once: not the length of the text.
#[test]
fn long_rope_is_chosen_by_the_context() {
    let model = Way::whole().model("arch/phi3-longrope/mini-f32.gguf");
    let all = json("arch/phi3-longrope/ids.json");
    let (short, long) = (ids(&all["short"]), ids(&all["long"]));
    assert_eq!(short, long[..short.len()]);
    let session = |num_ctx| {
        let mut options = SessionOptions::default();
        options.num_ctx = Some(num_ctx);
        options.kv_type = KvType::F32;
        model.session(&options).unwrap()
    };
    let of_long = session(512).evaluate(&long).unwrap().to_vec();
    let mut in_long = session(257);
    let logits = in_long.evaluate(&short).unwrap().to_vec();
    assert!(bits(&logits) == bits(&of_long[..logits.len()]));
    let mut in_short = session(256);
    let other = in_short.evaluate(&short).unwrap().to_vec();
    assert!(distance(&logits, &other, 768).max > 0.1);

    // What is held was rotated with one kind of factors and cannot go on with the other.
    assert!(matches!(in_short.set_num_ctx(257), Err(Error::Misuse(_))));
    in_short.set_num_ctx(250).unwrap();
    in_short.clear();
    in_short.set_num_ctx(512).unwrap();
    assert!(bits(in_short.evaluate(&short).unwrap()) == bits(&logits));
}

/// YaRN, and queries that grow with their position.
#[test]
fn ministral3() {
    let llama_cpp = Some((8.15e-2, 3.30e-3));
    Case { folder: "ministral3", stored: "exact-mini-f32", llama_cpp, ..Case::default() }.check();
}

/// Files whose reference are stored logits alone: Hugging Face's model in f64 on the same
/// weights, the last 32 positions.
fn check_stored(folder: &'static str) {
    let case = Case { folder, ..Case::default() };
    let (path, tokens) = (format!("arch/{folder}/mini-f32.gguf"), case.tokens());
    let ours = Way::whole().logits(&Way::whole().model(&path), &tokens);
    for way in ways(&CHUNKS, None) {
        assert!(bits(&way.logits(&way.model(&path), &tokens)) == bits(&ours), "{path}: {way:?}");
    }
    let exact = floats(&format!("arch/{folder}/exact-mini-f32.f32"));
    let error = distance(&exact, &ours[ours.len() - exact.len()..], 512);
    println!("{folder} F32: {error:?}");
    assert!(error.max <= 1e-3, "{folder}: {error:?}");
}

/// Norms behind the branches, soft caps of scores and logits, windows on every other layer,
/// scaled embeddings, GELU.
#[test]
fn gemma2() {
    check_stored("gemma2");
}

/// Layer norms, parallel branches, windows and positions on three of four layers, scaled
/// logits.
#[test]
fn cohere2() {
    check_stored("cohere2");
}

/// Norms of heads, six layers of which one has no window, two rotary bases.
#[test]
fn gemma3() {
    check_stored("gemma3");
}

/// Four multipliers; layers that know no positions.
#[test]
fn granite_and_smollm3() {
    ["granite", "smollm3"].into_iter().for_each(check_stored);
}

/// Norms behind the branches only, of whole rows of queries and keys; YaRN on some layers.
#[test]
fn olmo() {
    ["olmo2", "olmo3"].into_iter().for_each(check_stored);
}

/// Norms of heads before the rotation and after it; Llama's layers by other names.
#[test]
fn exaone4_hunyuan_and_ernie() {
    ["exaone4", "hunyuan-dense", "ernie4_5"].into_iter().for_each(check_stored);
}

/// Layer norms and biases everywhere, no gates.
#[test]
fn starcoder2() {
    check_stored("starcoder2");
}

/// Experts, normalized and not, with a network for all rows and without.
#[test]
fn mixtral_and_qwen_with_experts() {
    ["mixtral", "qwen2moe", "qwen3moe"].into_iter().for_each(check_stored);
}

/// Sinks of attention, biases and clamps of experts, YaRN between bounds that are not rounded.
#[test]
fn gpt_oss() {
    check_stored("gpt-oss");
}

/// Heads of two widths, scores that are not scaled, values with a norm, layers that read the
/// keys and values of others, parts of tokens for each layer.
#[test]
fn gemma4() {
    check_stored("gemma4");
}

/// Experts beside a dense network, values that are keys before their norm.
#[test]
fn gemma4_with_experts() {
    check_stored("gemma4-moe");
}

/// Buffers that are laid out by row: what layers read beside the stream, latents, experts.
#[test]
fn texts_in_one_pass_do_not_touch_each_other() {
    for folder in ["gemma4", "gemma4-moe", "deepseek2", "gpt-oss"] {
        let tokens = Case { folder, ..Case::default() }.tokens();
        let texts = [&tokens[..40], &tokens[60..61], &tokens[70..130]];
        let model = Way::whole().model(&format!("arch/{folder}/mini-f32.gguf"));
        let together = model.embed(&texts, &Default::default()).unwrap();
        for (text, together) in texts.iter().zip(&together) {
            let alone = model.embed(&[text], &Default::default()).unwrap();
            let same = bits(&alone[0].vector) == bits(&together.vector);
            assert!(same, "{folder}: {} tokens", text.len());
        }
    }
}

/// No file of it is stored: the matrices of another one, norms of whole rows, and the reference
/// in f64.
#[test]
fn olmoe() {
    let source = Gguf::open(data("arch/granitemoe/mini-f32.gguf")).unwrap();
    let mut metadata = Metadata::new();
    for (key, value) in source.metadata().iter().filter(|(key, _)| !key.ends_with("_scale")) {
        if let Some(name) =
            key.strip_prefix("granitemoe.").filter(|name| *name != "attention.scale")
        {
            metadata.push(format!("olmoe.{name}"), value.clone()).unwrap();
        } else if !key.starts_with("granitemoe.") {
            metadata.push(key, value.clone()).unwrap();
        }
    }
    metadata.set("general.architecture", Value::String("olmoe".into())).unwrap();
    let mut tensors: Vec<(TensorSpec, Vec<u8>)> = Vec::new();
    for tensor in source.tensors() {
        tensors.push((TensorSpec::from(tensor), tensor.bytes().to_vec()));
        for part in ["attn_q", "attn_k"] {
            let name =
                tensor.name().replace(&format!("{part}.weight"), &format!("{part}_norm.weight"));
            if name != tensor.name() {
                let width = tensor.rows();
                let values = (0..width).map(|i| 1.0 + 0.5 * (i as f32).sin());
                let bytes = values.flat_map(f32::to_le_bytes).collect();
                let dims = vec![width as u64];
                tensors.push((TensorSpec { name, dims, format: tensor.format() }, bytes));
            }
        }
    }
    let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
    tensors.iter().for_each(|(_, bytes)| writer.write(bytes).unwrap());
    writer.finish().unwrap();

    let file = Gguf::from_bytes(bytes.clone()).unwrap();
    let tokens = Case { folder: "granitemoe", ..Case::default() }.tokens();
    let exact = exact::logits(&file, &tokens, Context::default());
    let way = Way::whole();
    let ours = way.logits(&Model::from_gguf(file, &way.options()).unwrap(), &tokens);
    let error = distance(&exact, &ours, 512);
    println!("olmoe F32: {error:?}");
    assert!(error.max <= 1e-3, "{error:?}");
}

/// Latent attention, a dense layer before those with experts, sigmoid routing with a bias.
#[test]
fn deepseek2() {
    check_stored("deepseek2");
}

/// Experts, four multipliers.
#[test]
fn granite_with_experts() {
    check_stored("granitemoe");
}

/// The gated delta rule, attention with a gate of its result.
#[test]
fn qwen35() {
    check_stored("qwen35");
}

/// The same with experts and one more network for all rows, in an older layout.
#[test]
fn qwen3next() {
    check_stored("qwen3next");
}

/// Short convolutions, experts behind a dense layer, chosen with a bias.
#[test]
fn lfm2_with_experts() {
    check_stored("lfm2moe");
}

/// Mamba-2 beside attention that knows no positions.
#[test]
fn granite_hybrid() {
    check_stored("granitehybrid");
}

/// Layers of one branch each: Mamba-2, attention, experts with `relu²`.
#[test]
fn nemotron_h() {
    check_stored("nemotron-h");
}

/// Qwen3 files whose matrices have a type each, as those of "dynamic" quantizations have, and
/// the types that few files have.
#[test]
fn mixed_formats() {
    let case = Case { folder: "mixed-formats", ..Case::default() };
    let n_vocab = 512;
    for (kind, rms, kl) in [("iq", 3.97e-2, 7.83e-4), ("rare", 2.91e-2, 4.22e-4)] {
        let (exact, ours) = case.compute(&format!("model-{kind}.gguf"));
        let stored = floats(&format!("arch/mixed-formats/exact-{kind}.f32"));
        let last = &exact[exact.len() - stored.len()..];
        let reference = distance(&stored, last, n_vocab);
        assert!(reference.max <= 2e-4, "{kind}: the reference is wrong: {reference:?}");
        let error = distance(&exact, &ours, n_vocab);
        println!("{kind}: {error:?}, llama.cpp rms {rms} KL {kl}");
        assert!(error.rms <= 1.05 * rms && error.kl <= 1.05 * kl, "{kind}: {error:?}");
    }
}
