//! Gemma 2 and 3, and EmbeddingGemma: norms before and after each branch (their weights
//! include the 1 that the models add), GELU, embeddings times √width, layers with a window between those without.

use crate::error::Result;
use crate::kernel::act::Activation;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Dense, Ffn, LayerPlan, Mixer, Norms, Plan};

use super::Source;
use super::decoder::{Sizes, blk};
use super::encoder::{EmbedParts, around};

/// Rotary base of layers with a window.
const BASE_OF_WINDOWS: f32 = 10_000.0;

/// Scores and logits with a soft cap, no norms of heads.
pub(super) fn gemma2(source: &mut Source<'_>) -> Result<Plan> {
    /// Of the model with 27 billion weights, which scales scores in its own way.
    const LARGEST: usize = 46;
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let divisor = divisor(&sizes, LARGEST);
    let soft_cap = Some(keys.positive("attn_logit_softcapping", Some(50.0))?);
    let windows = source.windows(sizes.layers, Some(4096), 2)?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    let mut plan = source.decoder(&sizes, vec![rope], |source, index| {
        let window = windows[index];
        let attention = source.attention(&sizes, index)?;
        layer(source, &sizes, index, Attention { window, divisor, soft_cap, ..attention })
    })?;
    plan.head.soft_cap = Some(keys.positive("final_logit_softcapping", Some(30.0))?);
    Ok(with_scaled_embedding(plan))
}

/// Norms of heads; layers with a window have a rotary base of their own.
pub(super) fn gemma3(source: &mut Source<'_>) -> Result<Plan> {
    const LARGEST: usize = 62;
    // Ollama's library has EmbeddingGemma by this name.
    if source.tensors.has("dense.0.weight") {
        return embedding(source);
    }
    let keys = source.keys;
    keys.expect_causal()?;
    let sizes = Sizes::read(&keys)?;
    let divisor = divisor(&sizes, LARGEST);
    let windows = source.windows(sizes.layers, None, 6)?;
    let n_rot = keys.n_rot(sizes.head_dim)?;
    let ropes = vec![
        keys.rope(Pairing::Halves, n_rot, None)?,
        keys.window_rope(Pairing::Halves, n_rot, BASE_OF_WINDOWS)?,
    ];
    let mut plan = source.decoder(&sizes, ropes, |source, index| {
        let window = windows[index];
        let rope = Some(usize::from(window.is_some()));
        let attention = source.normed_attention(&sizes, index)?;
        layer(source, &sizes, index, Attention { window, rope, divisor, ..attention })
    })?;
    let soft_cap = keys.finite("final_logit_softcapping", 0.0)?;
    plan.head.soft_cap = (soft_cap > 0.0).then_some(soft_cap);
    Ok(with_scaled_embedding(plan))
}

/// The layers of Gemma 3 without its output matrix, seen from both sides; two more matrices
/// behind the mean.
pub(super) fn embedding(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let windows = source.windows(sizes.layers, None, 6)?;
    let n_rot = keys.n_rot(sizes.head_dim)?;
    let ropes = vec![
        keys.rope(Pairing::Halves, n_rot, None)?,
        keys.window_rope(Pairing::Halves, n_rot, BASE_OF_WINDOWS)?,
    ];
    let mut plan = source.encoder(&sizes, ropes, EmbedParts::default(), |source, index| {
        let rope = Some(usize::from(windows[index].is_some()));
        let attention = source.normed_attention(&sizes, index)?;
        let attention = around(Attention { rope, ..attention }, windows[index]);
        layer(source, &sizes, index, attention)
    })?;
    let norm = if source.tensors.has("norm.weight") { "norm" } else { "output_norm" };
    plan.head.norm = Some(source.norm(norm, &sizes)?);
    plan.pooled.dense = source.dense(sizes.dim)?;
    Ok(with_scaled_embedding(plan))
}

fn divisor(sizes: &Sizes, largest: usize) -> f32 {
    let width = match sizes.layers == largest {
        true => sizes.dim / sizes.heads,
        false => sizes.head_dim,
    };
    (width as f32).sqrt()
}

fn layer(
    source: &mut Source<'_>,
    sizes: &Sizes,
    index: usize,
    attention: Attention,
) -> Result<LayerPlan> {
    let ffn = Ffn::Dense(dense(source, sizes, index)?);
    let norms = norms(source, sizes, index)?;
    Ok(LayerPlan::new(norms, Mixer::Attention(attention), ffn))
}

/// Before and behind both branches.
pub(super) fn norms(source: &mut Source<'_>, sizes: &Sizes, index: usize) -> Result<Norms> {
    Ok(Norms {
        before_mixer: Some(source.norm(&blk(index, "attn_norm"), sizes)?),
        before_ffn: Some(source.norm(&blk(index, "ffn_norm"), sizes)?),
        ..source.post_norms(sizes, index)?
    })
}

/// Gated by GELU.
pub(super) fn dense(source: &mut Source<'_>, sizes: &Sizes, index: usize) -> Result<Dense> {
    Ok(Dense { activation: Activation::GeluTanh, ..source.gated(sizes, index)? })
}

pub(super) fn with_scaled_embedding(mut plan: Plan) -> Plan {
    plan.embed.scale = (plan.dim() as f32).sqrt();
    plan
}
