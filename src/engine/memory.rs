//! What a model and its engine will take of the memory, before they do.

use crate::error::Result;
use crate::gguf::Gguf;
use crate::kernel::threads::default_threads;
use crate::kv_cache::KvType;
use crate::model::plan::Plan;
use crate::model::transformer::Transformer;
use crate::model::{Model, ModelOptions, Network};
use crate::session::{num_batch, num_ctx};

use super::EngineOptions;

/// Bytes of memory that an engine will take.
///
/// Opening a model only maps its file, in milliseconds and without reading weights;
/// what is computed here comes as work comes.
///
/// ```
/// use tramontane::{Gguf, MemoryEstimate};
/// // Needs neither vocabulary nor threads.
/// let file = Gguf::open("models/storyteller-q4_k_m.gguf")?;
/// let estimate = MemoryEstimate::of_file(&file, &Default::default(), &Default::default())?;
/// assert_eq!(estimate.kv, 4 * estimate.kv_per_conversation);
/// assert!(estimate.weights > 0 && estimate.total() < 200_000_000);
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct MemoryEstimate {
    /// Weights in the mapped file: pages that the system shares between processes and
    /// takes back when memory is short (which makes the next pass slow).
    pub weights: usize,
    /// Keys and values at most: the engine's budget, [`EngineOptions::kv_bytes`].
    pub kv: usize,
    /// Keys and values of one conversation of [`EngineOptions::num_ctx`] positions at most.
    pub kv_per_conversation: usize,
    /// Activations, logits and unpacked weights of one pass of full size, at most.
    pub scratch: usize,
    /// The vocabulary, about.
    pub vocabulary: usize,
}

/// Bytes per token of a vocabulary: its text in the map of pieces, and what it merges with.
/// Measured with Gemma 3's 262,144.
const PER_TOKEN: usize = 100;

impl MemoryEstimate {
    /// The estimate of an engine for `model`.
    ///
    /// # Errors
    /// As [`Engine::new`](super::Engine::new).
    pub fn of(model: &Model, options: &EngineOptions) -> Result<Self> {
        let size = dimensions(model.context_length(), options)?;
        let plan = &model.transformer().plan;
        Ok(MemoryEstimate::new(model.file(), plan, size, model.threads(), options))
    }

    /// The estimate of an engine for the model in `file`, which is not made ready to run.
    ///
    /// # Errors
    /// As [`Model::from_gguf`] for the network, and [`Engine::new`](super::Engine::new).
    pub fn of_file(file: &Gguf, model: &ModelOptions, options: &EngineOptions) -> Result<Self> {
        let Network { plan, context_length, .. } = Transformer::read(file, model)?;
        let threads = model.threads.unwrap_or_else(default_threads);
        let size = dimensions(context_length, options)?;
        Ok(MemoryEstimate::new(file, &plan, size, threads, options))
    }

    fn new(
        file: &Gguf,
        plan: &Plan,
        (positions, rows): (usize, usize),
        threads: usize,
        options: &EngineOptions,
    ) -> Self {
        // An encoder reads a text in one pass, however long it is.
        let rows = if plan.is_encoder() { rows.max(positions) } else { rows };
        let kv_per_conversation = kv_bytes(plan, positions, options.kv_type, rows);
        MemoryEstimate {
            weights: file.tensors().iter().map(|tensor| tensor.bytes().len()).sum(),
            kv: options.kv_bytes.unwrap_or_else(|| kv_per_conversation.saturating_mul(4)),
            kv_per_conversation,
            scratch: plan.scratch_bytes(rows, options.max_running, threads),
            vocabulary: vocabulary_bytes(file),
        }
    }

    /// All of it: weights, keys and values, scratch, the vocabulary.
    pub fn total(&self) -> usize {
        let parts = [self.weights, self.kv, self.scratch, self.vocabulary];
        parts.into_iter().fold(0, usize::saturating_add)
    }
}

fn vocabulary_bytes(file: &Gguf) -> usize {
    let tokens = file.metadata().opt_strings("tokenizer.ggml.tokens").ok().flatten();
    tokens.map_or(0, |tokens| tokens.len().saturating_mul(PER_TOKEN))
}

/// Positions of a conversation and rows of a pass.
fn dimensions(context_length: usize, options: &EngineOptions) -> Result<(usize, usize)> {
    Ok((num_ctx(context_length, options.num_ctx)?, num_batch(options.num_batch)?))
}

/// The budget of keys and values: by default that of four conversations.
pub(super) fn kv_limit(model: &Model, options: &EngineOptions) -> Result<usize> {
    let (positions, rows) = dimensions(model.context_length(), options)?;
    let plan = &model.transformer().plan;
    let four = || kv_bytes(plan, positions, options.kv_type, rows).saturating_mul(4);
    Ok(options.kv_bytes.unwrap_or_else(four))
}

/// The most that one conversation of `positions` takes.
pub(super) fn kv_bytes(plan: &Plan, positions: usize, kv_type: KvType, num_batch: usize) -> usize {
    plan.kv_shape(kv_type, false).bytes_for(positions, rows_ahead(num_batch))
}

/// Positions ahead of a stream for which memory is made ready; more than the length of a
/// draft.
pub(super) const AHEAD: usize = 128;

/// So far ahead of what it has computed a sequence holds memory.
pub(super) fn rows_ahead(num_batch: usize) -> usize {
    num_batch.max(AHEAD)
}
