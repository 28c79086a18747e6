//! What the metadata of a shape's file says.

use crate::error::Result;
use crate::gguf::{Array, Metadata, Value};

use super::mix::Mix;
use super::shape::{ExpertShape, Family, Shape};

/// The keys of an architecture.
pub(super) struct Keys<'a> {
    arch: &'a str,
    metadata: Metadata,
}

impl Keys<'_> {
    pub(super) fn push(&mut self, key: &str, value: Value) -> Result<()> {
        self.metadata.push(format!("{}.{key}", self.arch), value)
    }

    pub(super) fn number(&mut self, key: &str, number: u64) -> Result<()> {
        self.push(key, u32::try_from(number).map_or(Value::U64(number), Value::U32))
    }

    /// One number, or one for each layer where they differ.
    fn of_layers(&mut self, key: &str, numbers: &[u64]) -> Result<()> {
        match numbers {
            [first, rest @ ..] if rest.iter().all(|number| number == first) => {
                self.number(key, *first)
            }
            // As llama.cpp writes and reads them; shapes stay far below what fits.
            _ => {
                let numbers = numbers.iter().map(|&number| number as i32).collect();
                self.push(key, Value::Array(Array::I32(numbers)))
            }
        }
    }

    fn float(&mut self, key: &str, value: f32) -> Result<()> {
        self.push(key, Value::F32(value))
    }
}

impl Shape {
    /// The keys of a published file up to the tokenizer's.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) for a key that came before.
    pub fn metadata(&self, mix: &Mix) -> Result<Metadata> {
        let mut keys = Keys { arch: self.arch, metadata: Metadata::new() };
        let name = format!("Random weights in the shape of {}", self.of);
        for (key, text) in [
            ("general.architecture", self.arch),
            ("general.type", "model"),
            ("general.name", &name),
        ] {
            keys.metadata.push(key, Value::String(text.into()))?;
        }
        let ffn: Vec<u64> = (0..self.layers).map(|index| self.ffn_of(index)).collect();
        keys.number("block_count", self.layers as u64)?;
        keys.number("context_length", self.context.into())?;
        keys.number("embedding_length", self.dim)?;
        keys.of_layers("feed_forward_length", &ffn)?;
        keys.number("attention.head_count", self.heads)?;
        match self.family {
            Family::Bert => self.encoder_keys(&mut keys.metadata)?,
            _ => self.decoder_keys(&mut keys)?,
        }
        keys.metadata.push("general.file_type", Value::U32(mix.file_type))?;
        if mix.is_quantized() {
            keys.metadata.push("general.quantization_version", Value::U32(2))?;
        }
        Ok(keys.metadata)
    }

    fn decoder_keys(&self, keys: &mut Keys<'_>) -> Result<()> {
        let kv_heads = (0..self.layers).map(|index| match self.family {
            Family::Lfm2 { .. } if self.is_recurrent(index) => 0,
            _ => self.heads_of(index).0,
        });
        let kv_heads: Vec<u64> = kv_heads.collect();
        keys.of_layers("attention.head_count_kv", &kv_heads)?;
        if self.says_head_dim {
            let head_dim = match self.family {
                Family::Gemma4 { more, .. } => more.full_head_dim,
                _ => self.head_dim,
            };
            keys.number("attention.key_length", head_dim)?;
            keys.number("attention.value_length", head_dim)?;
        }
        keys.number("vocab_size", self.vocab)?;
        keys.number("rope.dimension_count", 2 * self.rope_pairs())?;
        if let Some(ExpertShape { count, used, ffn }) = self.experts {
            keys.number("expert_count", count)?;
            keys.number("expert_used_count", used)?;
            keys.number("expert_feed_forward_length", ffn)?;
        }
        keys.float("rope.freq_base", self.freq_base)?;
        let epsilon = match self.family {
            Family::Gemma { .. } | Family::Gemma4 { .. } | Family::Qwen35 { .. } => 1e-6,
            _ => 1e-5,
        };
        keys.float("attention.layer_norm_rms_epsilon", epsilon)?;
        self.family_keys(keys)
    }

    fn family_keys(&self, keys: &mut Keys<'_>) -> Result<()> {
        match self.family {
            Family::Llama | Family::Bert => Ok(()),
            Family::Phi { .. } => {
                keys.number("rope.scaling.original_context_length", 4096)?;
                keys.float("rope.scaling.attn_factor", 1.190_238)
            }
            Family::Gemma { window, .. } => {
                keys.number("attention.sliding_window", window)?;
                keys.push("rope.scaling.type", Value::String("linear".into()))?;
                keys.float("rope.scaling.factor", 8.0)
            }
            Family::Gemma4 { window, more, .. } => {
                let pattern = (0..self.layers).map(|index| self.has_window(index)).collect();
                keys.number("attention.sliding_window", window)?;
                keys.push("attention.sliding_window_pattern", Value::Array(Array::Bool(pattern)))?;
                keys.number("attention.key_length_swa", self.head_dim)?;
                keys.number("attention.value_length_swa", self.head_dim)?;
                keys.number("rope.dimension_count_swa", self.head_dim)?;
                keys.float("rope.freq_base_swa", 1e4)?;
                keys.number("attention.shared_kv_layers", self.sharing() as u64)?;
                keys.number("embedding_length_per_layer_input", more.layer_input)?;
                keys.float("final_logit_softcapping", 30.0)
            }
            Family::Qwen35 { .. } | Family::Lfm2 { .. } => self.recurrent_keys(keys),
            Family::GptOss => {
                keys.number("attention.sliding_window", 128)?;
                keys.push("rope.scaling.type", Value::String("yarn".into()))?;
                keys.float("rope.scaling.factor", 32.0)?;
                keys.number("rope.scaling.original_context_length", 4096)
            }
        }
    }

    /// Divisors of the rotary frequencies. Gemma 4: 1 for the quarter of the pairs that turn.
    /// Phi: 1, the published numbers are not here. Llama 3: 1 for short wavelengths,
    /// `factor` for long ones, in between a smooth change; "long" is a quarter
    /// to the whole of the 8,192 positions of the first training.
    pub fn rope_freqs(&self) -> Vec<f32> {
        let pairs = self.rope_pairs();
        match self.family {
            Family::Phi { .. } => return vec![1.0; pairs as usize],
            Family::Gemma4 { .. } => {
                return (0..pairs).map(|pair| if pair < pairs / 4 { 1.0 } else { 1e30 }).collect();
            }
            _ => {}
        }
        let factor = self.rope_factor.unwrap_or(1.0);
        let (long, short) = (8192.0, 8192.0 / 4.0);
        (0..pairs)
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
