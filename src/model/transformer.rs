//! A network ready to run: its plan and threads together.

use std::sync::Arc;

use crate::error::{Result, Warning};
use crate::gguf::Gguf;
use crate::kernel::pool::Pool;
use crate::kernel::threads::default_threads;
use crate::kv_cache::{KvBudget, KvCache, KvShape, KvType};
use crate::simd::Isa;

use super::ModelOptions;
use super::arch::{Network, ollama};
use super::plan::Plan;

/// A network ready to run: shapes checked, nothing copied but norms and biases.
#[derive(Debug)]
pub(crate) struct Transformer {
    pub plan: Plan,
    /// Positions that the model was trained for.
    pub context_length: usize,
    /// What is odd about the file's keys of the network.
    pub warnings: Vec<Warning>,
    pub pool: Pool,
    pub isa: Isa,
}

impl Transformer {
    pub fn new(file: &Gguf, options: &ModelOptions) -> Result<Self> {
        let Network { plan, context_length, warnings } = Transformer::read(file, options)?;
        let isa = options.isa.map_or_else(Isa::from_env, Ok)?;
        let pool = Pool::new(options.threads.unwrap_or_else(default_threads))?;
        Ok(Transformer { plan, context_length, warnings, pool, isa })
    }

    /// What the file and the options say of the network.
    pub fn read(file: &Gguf, options: &ModelOptions) -> Result<Network> {
        let mut network = ollama::read(file)?;
        if let Some(window) = options.sliding_window {
            network.plan.set_window(window)?;
        }
        Ok(network)
    }

    /// An empty cache for a context of `num_ctx` positions.
    pub fn cache(&self, num_ctx: usize, kv_type: KvType) -> KvCache {
        KvCache::new(self.kv_shape(kv_type, self.plan.is_long(num_ctx)), num_ctx)
    }

    /// The same, with memory that is part of `budget`.
    pub fn cache_within(&self, budget: &Arc<KvBudget>, num_ctx: usize, kv_type: KvType) -> KvCache {
        let shape = self.kv_shape(kv_type, self.plan.is_long(num_ctx));
        KvCache::within(shape, num_ctx, budget.clone())
    }

    /// The shape of its caches. `long_rope`: whether for long contexts, if it matters.
    pub fn kv_shape(&self, kv_type: KvType, long_rope: bool) -> Arc<KvShape> {
        Arc::new(self.plan.kv_shape(kv_type, long_rope))
    }
}
