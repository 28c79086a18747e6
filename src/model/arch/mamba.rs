//! Mamba-2 layers by their usual keys and names.

use crate::error::{Error, Result};
use crate::model::plan::{HeadNorm, Heads, Mamba2};

use super::Source;
use super::decoder::{Sizes, blk};
use super::keys::{Keys, limit};

/// Sizes of recurrent heads.
#[derive(Debug, Clone, Copy)]
pub(super) struct MambaSizes {
    pub key_heads: usize,
    pub key_dim: usize,
    pub value_heads: usize,
    pub value_dim: usize,
    pub taps: usize,
}

impl MambaSizes {
    pub fn read(keys: &Keys<'_>) -> Result<Self> {
        let key_heads = keys.required("ssm.group_count", 1..=limit::HEADS)?;
        let value_heads = keys.required("ssm.time_step_rank", 1..=limit::HEADS)?;
        let inner = keys.required("ssm.inner_size", 1..=limit::WIDTH)?;
        for (name, all, part) in [
            ("ssm.group_count", value_heads, key_heads),
            ("ssm.time_step_rank", inner, value_heads),
        ] {
            if all % part != 0 {
                let problem = format!("is {part}, which does not divide {all}");
                return Err(Error::key(&keys.name(name), problem));
            }
        }
        let value_dim = inner / value_heads;
        if value_dim > limit::STATE {
            let problem = format!("is {inner}, {value_dim} for each of {value_heads} heads");
            return Err(keys.unsupported("ssm.inner_size", &problem));
        }
        let key_dim = keys.required("ssm.state_size", 1..=limit::STATE)?;
        if u64::from(key_dim) * u64::from(inner) > limit::STATE_FLOATS {
            let problem = format!("is {key_dim}: a state of {inner} times as many numbers");
            return Err(keys.unsupported("ssm.state_size", &problem));
        }
        Ok(MambaSizes {
            key_heads: key_heads as usize,
            key_dim: key_dim as usize,
            value_heads: value_heads as usize,
            value_dim: value_dim as usize,
            taps: keys.required("ssm.conv_kernel", 2..=limit::TAPS)? as usize,
        })
    }

    /// Width of all value heads together.
    pub fn inner(&self) -> usize {
        self.value_heads * self.value_dim
    }

    /// Width of all key heads together.
    pub fn keys(&self) -> usize {
        self.key_heads * self.key_dim
    }

    /// The heads; `key_head`: which key head a value head reads.
    pub fn heads(&self, key_head: impl Fn(usize) -> usize) -> Heads {
        let MambaSizes { key_heads, key_dim, value_heads, value_dim, .. } = *self;
        let key_head = (0..value_heads).map(key_head).collect();
        Heads { key_heads, key_dim, value_heads, value_dim, key_head }
    }
}

impl Source<'_> {
    /// A Mamba-2 layer.
    pub fn mamba2(
        &mut self,
        sizes: &Sizes,
        index: usize,
        mamba: &MambaSizes,
        state: usize,
    ) -> Result<Mamba2> {
        let (inner, heads) = (mamba.inner(), mamba.value_heads);
        let channels = inner + 2 * mamba.keys();
        let rows = [inner, channels, heads];
        let [gate, xbc, dt] = self.tensors.matrices(&blk(index, "ssm_in"), rows, sizes.dim)?;
        let mut flat = |part: &str, len| self.tensors.flat(&blk(index, part), len);
        let (a, d) = (flat("ssm_a", heads)?, flat("ssm_d", heads)?);
        let (dt_bias, norm) = (flat("ssm_dt.bias", heads)?, flat("ssm_norm.weight", inner)?);
        Ok(Mamba2 {
            heads: mamba.heads(|head| head / (heads / mamba.key_heads)),
            gate,
            xbc,
            dt,
            conv: self.tensors.conv(&blk(index, "ssm_conv1d"), mamba.taps, channels)?,
            a,
            dt_bias,
            d,
            norm: HeadNorm { weight: norm, epsilon: sizes.epsilon },
            output: self.tensors.matrix(&blk(index, "ssm_out"), sizes.dim, inner)?,
            state,
        })
    }
}
