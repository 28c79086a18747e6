//! What a model and its engine will take of the memory, before they do.

use crate::error::Result;
use crate::gguf::{Array, Gguf, Strings, Value};
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
/// what is computed here comes as work comes. Of a table whose rows are read one by one, such as
/// the embedding beside an output matrix of its own, a short run touches a small part, but each
/// page comes with its neighbours, so it counts as a whole. What the process takes without a
/// model (code, stacks, its other work) is not in here: about 5 MB, once.
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
    /// The vocabulary, about: the metadata that it comes from, and what finds texts and merges.
    pub vocabulary: usize,
}

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
            weights: weight_bytes(file),
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

/// Bytes of all tensors that are read: those of vision, audio and drafting are not.
fn weight_bytes(file: &Gguf) -> usize {
    let read = file.tensors().iter().filter(|tensor| !tensor.is_of_another_part());
    read.map(|tensor| tensor.bytes().len()).sum()
}

/// What the tokenizer keeps, as it is built (see `tokenizer/vocab.rs` and `bpe.rs`): within 4 %
/// of the anonymous memory of the example `tokenize` with Llama 3's 128,256 tokens and 280,147
/// merges (27 MB), Qwen 2's (22 MB) and Llama 2's (3.5 MB).
fn vocabulary_bytes(file: &Gguf) -> usize {
    /// A text's entry in the map of pieces, and its text in an allocation of its own.
    const PIECE: usize = 24;
    const ALLOCATION: usize = 32;
    /// A pair of tokens and what becomes of them.
    const MERGE: usize = 16;
    let metadata = file.metadata();
    let strings = |key: &str| metadata.opt_strings(key).ok().flatten();
    let len = |key: &str| strings(key).map_or(0, Strings::len);
    let tokens = len("tokenizer.ggml.tokens");
    // The pieces again, each with its end and its kind, and with a score.
    let copies =
        strings("tokenizer.ggml.tokens").map_or(0, Strings::text_len).saturating_add(6 * tokens);
    [
        metadata.iter().map(|(_, value)| array_bytes(value)).sum(),
        copies,
        hash_map_bytes(tokens, PIECE),
        tokens.saturating_mul(ALLOCATION),
        hash_map_bytes(len("tokenizer.ggml.merges"), MERGE),
    ]
    .into_iter()
    .fold(0, usize::saturating_add)
}

/// A hash map's table: at most seven of eight entries are taken, and their number is a power of
/// two. Each has a byte beside it.
fn hash_map_bytes(len: usize, entry: usize) -> usize {
    match len {
        0 => 0,
        len => (len.saturating_mul(8) / 7).next_power_of_two().saturating_mul(entry + 1),
    }
}

/// What a value of the metadata takes in memory, if it is a list.
fn array_bytes(value: &Value) -> usize {
    let Value::Array(array) = value else { return 0 };
    match array {
        Array::U8(_) | Array::I8(_) | Array::Bool(_) => array.len(),
        Array::U16(_) | Array::I16(_) => 2 * array.len(),
        Array::U32(_) | Array::I32(_) | Array::F32(_) => 4 * array.len(),
        Array::U64(_) | Array::I64(_) | Array::F64(_) => 8 * array.len(),
        Array::String(strings) => strings.text_len().saturating_add(4 * strings.len()),
    }
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
