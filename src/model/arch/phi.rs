//! Phi-3, Phi-3.5, Phi-4 and Phi-4-mini: fused matrices, rotation of a part of each
//! head, LongRoPE (Ding et al. 2024).
//!
//! The files name the sliding window that the models were trained with. It is applied,
//! as Hugging Face does; llama.cpp attends to everything.

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::rope::{LongRope, Pairing, Rope};
use crate::model::plan::{Attention, Dense, Ffn, Mixer, Plan};

use super::Source;
use super::decoder::{Sizes, blk};

pub(super) fn phi3(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::read(&source.keys)?;
    let rope = long_rope(source, &sizes)?;
    let window = source.window()?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let Sizes { dim, ffn_dim, .. } = sizes;
        let (q, kv) = (sizes.q_dim(), sizes.kv_dim());
        let qkv = source.tensors.matrices(&blk(index, "attn_qkv"), [q, kv, kv], dim)?;
        let attention = source.attention_of(&sizes, index, qkv)?;
        let mixer = Mixer::Attention(Attention { window, ..attention });
        let [gate, up] = source.tensors.matrices(&blk(index, "ffn_up"), [ffn_dim, ffn_dim], dim)?;
        let down = source.tensors.matrix(&blk(index, "ffn_down"), dim, ffn_dim)?;
        let ffn = Ffn::Dense(Dense { activation: Activation::Silu, gate: Some(gate), up, down });
        source.layer_of(&sizes, index, mixer, ffn)
    })
}

/// Files for long contexts have factors of the frequencies for contexts up to the
/// original length, and others for longer ones; `rope.scaling.attn_factor` is for both.
fn long_rope(source: &mut Source<'_>, sizes: &Sizes) -> Result<Rope> {
    let (keys, tensors) = (source.keys, &mut source.tensors);
    let n_rot = keys.n_rot(sizes.head_dim)?;
    let (short_name, long_name) = ("rope_factors_short.weight", "rope_factors_long.weight");
    let short = tensors.rope_factors(short_name, n_rot / 2)?;
    let long = tensors.rope_factors(long_name, n_rot / 2)?;
    let rope = keys.rope(Pairing::Halves, n_rot, short.as_deref())?;
    let long = match (short, long) {
        (None, None) => None,
        (Some(_), Some(long)) => {
            let above = keys.original_context()?;
            let frequencies = keys.rope(Pairing::Halves, n_rot, Some(&long))?.frequencies;
            Some(LongRope { above, frequencies })
        }
        (None, Some(_)) => return Err(Error::tensor(short_name, "is missing")),
        (Some(_), None) => return Err(Error::tensor(long_name, "is missing")),
    };
    Ok(Rope { long, ..rope })
}
