//! Llama 1–3, Mistral 7B v0.1–v0.3, Mistral Nemo.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::Plan;

use super::Source;
use super::decoder::Sizes;

pub(super) fn plan(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let n_rot = keys.n_rot(sizes.head_dim)?;
    let factors = source.tensors.rope_factors("rope_freqs.weight", n_rot / 2)?;
    // The files' queries and keys are permuted for this.
    let rope = keys.rope(Pairing::Neighbours, n_rot, factors.as_deref())?;
    source.decoder(&sizes, rope, |source, index| {
        let attention = source.attention(&sizes, index)?;
        source.layer(&sizes, index, attention)
    })
}
