//! Command R7B (Cohere 2): both branches of a layer read the same norm; three of four layers
//! have a window, and only those know positions.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Ffn, LayerPlan, Mixer, Norms, Plan};

use super::Source;
use super::decoder::{NormKind, Sizes, blk};

pub(super) fn cohere2(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::with_norm(&keys, NormKind::Layer)?;
    let windows = source.windows(sizes.layers, Some(4096), 4)?;
    // Queries and keys are as they were trained.
    let rope = source.rope(&sizes, Pairing::Neighbours)?;
    let mut plan = source.decoder(&sizes, vec![rope], |source, index| {
        let window = windows[index];
        let rope = window.map(|_| 0);
        let attention = source.attention(&sizes, index)?;
        let before_mixer = Some(source.norm(&blk(index, "attn_norm"), &sizes)?);
        let norms = Norms { before_mixer, ..Norms::default() };
        let mixer = Mixer::Attention(Attention { window, rope, ..attention });
        let ffn = Ffn::Dense(source.gated(&sizes, index)?);
        Ok(LayerPlan { parallel: true, ..LayerPlan::new(norms, mixer, ffn) })
    })?;
    plan.head.scale = keys.positive("logit_scale", Some(1.0))?;
    Ok(plan)
}
