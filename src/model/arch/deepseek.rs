//! DeepSeek V2 and what is built like it (GLM 4.7 Flash): latent attention, experts behind some
//! dense layers.

use crate::error::{Error, Place, Result};
use crate::kernel::rope::{Pairing, Rope};
use crate::model::plan::{HeadNorm, Latent, Mixer, Plan};

use super::Source;
use super::decoder::{NormKind, Sizes, blk};
use super::experts::Mixture;
use super::keys::{Keys, limit};

/// The key of the norms' epsilon.
const EPSILON: &str = "attention.layer_norm_rms_epsilon";

/// The sizes of latent attention.
#[derive(Clone, Copy)]
struct Ranks {
    /// 0: queries come of the input itself.
    q: usize,
    kv: usize,
    /// Of a head's query what meets the latent, and what is rotated.
    width: usize,
    n_rot: usize,
    value_dim: usize,
}

pub(super) fn deepseek2(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    refuse_old(source)?;
    let ffn_dim = keys.required("feed_forward_length", 1..=limit::WIDTH)? as usize;
    let sizes = Sizes { ffn_dim, ..Sizes::common(&keys, NormKind::Rms, EPSILON)? };
    let ranks = Ranks::read(&keys)?;
    let mixture = Mixture::behind_dense_layers(&keys, &sizes, false)?;
    let (rope, divisor) = rope(&keys, ranks)?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let mixer = Mixer::Latent(latent(source, &sizes, ranks, index, divisor)?);
        let ffn = source.ffn(&sizes, index, mixture.as_ref())?;
        source.layer_of(&sizes, index, mixer, ffn)
    })
}

/// Files of before April 2025 have one matrix in the place of two for each head.
fn refuse_old(source: &Source<'_>) -> Result<()> {
    let name = blk(0, "attn_kv_b.weight");
    if !source.tensors.has(&name) {
        return Ok(());
    }
    let problem = "is of a file for older programs, which is not supported; use one that was \
                   converted since, with attn_k_b and attn_v_b";
    Err(Error::unsupported(Place::Tensor(name), problem))
}

impl Ranks {
    fn read(keys: &Keys<'_>) -> Result<Self> {
        let kv = keys.required("attention.kv_lora_rank", 1..=limit::HEAD_DIM)?;
        let q = keys.optional("attention.q_lora_rank", 0..=limit::WIDTH)?.unwrap_or(0);
        let all = keys.required("attention.key_length_mla", 3..=limit::HEAD_DIM)?;
        let value = keys.required("attention.value_length_mla", 1..=limit::HEAD_DIM)?;
        let n_rot = keys.required("rope.dimension_count", 2..=all - 1)?;
        if !n_rot.is_multiple_of(2) {
            let problem = format!("is {n_rot}; values are rotated in pairs");
            return Err(Error::key(&keys.name("rope.dimension_count"), problem));
        }
        for (name, expected) in [
            ("attention.head_count_kv", 1),
            ("attention.key_length", kv + n_rot),
            ("attention.value_length", kv),
        ] {
            if let Some(found) = keys.optional(name, 0..=u32::MAX)?.filter(|&n| n != expected) {
                let problem = format!("is {found}; with these ranks it is {expected}");
                return Err(Error::key(&keys.name(name), problem));
            }
        }
        let [q, kv, width, n_rot, value_dim] =
            [q, kv, all - n_rot, n_rot, value].map(|n| n as usize);
        Ok(Ranks { q, kv, width, n_rot, value_dim })
    }
}

/// The rotation, and what scores are divided by. YaRN's magnitude counts for all of a score,
/// and not for what is rotated alone, where the file says so.
fn rope(keys: &Keys<'_>, ranks: Ranks) -> Result<(Rope, f32)> {
    const LOG: &str = "rope.scaling.yarn_log_multiplier";
    let rope = keys.rope(Pairing::Neighbours, ranks.n_rot, None)?;
    let divisor = ((ranks.width + ranks.n_rot) as f32).sqrt();
    // A tenth of the model's: converters multiply by it here, and for no other architecture.
    let log = keys.finite(LOG, 0.0)?;
    let kind = keys.metadata.opt_str(&keys.name("rope.scaling.type"))?;
    if log == 0.0 || kind != Some("yarn") {
        return Ok((rope, divisor));
    }
    let factor = keys.positive("rope.scaling.factor", None)?.max(1.0);
    let magnitude = 1.0 + log * factor.ln();
    let divisor = divisor / (magnitude * magnitude);
    if !(divisor.is_finite() && divisor > 0.0) {
        return Err(Error::key(&keys.name(LOG), format!("is {log}, which scales scores away")));
    }
    let attention_factor = keys.positive("rope.scaling.attn_factor", Some(1.0))?;
    Ok((Rope { attention_factor: f64::from(attention_factor), ..rope }, divisor))
}

fn latent(
    source: &mut Source<'_>,
    sizes: &Sizes,
    ranks: Ranks,
    index: usize,
    divisor: f32,
) -> Result<Latent> {
    let (Sizes { dim, heads, epsilon, .. }, tensors) = (*sizes, &mut source.tensors);
    let Ranks { q, kv, width, n_rot, value_dim } = ranks;
    let queries = heads * (width + n_rot);
    let (q_down, q) = match q {
        0 => (None, tensors.matrix(&blk(index, "attn_q"), queries, dim)?),
        rank => {
            let down = tensors.matrix(&blk(index, "attn_q_a"), rank, dim)?;
            let weight = tensors.vector(&blk(index, "attn_q_a_norm.weight"), rank)?;
            let q = tensors.matrix(&blk(index, "attn_q_b"), queries, rank)?;
            (Some((down, HeadNorm { weight, epsilon })), q)
        }
    };
    let weight = tensors.vector(&blk(index, "attn_kv_a_norm.weight"), kv)?;
    Ok(Latent {
        q_down,
        q,
        kv_down: tensors.matrix(&blk(index, "attn_kv_a_mqa"), kv + n_rot, dim)?,
        kv_norm: HeadNorm { weight, epsilon },
        k_up: tensors.experts(&blk(index, "attn_k_b"), heads, kv, width)?,
        v_up: tensors.experts(&blk(index, "attn_v_b"), heads, value_dim, kv)?,
        output: tensors.matrix(&blk(index, "attn_output"), dim, heads * value_dim)?,
        rope: 0,
        n_rot,
        window: None,
        divisor,
        cache: index,
    })
}
