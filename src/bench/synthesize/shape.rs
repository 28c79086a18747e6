//! The shapes of published models: which tensors a file has, and what its
//! metadata says about them.

use crate::error::Result;
use crate::gguf::{Metadata, TensorSpec, Value};
use crate::quant::Format;

use super::mix::Mix;

/// The numbers of a Llama-like network.
#[derive(Debug, Clone)]
pub struct Shape {
    /// As in `--shape`.
    pub name: &'static str,
    /// `general.architecture`.
    pub arch: &'static str,
    /// The model that has this shape.
    pub of: &'static str,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub dim: u64,
    /// Width inside the feed-forward part.
    pub ffn: u64,
    /// Query heads.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Positions of the training.
    pub context: u32,
    /// Base of the rotary frequencies.
    pub freq_base: f32,
    /// No output matrix: the embedding is used twice.
    pub tied: bool,
    /// Whether the file says the size of a head.
    pub says_head_dim: bool,
    /// Factor of Llama 3's frequency scaling, for files with `rope_freqs`.
    pub rope_factor: Option<f32>,
    /// Whether there are norms of query and key heads.
    pub head_norms: bool,
    /// In the place of one feed-forward network.
    pub experts: Option<ExpertShape>,
}

/// The numbers of a layer's experts.
#[derive(Debug, Clone, Copy)]
pub struct ExpertShape {
    /// How many there are.
    pub count: u64,
    /// How many a row goes to.
    pub used: u64,
    /// Width inside each.
    pub ffn: u64,
}

/// What the shapes below do not say.
const LLAMA: Shape = Shape {
    name: "",
    arch: "llama",
    of: "",
    layers: 0,
    dim: 0,
    ffn: 0,
    heads: 0,
    kv_heads: 0,
    head_dim: 0,
    vocab: 0,
    context: 0,
    freq_base: 1e4,
    tied: false,
    says_head_dim: true,
    rope_factor: None,
    head_norms: false,
    experts: None,
};

/// The shapes that there are.
pub const SHAPES: [Shape; 6] = [
    Shape {
        name: "tiny",
        of: "the tests' tiny Mistral",
        layers: 2,
        dim: 256,
        ffn: 512,
        heads: 8,
        kv_heads: 2,
        head_dim: 32,
        vocab: 512,
        context: 512,
        ..LLAMA
    },
    Shape {
        name: "llama-1b",
        of: "Llama 3.2 1B",
        layers: 16,
        dim: 2048,
        ffn: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        vocab: 128_256,
        context: 131_072,
        freq_base: 5e5,
        tied: true,
        rope_factor: Some(32.0),
        ..LLAMA
    },
    Shape {
        name: "llama-8b",
        of: "Llama 3.1 8B",
        layers: 32,
        dim: 4096,
        ffn: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        context: 131_072,
        freq_base: 5e5,
        rope_factor: Some(8.0),
        ..LLAMA
    },
    Shape {
        name: "mistral-7b",
        of: "Mistral 7B v0.3",
        layers: 32,
        dim: 4096,
        ffn: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 32_768,
        context: 32_768,
        freq_base: 1e6,
        says_head_dim: false,
        ..LLAMA
    },
    Shape {
        name: "mistral-nemo",
        of: "Mistral Nemo 12B",
        layers: 40,
        dim: 5120,
        ffn: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 131_072,
        context: 1_024_000,
        freq_base: 1e6,
        ..LLAMA
    },
    Shape {
        name: "qwen3-30b-a3b",
        arch: "qwen3moe",
        of: "Qwen3 30B A3B",
        layers: 48,
        dim: 2048,
        ffn: 6144,
        heads: 32,
        kv_heads: 4,
        head_dim: 128,
        vocab: 151_936,
        context: 40_960,
        freq_base: 1e6,
        head_norms: true,
        experts: Some(ExpertShape { count: 128, used: 8, ffn: 768 }),
        ..LLAMA
    },
];

impl Shape {
    /// The shape called `name`.
    ///
    /// # Errors
    /// Which shapes there are.
    pub fn find(name: &str) -> Result<Shape, String> {
        SHAPES.into_iter().find(|shape| shape.name == name).ok_or_else(|| {
            format!("possible shapes: {}", SHAPES.map(|shape| shape.name).join(", "))
        })
    }

    /// Every tensor in the order of llama.cpp's quantizer, stored as `mix` says.
    pub fn tensors(&self, mix: &Mix) -> Vec<TensorSpec> {
        let mut tensors = Vec::new();
        let mut add = |name: String, dims: &[u64], format| {
            tensors.push(TensorSpec { name, dims: dims.into(), format });
        };
        let head =
            if mix.is_quantized() && mix.base != Format::Q8_0 { Format::Q6_K } else { mix.base };
        if !self.tied {
            add("output.weight".into(), &[self.dim, self.vocab], head);
        }
        add("output_norm.weight".into(), &[self.dim], Format::F32);
        if self.rope_factor.is_some() {
            add("rope_freqs.weight".into(), &[self.head_dim / 2], Format::F32);
        }
        let embd = if self.tied { head } else { mix.base };
        add("token_embd.weight".into(), &[self.dim, self.vocab], embd);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        for layer in 0..self.layers {
            for (part, dims, like) in self.of_layer(q, kv) {
                let gqa = self.heads / self.kv_heads;
                let format = match like {
                    Some(like) => mix.format(like, layer, self.layers, gqa),
                    None => Format::F32,
                };
                add(format!("blk.{layer}.{part}.weight"), &dims, format);
            }
        }
        tensors
    }

