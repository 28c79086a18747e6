//! Qwen2, Qwen2.5 and QwQ: biases of queries, keys and values, which every matrix may
//! have. Qwen3: RMS norm of each head of queries and keys.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{HeadNorm, Plan};

use super::Source;
use super::decoder::{Sizes, blk};

pub(super) fn qwen2(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::read(&source.keys)?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.decoder(&sizes, rope, |source, index| {
        let attention = source.attention(&sizes, index)?;
        source.layer(&sizes, index, attention)
    })
}

pub(super) fn qwen3(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::read(&source.keys)?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.decoder(&sizes, rope, |source, index| {
        let mut attention = source.attention(&sizes, index)?;
        let mut norm = |name: &str| -> Result<HeadNorm> {
            let weight = source.tensors.vector(&blk(index, name), sizes.head_dim)?;
            Ok(HeadNorm { weight, epsilon: sizes.epsilon })
        };
        attention.q_norm = Some(norm("attn_q_norm.weight")?);
        attention.k_norm = Some(norm("attn_k_norm.weight")?);
        source.layer(&sizes, index, attention)
    })
}
