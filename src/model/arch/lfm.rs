//! LFM2: short convolutions in most layers, attention with norms of heads in the others;
//! also with experts, behind some dense layers.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Mixer, Plan, ShortConv};

use super::Source;
use super::decoder::{Counts, Sizes, blk};
use super::experts::Mixture;
use super::keys::limit;

/// Layers without KV heads are convolutions.
pub(super) fn lfm2(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let mut sizes = Sizes::read(&keys)?;
    // Some files have the width that the trainer's configuration starts from.
    sizes.ffn_dim = source.tensors.rows("blk.0.ffn_gate.weight").unwrap_or(sizes.ffn_dim);
    let recurrent = keys.recurrent_layers()?;
    let taps = keys.required("shortconv.l_cache", 2..=limit::TAPS)? as usize;
    let mixture = Mixture::behind_dense_layers(&keys, &sizes, true)?;
    let window = source.window()?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    let norm = match source.tensors.has("token_embd_norm.weight") {
        true => "token_embd_norm",
        false => "output_norm",
    };
    let mut counts = Counts::default();
    source.decoder_with_norm(norm, &sizes, vec![rope], |source, index| {
        let mixer = match recurrent[index] {
            true => {
                Mixer::ShortConv(source.short_conv(&sizes, index, taps, counts.next_state())?)
            }
            false => {
                let (attention, cache) =
                    (source.normed_attention(&sizes, index)?, counts.next_cache());
                Mixer::Attention(Attention { window, cache, ..attention })
            }
        };
        let ffn = source.ffn(&sizes, index, mixture.as_ref())?;
        source.layer_of(&sizes, index, mixer, ffn)
    })
}

impl Source<'_> {
    fn short_conv(
        &mut self,
        sizes: &Sizes,
        index: usize,
        taps: usize,
        state: usize,
    ) -> Result<ShortConv> {
        let dim = sizes.dim;
        Ok(ShortConv {
            inputs: self.tensors.matrices(&blk(index, "shortconv.in_proj"), [dim; 3], dim)?,
            conv: self.tensors.conv(&blk(index, "shortconv.conv"), taps, dim)?,
            output: self.tensors.matrix(&blk(index, "shortconv.out_proj"), dim, dim)?,
            state,
        })
    }
}
