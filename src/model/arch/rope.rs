//! Rotary frequencies from metadata.
//!
//! ```text
//! frequency[i] = base^(−2i / n_rot) / factor[i]   and then, by rope.scaling.type:
//! linear         / scaling.factor
//! yarn           / scaling.factor for the slow pairs, as it is for the fast ones, a ramp
//!                between; cosines and sines × (0.1 · ln scaling.factor + 1)
//! ```
//! YaRN: Peng et al. 2023.

use std::f64::consts::PI;

use crate::error::{Error, Result};
use crate::kernel::rope::{Pairing, Rope};

use super::keys::{Keys, limit};

impl Keys<'_> {
    /// How many values of a head rotate; the rest of it passes as it is.
    pub fn n_rot(&self, head_dim: usize) -> Result<usize> {
        self.n_rot_by("rope.dimension_count", head_dim)
    }

    /// The same by another key.
    pub fn n_rot_by(&self, name: &str, head_dim: usize) -> Result<usize> {
        let most = u32::try_from(head_dim).unwrap_or(u32::MAX);
        let n_rot = self.optional(name, 2..=most)?.unwrap_or(most);
        if !n_rot.is_multiple_of(2) {
            let problem = format!("is {n_rot}; values are rotated in pairs");
            return Err(Error::key(&self.name(name), problem));
        }
        Ok(n_rot as usize)
    }

    /// Base of the frequencies.
    pub fn freq_base(&self) -> Result<f32> {
        self.positive("rope.freq_base", Some(10_000.0))
    }

    /// The rotation of layers with a window, whose base may be another one, and which have
    /// no scaling.
    pub fn window_rope(&self, pairing: Pairing, n_rot: usize, default_base: f32) -> Result<Rope> {
        let base = self.positive("rope.freq_base_swa", Some(default_base))?;
        Ok(plain(pairing, frequencies(f64::from(base), n_rot, None)))
    }

    /// The rotation of `n_rot` values. `factors`: `[n_rot / 2]`.
    pub fn rope(&self, pairing: Pairing, n_rot: usize, factors: Option<&[f32]>) -> Result<Rope> {
        self.rope_with(pairing, n_rot, factors, Ramp::Rounded)
    }

    /// The same, with another ramp of YaRN.
    pub fn rope_with(
        &self,
        pairing: Pairing,
        n_rot: usize,
        factors: Option<&[f32]>,
        ramp: Ramp,
    ) -> Result<Rope> {
        let base = f64::from(self.freq_base()?);
        let mut frequencies = frequencies(base, n_rot, factors);
        let mut attention_factor = f64::from(self.positive("rope.scaling.attn_factor", Some(1.0))?);
        match self.metadata.opt_str(&self.name("rope.scaling.type"))? {
            Some("none") => {}
            None | Some("linear") => {
                let old = self.positive("rope.scale_linear", Some(1.0))?;
                let factor = f64::from(self.positive("rope.scaling.factor", Some(old))?);
                frequencies.iter_mut().for_each(|frequency| *frequency /= factor);
            }
            Some("yarn") => {
                let yarn = self.yarn(base, n_rot, ramp)?;
                let of_pair = frequencies.iter_mut().enumerate();
                of_pair.for_each(|(i, frequency)| *frequency *= yarn.of_pair(i));
                attention_factor *= yarn.attention_factor;
            }
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                let problem = format!(
                    "{shown:?} is not supported, only \"linear\", \"yarn\" and \"none\" are"
                );
                return Err(self.unsupported("rope.scaling.type", &problem));
            }
        }
        Ok(Rope { attention_factor, ..plain(pairing, frequencies) })
    }

    /// Positions that a model with a scaling was trained for before.
    pub fn original_context(&self) -> Result<usize> {
        let name = "rope.scaling.original_context_length";
        Ok(self.required(name, 1..=limit::CONTEXT)? as usize)
    }

    fn yarn(&self, base: f64, n_rot: usize, ramp: Ramp) -> Result<Yarn> {
        let factor = f64::from(self.positive("rope.scaling.factor", None)?);
        let original = self.original_context()? as f64;
        let bound = |name: &str, default: f32| -> Result<f64> {
            let turns = f64::from(self.positive(name, Some(default))?);
            Ok(n_rot as f64 * (original / (2.0 * PI * turns)).ln() / (2.0 * base.ln()))
        };
        let fast = bound("rope.scaling.yarn_beta_fast", 32.0)?;
        let slow = bound("rope.scaling.yarn_beta_slow", 1.0)?;
        let (fast, slow) = match ramp {
            Ramp::Rounded => (fast.floor(), slow.ceil()),
            Ramp::Exact => (fast, slow),
        };
        let (low, high) = (fast.max(0.0), slow.min(n_rot as f64 - 1.0));
        let log = self.finite("rope.scaling.yarn_log_multiplier", 0.0)?;
        let magnitude = |multiplier: f64| 0.1 * multiplier * factor.ln() + 1.0;
        let divisor = if log == 0.0 { 1.0 } else { magnitude(f64::from(log)) };
        let attention_factor = magnitude(1.0) / divisor;
        if !(low.is_finite() && high.is_finite() && attention_factor.is_finite()) {
            let problem = "does not give finite frequencies with base and factor";
            return Err(Error::key(&self.name("rope.scaling.original_context_length"), problem));
        }
        Ok(Yarn { factor, low, high, attention_factor })
    }
}

/// The pairs between which YaRN's ramp lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ramp {
    /// Whole numbers, the ramp as long as it gets so.
    Rounded,
    /// As they are computed.
    Exact,
}

/// `base^(−2i / n_rot) / factor[i]`
fn frequencies(base: f64, n_rot: usize, factors: Option<&[f32]>) -> Vec<f64> {
    let of_pair = |i: usize| {
        let factor = factors.map_or(1.0, |factors| f64::from(factors[i]));
        base.powf(-2.0 * i as f64 / n_rot as f64) / factor
    };
    (0..n_rot / 2).map(of_pair).collect()
}

fn plain(pairing: Pairing, frequencies: Vec<f64>) -> Rope {
    Rope { pairing, frequencies, long: None, attention_factor: 1.0, temperature: None }
}

/// Pairs up to `low` keep their frequency, those from `high` on are slowed by `factor`.
struct Yarn {
    factor: f64,
    low: f64,
    high: f64,
    attention_factor: f64,
}

impl Yarn {
    /// What the frequency of pair `i` is multiplied by.
    fn of_pair(&self, i: usize) -> f64 {
        let ramp = (i as f64 - self.low) / (self.high - self.low).max(0.001);
        let kept = 1.0 - ramp.clamp(0.0, 1.0);
        (1.0 - kept) / self.factor + kept
    }
}
