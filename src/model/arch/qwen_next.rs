//! Qwen3-Next, Qwen3.5 and 3.6: the gated delta rule in three of four layers, attention with
//! a gate of its result in the others; dense or with experts. Blocks at the end that draft
//! tokens are ignored.

use crate::error::{Error, Result};
use crate::gguf::{Array, Value};
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, DeltaNet, HeadNorm, LayerPlan, Mixer, Norms, Plan};

use super::Source;
use super::decoder::{Counts, Sizes, blk};
use super::experts::Mixture;
use super::keys::{Keys, limit};
use super::mamba::MambaSizes;

/// Which key head a value head reads, of so many.
type KeyHead = fn(usize, &MambaSizes) -> usize;

pub(super) fn qwen35(source: &mut Source<'_>) -> Result<Plan> {
    of_layers(source, false, |head, sizes| head % sizes.key_heads)
}

pub(super) fn qwen35moe(source: &mut Source<'_>) -> Result<Plan> {
    of_layers(source, true, |head, sizes| head % sizes.key_heads)
}

/// Value heads with the same key head are neighbours.
pub(super) fn qwen3next(source: &mut Source<'_>) -> Result<Plan> {
    of_layers(source, true, |head, sizes| head / (sizes.value_heads / sizes.key_heads))
}

fn of_layers(source: &mut Source<'_>, experts: bool, key_head: KeyHead) -> Result<Plan> {
    let keys = source.keys;
    let mut sizes = Sizes::read(&keys)?;
    let recurrent = delta_layers(&keys, sizes.layers)?;
    let drafting = keys.optional("nextn_predict_layers", 0..=limit::LAYERS)?.unwrap_or(0);
    sizes.layers = match sizes.layers.checked_sub(drafting as usize) {
        Some(layers) if layers > 0 => layers,
        _ => {
            let problem = format!("is {drafting} of {} layers", sizes.layers);
            return Err(Error::key(&keys.name("nextn_predict_layers"), problem));
        }
    };
    source.tensors.ignore_layers_from(sizes.layers);
    let delta = delta_sizes(&keys)?;
    let mixture = match experts {
        true => Some(Mixture::required(&keys, &sizes, true)?.with_shared_gate()),
        false => None,
    };
    let rope = source.rope(&sizes, Pairing::Halves)?;
    let mut counts = Counts::default();
    source.decoder(&sizes, vec![rope], |source, index| {
        let mixer = match recurrent[index] {
            true => {
                let heads = |head| key_head(head, &delta);
                let state = counts.next_state();
                Mixer::DeltaNet(source.delta_net(&sizes, index, &delta, heads, state)?)
            }
            false => {
                Mixer::Attention(source.gated_attention(&sizes, index, counts.next_cache())?)
            }
        };
        let norms = Norms {
            before_mixer: Some(source.norm(&blk(index, "attn_norm"), &sizes)?),
            before_ffn: Some(source.norm(&blk(index, "post_attention_norm"), &sizes)?),
            ..Norms::default()
        };
        Ok(LayerPlan::new(norms, mixer, source.ffn(&sizes, index, mixture.as_ref())?))
    })
}

/// Of each layer, whether it has the delta rule.
fn delta_layers(keys: &Keys<'_>, layers: usize) -> Result<Vec<bool>> {
    let interval = keys.optional("full_attention_interval", 1..=limit::LAYERS)?.unwrap_or(4);
    let name = keys.name("attention.recurrent_layers");
    match keys.metadata.get(&name) {
        Some(Value::Array(Array::Bool(recurrent))) if recurrent.len() == layers => {
            return Ok(recurrent.to_vec());
        }
        Some(_) => {
            return Err(Error::key(&name, format!("is not an array of {layers} booleans")));
        }
        None => {}
    }
    let no_kv_heads = keys.recurrent_layers()?;
    if no_kv_heads.contains(&true) {
        return Ok(no_kv_heads);
    }
    Ok((0..layers).map(|index| !(index + 1).is_multiple_of(interval as usize)).collect())
}

/// Heads of keys and values are equally wide.
fn delta_sizes(keys: &Keys<'_>) -> Result<MambaSizes> {
    let sizes = MambaSizes::read(keys)?;
    if sizes.key_dim != sizes.value_dim {
        let MambaSizes { key_dim, value_dim, .. } = sizes;
        let problem = format!("is {key_dim}, but heads of values have {value_dim} dimensions");
        return Err(Error::key(&keys.name("ssm.state_size"), problem));
    }
    Ok(sizes)
}

impl Source<'_> {
    fn gated_attention(&mut self, sizes: &Sizes, index: usize, cache: usize) -> Result<Attention> {
        let [q_norm, k_norm] = self.head_norms(sizes, index)?;
        let q = self.tensors.matrix(&blk(index, "attn_q"), 2 * sizes.q_dim(), sizes.dim)?;
        let attention = self.attention_with(sizes, index, q)?;
        let (q_norm, k_norm) = (Some(q_norm), Some(k_norm));
        Ok(Attention { q_norm, k_norm, gated: true, cache, ..attention })
    }

    fn delta_net(
        &mut self,
        sizes: &Sizes,
        index: usize,
        delta: &MambaSizes,
        key_head: impl Fn(usize) -> usize,
        state: usize,
    ) -> Result<DeltaNet> {
        let Sizes { dim, epsilon, .. } = *sizes;
        let (inner, heads) = (delta.inner(), delta.value_heads);
        let channels = 2 * delta.keys() + inner;
        let (scalars, alpha, beta);
        if self.tensors.has(&blk(index, "ssm_ba.weight")) {
            // Of each key head: the betas of its value heads, then their alphas.
            scalars = vec![self.tensors.matrix(&blk(index, "ssm_ba"), 2 * heads, dim)?];
            let group = heads / delta.key_heads;
            let at = |head: usize| head / group * 2 * group + head % group;
            beta = (0..heads).map(|head| [0, at(head)]).collect();
            alpha = (0..heads).map(|head| [0, at(head) + group]).collect();
        } else {
            let mut of = |part: &str| self.tensors.matrix(&blk(index, part), heads, dim);
            scalars = vec![of("ssm_alpha")?, of("ssm_beta")?];
            alpha = (0..heads).map(|head| [0, head]).collect();
            beta = (0..heads).map(|head| [1, head]).collect();
        }
        let norm = self.tensors.vector(&blk(index, "ssm_norm.weight"), delta.value_dim)?;
        Ok(DeltaNet {
            heads: delta.heads(key_head),
            qkv: self.tensors.matrix(&blk(index, "attn_qkv"), channels, dim)?,
            conv: self.tensors.conv(&blk(index, "ssm_conv1d"), delta.taps, channels)?,
            gate: self.tensors.matrix(&blk(index, "attn_gate"), inner, dim)?,
            scalars,
            alpha,
            beta,
            a: self.tensors.flat(&blk(index, "ssm_a"), heads)?,
            dt: self.tensors.flat(&blk(index, "ssm_dt.bias"), heads)?,
            norm: HeadNorm { weight: norm, epsilon },
            epsilon,
            output: self.tensors.matrix(&blk(index, "ssm_out"), dim, inner)?,
            state,
        })
    }
}
