//! Which tensors the file of an encoder has, and what its metadata says.

use crate::error::Result;
use crate::gguf::{Metadata, TensorSpec, Value};
use crate::quant::Format;

use super::mix::Mix;
use super::shape::Shape;

impl Shape {
    /// Those of an encoder: biases everywhere, rows for positions and for kinds of texts.
    pub(super) fn of_encoder(&self, mix: &Mix) -> Vec<TensorSpec> {
        let Shape { dim, ffn, layers, .. } = *self;
        let mut tensors = Vec::new();
        let mut add = |name: &str, dims: &[u64], format| {
            tensors.push(TensorSpec { name: name.into(), dims: dims.into(), format });
        };
        add("token_embd.weight", &[dim, self.vocab], Mix::fitting(mix.base, dim));
        add("position_embd.weight", &[dim, self.context.into()], Format::F32);
        add("token_types.weight", &[dim, 2], Format::F32);
        add("token_embd_norm.weight", &[dim], Format::F32);
        add("token_embd_norm.bias", &[dim], Format::F32);
        for layer in 0..layers {
            for (part, cols, rows) in [
                ("attn_q", dim, dim),
                ("attn_k", dim, dim),
                ("attn_v", dim, dim),
                ("attn_output", dim, dim),
                ("ffn_up", dim, ffn),
                ("ffn_down", ffn, dim),
            ] {
                let format = Mix::fitting(mix.format(part, layer, layers, 1), cols);
                add(&format!("blk.{layer}.{part}.weight"), &[cols, rows], format);
                add(&format!("blk.{layer}.{part}.bias"), &[rows], Format::F32);
            }
            for part in ["attn_output_norm", "layer_output_norm"] {
                for kind in ["weight", "bias"] {
                    add(&format!("blk.{layer}.{part}.{kind}"), &[dim], Format::F32);
                }
            }
        }
        tensors
    }

    /// The keys of an encoder that a decoder does not have.
    pub(super) fn encoder_keys(&self, metadata: &mut Metadata) -> Result<()> {
        let arch = self.arch;
        metadata.push(format!("{arch}.pooling_type"), Value::U32(1))?;
        metadata.push(format!("{arch}.attention.layer_norm_epsilon"), Value::F32(1e-12))?;
        metadata.push(format!("{arch}.attention.causal"), Value::Bool(false))?;
        metadata.push("tokenizer.ggml.token_type_count", Value::U32(2))
    }
}
