//! A network ready to run: its configuration, weights and threads together.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::gguf::Gguf;
use crate::kernel::pool::Pool;
use crate::kernel::threads::default_threads;
use crate::kv_cache::{KvBudget, KvCache, KvShape, KvType};
use crate::simd::Isa;

use super::config::Config;
use super::weights::{Directory, Weights};
use super::{ModelOptions, arch};

/// A network ready to run: shapes checked, nothing copied but norms.
#[derive(Debug)]
pub(crate) struct Transformer {
    pub config: Config,
    pub weights: Weights,
    pub pool: Pool,
    pub isa: Isa,
}

impl Transformer {
    pub fn new(file: &Gguf, options: &ModelOptions) -> Result<Self> {
        let (config, directory) = Transformer::read(file, options)?;
        let weights = Weights::new(directory, &config)?;
        let isa = options.isa.map_or_else(Isa::from_env, Ok)?;
        let pool = Pool::new(options.threads.unwrap_or_else(default_threads))?;
        Ok(Transformer { config, weights, pool, isa })
    }

    /// What the file says of the network, and where its tensors are.
    pub fn read<'f>(file: &'f Gguf, options: &ModelOptions) -> Result<(Config, Directory<'f>)> {
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
        let mut config = arch::plan(metadata, n_vocab, rope_factors.as_deref(), None)?;
        if let Some(window) = options.sliding_window {
            set_window(&mut config.windows, window)?;
        }
        Ok((config, directory))
    }

    /// An empty cache for up to `capacity` positions.
    pub fn cache(&self, capacity: usize, kv_type: KvType) -> KvCache {
        KvCache::new(self.kv_shape(kv_type), capacity)
    }

    /// The same, with memory that is part of `budget`.
    pub fn cache_within(
        &self,
        budget: &Arc<KvBudget>,
        capacity: usize,
        kv_type: KvType,
    ) -> KvCache {
        KvCache::within(self.kv_shape(kv_type), capacity, budget.clone())
    }

    /// The shape of its caches.
    pub fn kv_shape(&self, kv_type: KvType) -> Arc<KvShape> {
        Arc::new(self.config.kv_shape(kv_type))
    }
}

/// Gives layers the sliding window that the caller asked for: those that have one, or all
/// if none has.
///
/// # Errors
/// [`Error::Misuse`] for 0.
fn set_window(windows: &mut [Option<usize>], window: usize) -> Result<()> {
    if window == 0 {
        return Err(Error::misuse("option \"sliding_window\" must be at least 1"));
    }
    let all = windows.iter().all(Option::is_none);
    windows.iter_mut().filter(|own| all || own.is_some()).for_each(|own| *own = Some(window));
    Ok(())
}
