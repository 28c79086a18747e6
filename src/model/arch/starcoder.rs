//! StarCoder 2: layer norms and biases everywhere, a feed-forward network without a gate.

use crate::error::Result;
use crate::kernel::act::Activation;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Dense, Ffn, Mixer, Plan};

use super::Source;
use super::decoder::{NormKind, Sizes, blk};

pub(super) fn starcoder2(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::with_norm(&source.keys, NormKind::Layer)?;
    let window = source.window()?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let Sizes { dim, ffn_dim, .. } = sizes;
        let attention = source.attention(&sizes, index)?;
        let dense = Dense {
            activation: Activation::GeluTanh,
            gate: None,
            up: source.tensors.matrix(&blk(index, "ffn_up"), ffn_dim, dim)?,
            down: source.tensors.matrix(&blk(index, "ffn_down"), dim, ffn_dim)?,
        };
        let mixer = Mixer::Attention(Attention { window, ..attention });
        source.layer_of(&sizes, index, mixer, Ffn::Dense(dense))
    })
}
