//! OLMo 2 and 3: norms behind the branches only, and of all queries and keys of a row
//! together. OLMo 3 has windows on three of four layers; only the others have YaRN. OLMoE:
//! experts.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Ffn, LayerPlan, Mixer, Plan};

use super::Source;
use super::decoder::Sizes;
use super::experts::Mixture;

pub(super) fn olmo2(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let windows = source.windows(sizes.layers, None, 4)?;
    let n_rot = keys.n_rot(sizes.head_dim)?;
    // 0.1 · ln(factor) + 1, which is computed: not a second factor.
    keys.finite("rope.scaling.yarn_attn_factor", 1.0)?;
    let ropes = vec![
        keys.rope(Pairing::Halves, n_rot, None)?,
        keys.window_rope(Pairing::Halves, n_rot, keys.freq_base()?)?,
    ];
    source.decoder(&sizes, ropes, |source, index| {
        let norms = source.row_norms(&sizes, index)?;
        let window = windows[index];
        let rope = Some(usize::from(window.is_some()));
        let attention = source.attention(&sizes, index)?;
        let row_norms = Some(norms);
        let norms = source.post_norms(&sizes, index)?;
        let mixer = Mixer::Attention(Attention { row_norms, window, rope, ..attention });
        Ok(LayerPlan::new(norms, mixer, Ffn::Dense(source.gated(&sizes, index)?)))
    })
}

/// Norms before the branches, and of all queries and keys of a row together; the weights of
/// the chosen experts do not add up to 1.
pub(super) fn olmoe(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let mixture = Mixture::required(&keys, &sizes, false)?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let row_norms = Some(source.row_norms(&sizes, index)?);
        let attention = source.attention(&sizes, index)?;
        let mixer = Mixer::Attention(Attention { row_norms, ..attention });
        let ffn = source.ffn(&sizes, index, Some(&mixture))?;
        source.layer_of(&sizes, index, mixer, ffn)
    })
}
