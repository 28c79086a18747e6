//! Layers that keep a state in the place of keys and values: which tensors they have, and what
//! the metadata says of them.

use crate::error::Result;
use crate::gguf::{Array, Value};

use super::keys::Keys;
use super::layer::{Part, float, matrix};
use super::shape::{Family, Shape};

impl Shape {
    /// Whether layer `index` keeps a state.
    pub(super) fn is_recurrent(&self, index: usize) -> bool {
        match self.family {
            Family::Qwen35 { period, .. } => !(index + 1).is_multiple_of(period),
            Family::Lfm2 { attention, .. } => !attention.contains(&index),
            _ => false,
        }
    }

    /// The tensors of such a layer's mixer.
    pub(super) fn recurrent_mixer(&self) -> Vec<Part> {
        let dim = self.dim;
        match self.family {
            Family::Qwen35 { key_heads, value_heads, state, .. } => {
                let (keys, values) = (key_heads * state, value_heads * state);
                let channels = 2 * keys + values;
                vec![
                    float("attn_norm", &[dim]),
                    ("attn_qkv", vec![dim, channels], Some("attn_v")),
                    matrix("attn_gate", &[dim, values]),
                    float("ssm_a", &[value_heads]),
                    matrix("ssm_alpha", &[dim, value_heads]),
                    matrix("ssm_beta", &[dim, value_heads]),
                    float("ssm_conv1d", &[4, channels]),
                    float("ssm_dt.bias", &[value_heads]),
                    float("ssm_norm", &[state]),
                    matrix("ssm_out", &[values, dim]),
                ]
            }
            Family::Lfm2 { taps, .. } => vec![
                float("attn_norm", &[dim]),
                float("shortconv.conv.weight", &[taps, dim]),
                ("shortconv.in_proj.weight", vec![dim, 3 * dim], Some("shortconv.in_proj")),
                ("shortconv.out_proj.weight", vec![dim, dim], Some("shortconv.out_proj")),
            ],
            _ => Vec::new(),
        }
    }

    /// Keys of such layers.
    pub(super) fn recurrent_keys(&self, keys: &mut Keys<'_>) -> Result<()> {
        match self.family {
            Family::Qwen35 { key_heads, value_heads, state, period, .. } => {
                let recurrent = (0..self.layers).map(|index| self.is_recurrent(index)).collect();
                keys.push("attention.recurrent_layers", Value::Array(Array::Bool(recurrent)))?;
                keys.number("full_attention_interval", period as u64)?;
                // llama.cpp asks for them, although only texts are read.
                let sections = Value::Array(Array::I32(vec![11, 11, 10, 0]));
                keys.push("rope.dimension_sections", sections)?;
                keys.number("ssm.conv_kernel", 4)?;
                keys.number("ssm.state_size", state)?;
                keys.number("ssm.group_count", key_heads)?;
                keys.number("ssm.time_step_rank", value_heads)?;
                keys.number("ssm.inner_size", value_heads * state)
            }
            Family::Lfm2 { taps, .. } => keys.number("shortconv.l_cache", taps),
            _ => Ok(()),
        }
    }
}
