//! Qwen2, Qwen2.5 and QwQ: biases of queries, keys and values, which every matrix may
//! have.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::Plan;

use super::Source;
use super::decoder::Sizes;

pub(super) fn qwen2(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::read(&source.keys)?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.decoder(&sizes, rope, |source, index| {
        let attention = source.attention(&sizes, index)?;
        source.layer(&sizes, index, attention)
    })
}
