//! Granite 3 and 4: Llama's layers with four multipliers; also with experts. Hybrid models
//! have Mamba-2 in most layers.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, LayerPlan, Mixer, Plan};

use super::Source;
use super::decoder::{Counts, Sizes};
use super::experts::Mixture;
use super::keys::Keys;
use super::mamba::MambaSizes;

pub(super) fn granite(source: &mut Source<'_>) -> Result<Plan> {
    of_layers(source, &[], None)
}

/// Layers without KV heads are Mamba-2.
pub(super) fn hybrid(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let recurrent = keys.recurrent_layers()?;
    let mamba = MambaSizes::read(&keys)?;
    of_layers(source, &recurrent, Some(&mamba))
}

fn of_layers(
    source: &mut Source<'_>,
    recurrent: &[bool],
    mamba: Option<&MambaSizes>,
) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let (window, scale) = (source.window()?, factor(&keys, "attention.scale")?);
    let branch_scale = factor(&keys, "residual_scale")?.unwrap_or(1.0);
    let mixture = Mixture::read(&keys, &sizes, true)?;
    let finetuned = keys.metadata.opt_bool(&keys.name("rope.scaling.finetuned"))?;
    // Queries and keys are permuted for this.
    let rope = source.rope(&sizes, Pairing::Neighbours)?;
    let mut counts = Counts::default();
    let mut plan = source.decoder(&sizes, vec![rope], |source, index| {
        let is_recurrent = recurrent.get(index) == Some(&true);
        let mixer = match mamba.filter(|_| is_recurrent) {
            Some(mamba) => {
                Mixer::Mamba2(source.mamba2(&sizes, index, mamba, counts.next_state())?)
            }
            None => {
                let attention = source.attention(&sizes, index)?;
                let divisor = scale.map_or(attention.divisor, |scale| 1.0 / scale);
                // The key's old meaning; in these files it says whether positions are known.
                let rope = attention.rope.filter(|_| finetuned != Some(false));
                let cache = counts.next_cache();
                Mixer::Attention(Attention { window, divisor, rope, cache, ..attention })
            }
        };
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
