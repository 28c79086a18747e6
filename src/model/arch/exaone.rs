//! EXAONE 4: norms behind the branches, and of each head. The model with 32 billion weights
//! has windows on three of four layers; the others know no positions.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Ffn, LayerPlan, Mixer, Plan};

use super::Source;
use super::decoder::Sizes;

pub(super) fn exaone4(source: &mut Source<'_>) -> Result<Plan> {
    /// Layers of the model whose window no key of old files names.
    const LARGEST: usize = 64;
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let window = (sizes.layers == LARGEST).then_some(4096);
    let windows = source.windows(sizes.layers, window, 4)?;
    let has_windows = windows.iter().any(Option::is_some);
    let n_rot = keys.n_rot(sizes.head_dim)?;
    let factors = source.tensors.rope_factors("rope_freqs.weight", n_rot / 2)?;
    let rope = keys.rope(Pairing::Halves, n_rot, factors.as_deref())?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let window = windows[index];
        let rope = (window.is_some() || !has_windows).then_some(0);
        let attention = source.normed_attention(&sizes, index)?;
        let norms = source.post_norms(&sizes, index)?;
        let mixer = Mixer::Attention(Attention { window, rope, ..attention });
        Ok(LayerPlan::new(norms, mixer, Ffn::Dense(source.gated(&sizes, index)?)))
    })
}
