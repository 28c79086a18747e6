//! Llama 1–3, Mistral 7B v0.1–v0.3, Mistral Nemo, ERNIE 4.5; Mixtral.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Mixer, Plan};

use super::Source;
use super::decoder::Sizes;
use super::experts::Mixture;

pub(super) fn plan(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let window = source.window()?;
    let mixture = Mixture::read(&keys, &sizes, true)?;
    let n_rot = keys.n_rot(sizes.head_dim)?;
    let factors = source.tensors.rope_factors("rope_freqs.weight", n_rot / 2)?;
    // The files' queries and keys are permuted for this.
    let rope = keys.rope(Pairing::Neighbours, n_rot, factors.as_deref())?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let attention = source.attention(&sizes, index)?;
        let mixer = Mixer::Attention(Attention { window, ..attention });
        let ffn = source.ffn(&sizes, index, mixture.as_ref())?;
        source.layer_of(&sizes, index, mixer, ffn)
    })
}
