//! Files of Ollama's own converter: the same logits as from a file of llama.cpp's with the
//! same weights. They are made here, by giving keys and tensors the names of the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, bits, data};
use tramontane::gguf::{Array, Metadata, TensorSpec, Value, Writer};
use tramontane::tensor::Tensor;
use tramontane::{Format, Gguf, Model, Result};

const TOKENS: [u32; 40] = {
    let mut tokens = [0; 40];
    let mut index = 0;
    while index < 40 {
        tokens[index] = (index as u32 * 37 + 5) % 500;
        index += 1;
    }
    tokens
};

/// Keys and tensors of a file that is not written yet.
#[derive(Clone)]
struct Parts {
    metadata: Metadata,
    tensors: Vec<(TensorSpec, Vec<u8>)>,
}

impl Parts {
    fn of(file: &str) -> Self {
        let file = Gguf::open(data(file)).unwrap();
        let tensor = |tensor: &Tensor| (TensorSpec::from(tensor), tensor.bytes().to_vec());
        Parts {
            metadata: file.metadata().clone(),
            tensors: file.tensors().iter().map(tensor).collect(),
        }
    }

    /// The vocabulary of a small file, and nothing else.
    fn vocabulary() -> Self {
        let mut parts = Parts::of("tiny-mistral/tiny-Q8_0.gguf");
        parts.tensors.clear();
        let keys: Vec<String> = parts.metadata.iter().map(|(key, _)| key.to_owned()).collect();
        for key in keys.iter().filter(|key| !key.starts_with("tokenizer.")) {
            parts.metadata.remove(key);
        }
        parts
    }

    fn set(&mut self, key: &str, value: Value) -> &mut Self {
        self.metadata.set(key, value).unwrap();
        self
    }

