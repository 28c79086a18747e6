//! gpt-oss: experts with a clamped SwiGLU and biases everywhere, sinks of attention, a window
//! on every other layer.

use crate::error::Result;
use crate::kernel::act::Activation;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, LayerPlan, Mixer, Norms, Plan};

use super::Source;
use super::decoder::{Sizes, blk};
use super::experts::Mixture;
use super::rope::Ramp;

/// What has a bias in every file; without, the text would be wrong.
const BIASES: [&str; 8] = [
    "attn_q",
    "attn_k",
    "attn_v",
    "attn_output",
    "ffn_gate_inp",
    "ffn_gate_exps",
    "ffn_up_exps",
    "ffn_down_exps",
];

pub(super) fn gpt_oss(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    // The weights are the softmax over the chosen logits.
    let mixture = Mixture::required(&keys, &sizes, true)?.with(Activation::ClampedSwiglu);
    let windows = source.windows(sizes.layers, Some(128), 2)?;
    let n_rot = keys.n_rot(sizes.head_dim)?;
    // The models were trained with the exact bounds, which no key says: their configuration
    // has `truncate: false`. llama.cpp rounds.
    let rope = keys.rope_with(Pairing::Halves, n_rot, None, Ramp::Exact)?;
    source.decoder(&sizes, vec![rope], |source, index| {
        for part in BIASES {
            source.tensors.expect(&blk(index, &format!("{part}.bias")))?;
        }
        let window = windows[index];
        let sinks = Some(source.tensors.vector(&blk(index, "attn_sinks.weight"), sizes.heads)?);
        let attention = source.attention(&sizes, index)?;
        let mixer = Mixer::Attention(Attention { window, sinks, ..attention });
        let norms = Norms {
            before_mixer: Some(source.norm(&blk(index, "attn_norm"), &sizes)?),
            before_ffn: Some(source.norm(&blk(index, "post_attention_norm"), &sizes)?),
            ..Norms::default()
        };
        let ffn = source.ffn(&sizes, index, Some(&mixture))?;
        Ok(LayerPlan::new(norms, mixer, ffn))
    })
}
