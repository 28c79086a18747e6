//! What a model and its engine will take of the memory, before they do.

use crate::error::Result;
use crate::kv_cache::KvType;
use crate::model::Model;
use crate::session::num_batch;

use super::EngineOptions;

/// Bytes of memory that an engine will take.
///
/// Opening a model only maps its file, in milliseconds and without reading weights;
/// what is computed here comes as work comes.
///
/// ```
/// # #[cfg(feature = "builtin")] {
/// let model = tramontane::builtin()?;
/// let bill = tramontane::engine::MemoryBill::of(&model, &Default::default())?;
/// assert!(bill.weights > 0 && bill.kv > 0 && bill.total() < 200_000_000);
/// # }
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryBill {
    /// Weights in the mapped file: pages that the system shares between processes and
    /// takes back when memory is short (which makes the next pass slow).
    pub weights: usize,
    /// Keys and values at most: the budget.
    pub kv: usize,
    /// Activations, logits and unpacked weights of one pass of full size, at most.
    pub scratch: usize,
}

impl MemoryBill {
    /// The bill of an engine for `model`.
    ///
    /// # Errors
    /// As [`Engine::new`](super::Engine::new).
    pub fn of(model: &Model, options: &EngineOptions) -> Result<Self> {
        let num_batch = num_batch(options.num_batch)?;
        let tensors = model.file().tensors().iter();
        Ok(MemoryBill {
            weights: tensors.map(|tensor| tensor.bytes().len()).sum(),
            kv: kv_limit(model, options)?,
            scratch: scratch(model, num_batch, options.max_running),
        })
    }

    /// All of it.
    pub fn total(&self) -> usize {
        self.weights.saturating_add(self.kv).saturating_add(self.scratch)
    }
}

/// The budget of keys and values: four conversations if nobody says.
pub(super) fn kv_limit(model: &Model, options: &EngineOptions) -> Result<usize> {
    let (num_ctx, rows) = (model.num_ctx(options.num_ctx)?, num_batch(options.num_batch)?);
    let four = || kv_bytes(model, num_ctx, options.kv_type, rows).saturating_mul(4);
    Ok(options.kv_bytes.unwrap_or_else(four))
}

/// The most that one conversation of `positions` takes.
pub(super) fn kv_bytes(
    model: &Model,
    positions: usize,
    kv_type: KvType,
    num_batch: usize,
) -> usize {
    model.transformer().kv_shape(kv_type).bytes_for(positions, rows_ahead(num_batch))
}

/// Positions ahead of a stream for which memory is made ready; more than a pass checks
/// guesses.
pub(super) const AHEAD: usize = 128;

/// So far ahead of what it has computed a sequence holds memory.
pub(super) fn rows_ahead(num_batch: usize) -> usize {
    num_batch.max(AHEAD)
}

/// Buffers of [`State`](crate::model::forward::State), and of every thread.
fn scratch(model: &Model, rows: usize, streams: usize) -> usize {
    let config = &model.transformer().config;
    let widest = config.dim.max(config.q_dim()).max(config.ffn_dim);
    // The residual stream, the input of a product, q, k, v and the gate's output in f32;
    // the input quantized, twice (in rows and side by side), with scales and sums.
    let floats = config.dim + widest + config.q_dim() + 2 * config.kv_dim() + config.ffn_dim;
    let activations = rows.saturating_mul(4 * floats + 3 * widest);
    let logits = streams.saturating_mul(8 * 4 * config.n_vocab);
    // A strip of the product and of its other matrix; unpacked weights.
    let thread = rows.saturating_mul(2 * 32 * 4) + 40 * widest;
    let threads = thread.saturating_mul(model.threads());
    activations.saturating_add(logits).saturating_add(threads)
}
