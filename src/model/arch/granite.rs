//! Granite 3 and 4: Llama's layers with four multipliers; also with experts.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, LayerPlan, Mixer, Plan};

use super::Source;
use super::decoder::Sizes;
use super::experts::Mixture;
use super::keys::Keys;

pub(super) fn granite(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let (window, scale) = (source.window()?, factor(&keys, "attention.scale")?);
    let branch_scale = factor(&keys, "residual_scale")?.unwrap_or(1.0);
    let mixture = Mixture::read(&keys, &sizes, true)?;
    // Queries and keys are permuted for this.
    let rope = source.rope(&sizes, Pairing::Neighbours)?;
    let mut plan = source.decoder(&sizes, vec![rope], |source, index| {
        let attention = source.attention(&sizes, index)?;
        let divisor = scale.map_or(attention.divisor, |scale| 1.0 / scale);
        let mixer = Mixer::Attention(Attention { window, divisor, ..attention });
        let ffn = source.ffn(&sizes, index, mixture.as_ref())?;
        Ok(LayerPlan { branch_scale, ..source.layer_of(&sizes, index, mixer, ffn)? })
    })?;
    plan.embed.scale = factor(&keys, "embedding_scale")?.unwrap_or(1.0);
    // The file has a divisor.
    plan.head.scale = 1.0 / factor(&keys, "logit_scale")?.unwrap_or(1.0);
    Ok(plan)
}

/// A multiplier; 0 stands for "not set".
fn factor(keys: &Keys<'_>, name: &str) -> Result<Option<f32>> {
    match keys.finite(name, 0.0)? {
        0.0 => Ok(None),
        _ => keys.positive(name, None).map(Some),
    }
}