    /// Name, dimensions of a layer's tensors, and as what the mix sees them; floats are
    /// none. `q`, `kv`: width of all queries, of all keys.
    fn of_layer(&self, q: u64, kv: u64) -> Vec<(&'static str, Vec<u64>, Option<&'static str>)> {
        let Shape { dim, ffn, head_dim, .. } = *self;
        let matrix = |name, dims: &[u64]| (name, dims.to_vec(), Some(name));
        let float = |name, dims: &[u64]| (name, dims.to_vec(), None);
        let mut tensors = vec![
            matrix("attn_k", &[dim, kv]),
            float("attn_norm", &[dim]),
            matrix("attn_output", &[q, dim]),
            matrix("attn_q", &[dim, q]),
            matrix("attn_v", &[dim, kv]),
        ];
        match self.experts {
            None => tensors.extend([
                matrix("ffn_down", &[ffn, dim]),
                matrix("ffn_gate", &[dim, ffn]),
                float("ffn_norm", &[dim]),
                matrix("ffn_up", &[dim, ffn]),
            ]),
            Some(ExpertShape { count, ffn, .. }) => tensors.extend([
                ("ffn_down_exps", vec![ffn, dim, count], Some("ffn_down")),
                ("ffn_gate_exps", vec![dim, ffn, count], Some("ffn_gate")),
                float("ffn_gate_inp", &[dim, count]),
                float("ffn_norm", &[dim]),
                ("ffn_up_exps", vec![dim, ffn, count], Some("ffn_up")),
            ]),
        }
        if self.head_norms {
            tensors.extend(["attn_k_norm", "attn_q_norm"].map(|name| float(name, &[head_dim])));
        }
        tensors
    }

    /// The keys of a published file up to the tokenizer's.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) for a key that came before.
    pub fn metadata(&self, mix: &Mix) -> Result<Metadata> {
        let mut metadata = Metadata::new();
        let mut text = |key: &str, text: &str| metadata.push(key, Value::String(text.into()));
        text("general.architecture", self.arch)?;
        text("general.type", "model")?;
        text("general.name", &format!("Random weights in the shape of {}", self.of))?;
        let mut number = |key: &str, number: u64| match u32::try_from(number) {
            Ok(number) => metadata.push(format!("{}.{key}", self.arch), Value::U32(number)),
            Err(_) => metadata.push(format!("{}.{key}", self.arch), Value::U64(number)),
        };
        number("block_count", self.layers as u64)?;
        number("context_length", self.context.into())?;
        number("embedding_length", self.dim)?;
        number("feed_forward_length", self.ffn)?;
        number("attention.head_count", self.heads)?;
        number("attention.head_count_kv", self.kv_heads)?;
        if self.says_head_dim {
            number("attention.key_length", self.head_dim)?;
            number("attention.value_length", self.head_dim)?;
        }
        number("vocab_size", self.vocab)?;
        number("rope.dimension_count", self.head_dim)?;
        if let Some(ExpertShape { count, used, ffn }) = self.experts {
            number("expert_count", count)?;
            number("expert_used_count", used)?;
            number("expert_feed_forward_length", ffn)?;
        }
        let mut float =
            |key: &str, value| metadata.push(format!("{}.{key}", self.arch), Value::F32(value));
        float("rope.freq_base", self.freq_base)?;
        float("attention.layer_norm_rms_epsilon", 1e-5)?;
        metadata.push("general.file_type", Value::U32(mix.file_type))?;
        if mix.is_quantized() {
            metadata.push("general.quantization_version", Value::U32(2))?;
        }
        Ok(metadata)
    }

    /// Llama 3's divisors of the rotary frequencies: 1 for short wavelengths,
    /// `factor` for long ones, in between a smooth change. "Long" is a quarter
    /// to the whole of the 8,192 positions of the first training.
    pub fn rope_freqs(&self) -> Vec<f32> {
        let factor = self.rope_factor.unwrap_or(1.0);
        let (long, short) = (8192.0, 8192.0 / 4.0);
        (0..self.head_dim / 2)
            .map(|pair| {
                let exponent = -2.0 * pair as f32 / self.head_dim as f32;
                let wavelength = std::f32::consts::TAU / self.freq_base.powf(exponent);
                // 1 at short wavelengths, 0 at long ones
                let keep = ((long / wavelength - 1.0) / (long / short - 1.0)).clamp(0.0, 1.0);
                1.0 / ((1.0 - keep) / factor + keep)
            })
            .collect()
    }
}
