//! Metadata → [`Config`]: the only file that knows architecture names.
//!
//! GGUF keys are `{architecture}.{name}`; what each means is described in the
//! GGUF specification. Mistral files say `llama`: they differ by a window only.

use crate::error::{Error, Place, Result};
use crate::gguf::Metadata;
use crate::kernel::rope::{Pairing, Rope};

use super::config::Config;

/// Bounds that keep every product of two sizes far inside `usize`, so that no
/// arithmetic on them can overflow. Real models stay far below each.
mod limit {
    pub const LAYERS: u32 = 1 << 12;
    pub const WIDTH: u32 = 1 << 20;
    pub const HEADS: u32 = 1 << 12;
    pub const HEAD_DIM: u32 = 1 << 13;
    pub const CONTEXT: u32 = 1 << 28;
}

/// Everything about the network that is in the metadata. `rope_factors`
/// (`[n_rot / 2]`) divide the rotary frequencies; `window` is the caller's
/// sliding window where the file names none; `n_vocab` comes from the embedding.
pub(crate) fn plan(
    metadata: &Metadata,
    n_vocab: usize,
    rope_factors: Option<&[f32]>,
    window: Option<usize>,
) -> Result<Config> {
    match metadata.str("general.architecture")? {
        "llama" => llama(&Keys { metadata, arch: "llama" }, n_vocab, rope_factors, window),
        other => {
            let shown: String = other.chars().take(40).collect();
            let problem = format!("architecture {shown:?} is not supported; supported: llama");
            Err(Error::unsupported(Place::Key("general.architecture".into()), problem))
        }
    }
}

/// Llama 1–3, Mistral 7B v0.1–v0.3, Mistral Nemo.
fn llama(
    keys: &Keys<'_>,
    n_vocab: usize,
    rope_factors: Option<&[f32]>,
    window: Option<usize>,
) -> Result<Config> {
    if keys.optional("expert_count", 0..=u32::MAX)?.unwrap_or(0) > 0 {
        return Err(keys.unsupported("expert_count", "mixtures of experts are not supported"));
    }
    let dim = keys.required("embedding_length", 1..=limit::WIDTH)?;
    let heads = keys.required("attention.head_count", 1..=limit::HEADS)?;
    let kv_heads = keys.optional("attention.head_count_kv", 1..=heads)?.unwrap_or(heads);
    if heads % kv_heads != 0 {
        let problem = format!("is {kv_heads}, which does not divide the {heads} heads");
        return Err(Error::key(&keys.name("attention.head_count_kv"), problem));
    }
    let head_dim = match keys.optional("attention.key_length", 1..=limit::HEAD_DIM)? {
        Some(head_dim) => head_dim,
        None if dim % heads == 0 && dim / heads <= limit::HEAD_DIM => dim / heads,
        None => {
            let problem = format!("is {heads}, which does not divide the width {dim}");
            return Err(Error::key(&keys.name("attention.head_count"), problem));
        }
    };
    let value_dim = keys.optional("attention.value_length", 1..=limit::HEAD_DIM)?;
    if value_dim.is_some_and(|value_dim| value_dim != head_dim) {
        let problem = format!("must equal the key length {head_dim}");
        return Err(keys.unsupported("attention.value_length", &problem));
    }
    let layers = keys.required("block_count", 1..=limit::LAYERS)? as usize;
    let file_window = keys.optional("attention.sliding_window", 0..=u32::MAX)?;
    // 0 in the file and in the option both say: full attention.
    let window = file_window.map(|w| w as usize).or(window).filter(|&w| w > 0);
    Ok(Config {
        dim: dim as usize,
        ffn_dim: keys.required("feed_forward_length", 1..=limit::WIDTH)? as usize,
        heads: heads as usize,
        kv_heads: kv_heads as usize,
        head_dim: head_dim as usize,
        n_vocab,
        context_length: keys.required("context_length", 1..=limit::CONTEXT)? as usize,
        rms_epsilon: keys.positive("attention.layer_norm_rms_epsilon", None)?,
        rope: rope(keys, head_dim, rope_factors)?,
        windows: vec![window; layers],
    })
}

/// `frequency[i] = base^(−2i / n_rot) / linear factor / rope_factors[i]`.
fn rope(keys: &Keys<'_>, head_dim: u32, factors: Option<&[f32]>) -> Result<Rope> {
    let n_rot = keys.optional("rope.dimension_count", 2..=head_dim)?.unwrap_or(head_dim);
    if !n_rot.is_multiple_of(2) {
        let problem = format!("is {n_rot}; values turn in pairs");
        return Err(Error::key(&keys.name("rope.dimension_count"), problem));
    }
    let base = f64::from(keys.positive("rope.freq_base", Some(10_000.0))?);
    let linear = match keys.metadata.opt_str(&keys.name("rope.scaling.type"))? {
        Some("none") => 1.0,
        None | Some("linear") => {
            let old = keys.positive("rope.scale_linear", Some(1.0))?;
            f64::from(keys.positive("rope.scaling.factor", Some(old))?)
        }
        Some(other) => {
            let shown: String = other.chars().take(40).collect();
            let problem = format!("{shown:?} is not supported, only \"linear\" and \"none\" are");
            return Err(keys.unsupported("rope.scaling.type", &problem));
        }
    };
    let pairs = (n_rot / 2) as usize;
    if let Some(factors) = factors {
        let bad = factors.iter().any(|&f| !(f.is_finite() && f > 0.0));
        if factors.len() != pairs || bad {
            let problem = format!("should hold {pairs} positive factors");
            return Err(Error::tensor("rope_freqs.weight", problem));
        }
    }
    let frequencies = (0..pairs).map(|i| {
        let factor = factors.map_or(1.0, |factors| f64::from(factors[i]));
        base.powf(-2.0 * i as f64 / f64::from(n_rot)) / factor / linear
    });
    Ok(Rope { pairing: Pairing::Neighbours, frequencies: frequencies.collect() })
}

/// Typed access to `{architecture}.{name}`.
struct Keys<'a> {
    metadata: &'a Metadata,
    arch: &'a str,
}

impl Keys<'_> {
    fn name(&self, name: &str) -> String {
        format!("{}.{name}", self.arch)
    }

    fn optional(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<Option<u32>> {
        let key = self.name(name);
        match self.metadata.opt_u32(&key)? {
            Some(value) if !range.contains(&value) => {
                let (low, high) = (range.start(), range.end());
                Err(Error::key(&key, format!("is {value}; {low} to {high} is possible")))
            }
            value => Ok(value),
        }
    }

    fn required(&self, name: &str, range: std::ops::RangeInclusive<u32>) -> Result<u32> {
        match self.optional(name, range)? {
            Some(value) => Ok(value),
            None => self.metadata.u32(&self.name(name)), // the error that names the key
        }
    }

    /// A finite float above 0.
    fn positive(&self, name: &str, default: Option<f32>) -> Result<f32> {
        let key = self.name(name);
        let value = match (self.metadata.opt_f32(&key)?, default) {
            (Some(value), _) => value,
            (None, Some(default)) => default,
            (None, None) => self.metadata.f32(&key)?,
        };
        if value.is_finite() && value > 0.0 {
            Ok(value)
        } else {
            Err(Error::key(&key, format!("is {value}; a finite number above 0 is needed")))
        }
    }

    fn unsupported(&self, name: &str, problem: &str) -> Error {
        Error::unsupported(Place::Key(self.name(name)), problem)
    }
}