    /// A tensor of floats; those of norms are about 1.
    fn tensor(&mut self, name: &str, dims: &[u64]) -> &mut Self {
        let spec = TensorSpec { name: name.into(), dims: dims.to_vec(), format: Format::F32 };
        let mut state =
            name.bytes().fold(7_u32, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        let mid = if name.contains("norm") { 1.0 } else { 0.0 };
        let mut value = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            mid + (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let count = dims.iter().product::<u64>();
        let bytes = (0..count).flat_map(|_| value().to_le_bytes()).collect();
        self.tensors.push((spec, bytes));
        self
    }

    fn rename(&mut self, from: &str, to: &str) -> &mut Self {
        let value = self.metadata.remove(from).unwrap_or_else(|| panic!("no {from}"));
        self.set(to, value)
    }

    fn file(&self) -> Gguf {
        let specs: Vec<TensorSpec> = self.tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &self.metadata, &specs).unwrap();
        for (_, data) in &self.tensors {
            writer.write(data).unwrap();
        }
        writer.finish().unwrap();
        Gguf::from_bytes(bytes).unwrap()
    }

    fn open(&self) -> Result<Model> {
        Model::from_gguf(self.file(), &Way::whole().options())
    }
}

#[track_caller]
fn same(llama_cpp: &Parts, ollama: &Parts) {
    let logits = |model: &Model| bits(&Way::whole().logits(model, &TOKENS));
    let (expected, found) = (llama_cpp.open().unwrap(), ollama.open().unwrap());
    assert!(logits(&expected) == logits(&found));
    let warnings: Vec<String> = found.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(warnings.len(), expected.warnings().len(), "{warnings:?}");
    // What the file says is shown as it says it.
    let (stored, shown) = (ollama.file(), found.metadata());
    assert_eq!(shown, stored.metadata());
    assert_eq!(found.file().tensors().len(), stored.tensors().len());
}

fn number(value: f32) -> Value {
    Value::F32(value)
}

fn count(value: u32) -> Value {
    Value::U32(value)
}

fn word(text: &str) -> Value {
    Value::String(text.into())
}

#[test]
fn mistral3() {
    let llama_cpp = Parts::of("arch/ministral3/mini-f32.gguf");
    let mut ollama = llama_cpp.clone();
    for (from, to) in [
        ("rope.scaling.yarn_beta_fast", "rope.scaling.beta_fast"),
        ("rope.scaling.yarn_beta_slow", "rope.scaling.beta_slow"),
        ("rope.scaling.yarn_log_multiplier", "rope.scaling.mscale_all_dim"),
        ("attention.temperature_scale", "rope.scaling_beta"),
    ] {
        ollama.rename(&format!("mistral3.{from}"), &format!("mistral3.{to}"));
    }
    ollama.set("mistral3.vision.block_count", count(24));
    ollama.set("mistral3.mm.projector_bias", Value::Bool(false));
    ollama.set("mistral3.image_token_index", count(10));
    ollama.tensor("v.blk.0.attn_q.weight", &[4, 4]).tensor("mm.norm.weight", &[4]);
    same(&llama_cpp, &ollama);
}

/// The sizes of a small network.
fn sizes(arch: &str) -> Parts {
    let mut parts = Parts::vocabulary();
    parts.set("general.architecture", word(arch));
    for (name, value) in [
        ("block_count", 2),
        ("context_length", 1024),
        ("embedding_length", 32),
        ("feed_forward_length", 48),
        ("attention.head_count", 2),
        ("attention.head_count_kv", 1),
        ("attention.sliding_window", 16),
    ] {
        parts.set(&format!("{arch}.{name}"), count(value));
    }
    parts.tensor("token_embd.weight", &[32, 512]).tensor("output_norm.weight", &[32]);
    for layer in 0..2 {
        for (name, dims) in [
            ("attn_q", &[32, 32][..]),
            ("attn_k", &[32, 16]),
            ("attn_v", &[32, 16]),
            ("attn_output", &[32, 32]),
            ("ffn_gate", &[32, 48]),
            ("ffn_up", &[32, 48]),
            ("ffn_down", &[48, 32]),
            ("post_attention_norm", &[32]),
            ("post_ffw_norm", &[32]),
        ] {
            parts.tensor(&format!("blk.{layer}.{name}.weight"), dims);
        }
    }
    parts
}

#[test]
fn olmo3() {
    let mut llama_cpp = sizes("olmo2");
    llama_cpp.tensor("output.weight", &[32, 512]);
    for layer in 0..2 {
        llama_cpp.tensor(&format!("blk.{layer}.attn_q_norm.weight"), &[32]);
        llama_cpp.tensor(&format!("blk.{layer}.attn_k_norm.weight"), &[16]);
    }
    llama_cpp.set("olmo2.attention.layer_norm_rms_epsilon", number(1e-6));
    llama_cpp.set("olmo2.rope.freq_base", number(500_000.0));
    let windows = Value::Array(Array::Bool(vec![true, false]));
    llama_cpp.set("olmo2.attention.sliding_window_pattern", windows);
    let mut ollama = llama_cpp.clone();
    ollama.set("general.architecture", word("olmo3"));
    let keys: Vec<String> = ollama.metadata.iter().map(|(key, _)| key.to_owned()).collect();
    for key in keys.iter().filter(|key| key.starts_with("olmo2.")) {
        ollama.rename(key, &key.replace("olmo2.", "olmo3."));
    }
    same(&llama_cpp, &ollama);
}

#[test]
fn gemma3() {
    let mut llama_cpp = sizes("gemma3");
    for layer in 0..2 {
        llama_cpp.tensor(&format!("blk.{layer}.attn_q_norm.weight"), &[16]);
        llama_cpp.tensor(&format!("blk.{layer}.attn_k_norm.weight"), &[16]);
        llama_cpp.tensor(&format!("blk.{layer}.attn_norm.weight"), &[32]);
        llama_cpp.tensor(&format!("blk.{layer}.ffn_norm.weight"), &[32]);
    }
    let mut small = llama_cpp.clone();
    llama_cpp.set("gemma3.attention.layer_norm_rms_epsilon", number(1e-6));
    llama_cpp.set("gemma3.rope.freq_base", number(1e6));
    llama_cpp.set("gemma3.rope.freq_base_swa", number(1e4));
    llama_cpp.set("gemma3.attention.sliding_window_pattern", count(2));
    small.set("gemma3.attention.sliding_window_pattern", count(2));
    // The 1B: bases under other names, no epsilon.
    small.set("gemma3.rope.global.freq_base", number(1e6));
    small.set("gemma3.rope.local.freq_base", number(1e4));
    same(&llama_cpp, &small);

    // The others: positions are scaled, tokens of images have no rows, the eyes are inside.
    let (mut long, mut large) = (llama_cpp.clone(), small.clone());
    long.set("gemma3.context_length", count(131_072));
    long.set("gemma3.rope.scaling.type", word("linear"));
    long.set("gemma3.rope.scaling.factor", number(8.0));
    large.set("gemma3.context_length", count(131_072));
    large.set("gemma3.mm.tokens_per_image", count(256));
    large.tensor("v.patch_embedding.weight", &[4, 4]).tensor("mm.input_projection.weight", &[4, 4]);
    let more = |parts: &mut Parts, key: &str| {
        let value = match parts.metadata.remove(key).unwrap() {
            Value::Array(Array::String(all)) => {
                Value::Array(Array::String(all.iter().chain(["<image>"]).collect()))
            }
            Value::Array(Array::F32(all)) => Value::Array(Array::F32([&all[..], &[0.0]].concat())),
            Value::Array(Array::I32(all)) => Value::Array(Array::I32([&all[..], &[3]].concat())),
            other => panic!("{key} is {other:?}"),
        };
        parts.set(key, value);
    };
    for name in ["tokens", "scores", "token_type"] {
        more(&mut large, &format!("tokenizer.ggml.{name}"));
    }
    same(&long, &large);
    assert_eq!(large.open().unwrap().tokenizer().n_vocab(), 512);
    // Of another architecture that is a mistake.
    let mut other = Parts::of("arch/ministral3/mini-f32.gguf");
    for name in ["tokens", "scores", "token_type"] {
        more(&mut other, &format!("tokenizer.ggml.{name}"));
    }
    other.open().unwrap_err();
}

/// The delta rule's bias has no ending, heads are counted per layer, drafting layers have
/// names of their own.
#[test]
fn qwen35_and_qwen3next() {
    for name in ["qwen35", "qwen3next"] {
        let llama_cpp = Parts::of(&format!("arch/{name}/mini-f32.gguf"));
        let mut ollama = llama_cpp.clone();
        let mut renamed = 0;
        for (spec, _) in &mut ollama.tensors {
            if let Some(start) = spec.name.strip_suffix(".ssm_dt.bias") {
                spec.name = format!("{start}.ssm_dt");
                renamed += 1;
            }
        }
        assert!(renamed > 0);
        let number = |key: &str| llama_cpp.metadata.u32(&format!("{name}.{key}")).unwrap();
        let (layers, heads) = (number("block_count"), number("attention.head_count_kv"));
        let has = |name: &str| llama_cpp.tensors.iter().any(|(spec, _)| spec.name == name);
        let attends = |layer| has(&format!("blk.{layer}.attn_k.weight"));
        let heads = (0..layers).map(|layer| if attends(layer) { heads } else { 0 });
        let heads = Value::Array(Array::U32(heads.collect()));
        ollama.set(&format!("{name}.attention.head_count_kv"), heads);
        if name == "qwen35" {
            ollama.set("qwen35.ssm.v_head_reordered", Value::Bool(true));
            ollama.set("qwen35.rope.mrope_interleaved", Value::Bool(true));
            ollama.set("qwen35.vision.block_count", count(27));
            let sections = Value::Array(Array::I32(vec![11, 11, 10]));
            ollama.set("qwen35.rope.dimension_sections", sections);
            ollama.tensor("v.patch_embed.weight", &[4, 4]);
        }
        ollama.tensor("mtp.fc.weight", &[4, 4]);
        same(&llama_cpp, &ollama);
    }
}
