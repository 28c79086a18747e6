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
}

/// The shapes that there are.
pub const SHAPES: [Shape; 5] = [
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
        freq_base: 1e4,
        tied: false,
        says_head_dim: true,
        rope_factor: None,
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
        says_head_dim: true,
        rope_factor: Some(32.0),
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
        tied: false,
        says_head_dim: true,
        rope_factor: Some(8.0),
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
        tied: false,
        says_head_dim: false,
        rope_factor: None,
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
        tied: false,
        says_head_dim: true,
        rope_factor: None,
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
            for (part, dims) in [
                ("attn_k", &[self.dim, kv][..]),
                ("attn_norm", &[self.dim]),
                ("attn_output", &[q, self.dim]),
                ("attn_q", &[self.dim, q]),
                ("attn_v", &[self.dim, kv]),
                ("ffn_down", &[self.ffn, self.dim]),
                ("ffn_gate", &[self.dim, self.ffn]),
                ("ffn_norm", &[self.dim]),
                ("ffn_up", &[self.dim, self.ffn]),
            ] {
                let gqa = self.heads / self.kv_heads;
                let format = match dims {
                    [_] => Format::F32,
                    _ => mix.format(part, layer, self.layers, gqa),
                };
                add(format!("blk.{layer}.{part}.weight"), dims, format);
            }
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
        text("general.architecture", "llama")?;
        text("general.type", "model")?;
        text("general.name", &format!("Random weights in the shape of {}", self.of))?;
        let mut number = |key: &str, number: u64| match u32::try_from(number) {
            Ok(number) => metadata.push(format!("llama.{key}"), Value::U32(number)),
            Err(_) => metadata.push(format!("llama.{key}"), Value::U64(number)),
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
        metadata.push("llama.rope.freq_base", Value::F32(self.freq_base))?;
        metadata.push("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))?;
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
