//! Nemotron-H: each layer is Mamba-2, attention that does not know positions, or a
//! feed-forward network with `relu²`; one norm per layer. Also with experts.

use crate::error::Result;
use crate::kernel::act::Activation;
use crate::model::plan::{Attention, Dense, Ffn, LayerPlan, Mixer, Norms, Plan};

use super::Source;
use super::decoder::{Counts, NormKind, Sizes, blk};
use super::experts::Mixture;
use super::keys::limit;
use super::mamba::MambaSizes;

pub(super) fn nemotron_h(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    // The norms are RMS norms whatever the key's name says.
    let epsilons = ["attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"];
    let known = epsilons.iter().find(|name| keys.metadata.get(&keys.name(name)).is_some());
    let epsilon = known.unwrap_or(&epsilons[0]);
    let sizes = Sizes::with_epsilon(&keys, NormKind::Rms, epsilon)?;
    let mamba = MambaSizes::read(&keys)?;
    let no_kv_heads = keys.recurrent_layers()?;
    let widths = keys.per_layer("feed_forward_length", sizes.layers, 0..=limit::WIDTH)?;
    let widths = widths.unwrap_or_default();
    let mixture = Mixture::read(&keys, &sizes, true)?;
    let mixture = mixture.map(|mixture| mixture.without_gates(Activation::ReluSquared));
    // Attention has no rotary embedding; the key counts as read.
    keys.name("rope.dimension_count");
    let mut counts = Counts::default();
    source.decoder(&sizes, Vec::new(), |source, index| {
        let norm = Some(source.norm(&blk(index, "attn_norm"), &sizes)?);
        let width = widths.get(index).map_or(0, |&width| width as usize);
        let (mut before_mixer, mut before_ffn, mut mixer, mut ffn) = (None, None, None, None);
        if !no_kv_heads[index] {
            let (attention, cache) = (source.attention(&sizes, index)?, counts.next_cache());
            mixer = Some(Mixer::Attention(Attention { rope: None, cache, ..attention }));
            before_mixer = norm;
        } else if width == 0 {
            let state = counts.next_state();
            mixer = Some(Mixer::Mamba2(source.mamba2(&sizes, index, &mamba, state)?));
            before_mixer = norm;
        } else {
            ffn = Some(match &mixture {
                Some(mixture) => Ffn::Experts(source.experts(&sizes, index, mixture)?),
                None => Ffn::Dense(source.relu_squared(&sizes, index, width)?),
            });
            before_ffn = norm;
        }
        let norms = Norms { before_mixer, before_ffn, ..Norms::default() };
        Ok(LayerPlan { norms, mixer, ffn, ..LayerPlan::default() })
    })
}

impl Source<'_> {
    fn relu_squared(&mut self, sizes: &Sizes, index: usize, width: usize) -> Result<Dense> {
        Ok(Dense {
            activation: Activation::ReluSquared,
            gate: None,
            up: self.tensors.matrix(&blk(index, "ffn_up"), width, sizes.dim)?,
            down: self.tensors.matrix(&blk(index, "ffn_down"), sizes.dim, width)?,
        })
    }
}
