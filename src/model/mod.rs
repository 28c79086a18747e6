//! The network: configuration, weights, forward pass.

pub(crate) mod arch;
pub(crate) mod config;
pub(crate) mod forward;
mod weights;

use std::sync::Arc;

use crate::error::Result;
use crate::gguf::Gguf;
use crate::kernel::pool::Pool;
use crate::kernel::threads::default_threads;
use crate::kv_cache::{KvCache, KvShape, KvType};
use crate::simd::Isa;

use config::Config;
use weights::{Directory, Weights};

/// How to run a model. `Default` is right for most uses.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ModelOptions {
    /// Threads per forward pass. Default: the physical cores that the affinity
    /// mask and the cgroup quota allow.
    pub threads: Option<usize>,
    /// The instruction set. Default: `TRAMONTANE_ISA` if set, else the CPU's best.
    pub isa: Option<Isa>,
    /// The sliding window for files that do not name one (Mistral 7B v0.1: 4096).
    /// Position i sees j with i − j < window. Default: full attention.
    pub sliding_window: Option<usize>,
}

/// A network ready to run: shapes checked, nothing copied but norms.
#[derive(Debug)]
pub(crate) struct Transformer {
    pub config: Config,
    weights: Weights,
    pool: Pool,
    isa: Isa,
}

impl Transformer {
    pub fn new(file: &Gguf, options: &ModelOptions) -> Result<Self> {
        let metadata = file.metadata();
        // First, so that another architecture is named instead of its tensors.
        metadata.str("general.architecture")?;
        let mut directory = Directory::new(file);
        let rope_factors = directory.rope_factors()?;
        let n_vocab = match directory.token_embd() {
            Ok(embd) => embd.rows(),
            Err(error) => {
                arch::plan(metadata, 1, rope_factors.as_deref(), None)?;
                return Err(error);
            }
        };
        let config =
            arch::plan(metadata, n_vocab, rope_factors.as_deref(), options.sliding_window)?;
        let weights = Weights::new(directory, &config)?;
        let isa = options.isa.map_or_else(Isa::from_env, Ok)?;
        let pool = Pool::new(options.threads.unwrap_or_else(default_threads))?;
        Ok(Transformer { config, weights, pool, isa })
    }

    /// An empty cache for up to `capacity` positions.
    pub fn cache(&self, capacity: usize, kv_type: KvType) -> KvCache {
        let shape = KvShape {
            windows: self.config.windows.clone(),
            kv_heads: self.config.kv_heads,
            head_dim: self.config.head_dim,
            kv_type,
        };
        KvCache::new(Arc::new(shape), capacity)
    }

    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    pub fn isa(&self) -> Isa {
        self.isa
    }
}
#[cfg(test)]
mod tests_tmp;
