//! Many conversations with one model at once.
//!
//! ```text
//! submit ─► bounded queue ─► worker: one pass for all ─► replies
//!                              │  ▲
//!                       KV pages under one budget, shared prefixes
//! ```
//! One thread drives the model. Every pass has a row for each running stream, some
//! drafts of what comes next, and a slice of the prompts that wait. Neither the company in a
//! pass nor prefixes nor drafts change a bit of an answer.

mod admit;
mod dedup;
mod draft;
mod draft_costs;
mod draft_model;
mod embed;
mod memory;
mod pass;
mod pooling;
mod prefill;
mod prefix;
mod progress;
mod queue;
mod reply;
mod request;
mod rerank;
mod sequence;
mod stats;
mod stream;
mod worker;

#[cfg(test)]
mod queue_tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

#[doc(hidden)]
pub use embed::hidden_states;
pub use embed::{EmbedOptions, Embedding};
pub use memory::MemoryEstimate;
pub use pooling::Pooling;
pub use progress::PromptProgress;
pub use reply::{BlockingIter, Pending, Reply, WholeReply};
pub use request::Request;
pub use rerank::Score;
pub use stats::EngineStats;

use crate::error::{Bounded, Error, Result};
use crate::kv_cache::{KvBudget, KvType};
use crate::model::{ChatPrompt, Model};
use crate::session::{GenerateOptions, Piece, num_batch};
use crate::template::Chat;
use crate::tokenizer::EncodeOptions;

use draft_model::DraftModel;
use queue::{Limits, Queue, Refusal, Refused};
use request::{Input, Job, Outcome, Text};
use stream::Stream;
use worker::Worker;

/// What `queue.rs` and `stream.rs` build upon. `tests/orders` compiles the same
/// two files upon loom's versions of these, and runs them in every order of events.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
}

/// Events that a client may leave unread before its text pauses.
const BACKLOG: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How an engine works.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineOptions {
    /// Positions of a conversation whose request names none. Default: as for a
    /// session.
    pub num_ctx: Option<usize>,
    /// Bytes of keys and values in all. Default: four conversations of `num_ctx`.
    pub kv_bytes: Option<usize>,
    /// How keys and values are stored. Default: [`KvType::I16`].
    pub kv_type: KvType,
    /// Rows of prompts per forward pass at most; a row of each running stream and its
    /// drafts come on top. Default: 512.
    pub num_batch: Option<usize>,
    /// Requests worked on at the same time at most. Default: 32.
    pub max_running: usize,
    /// Requests that may wait; further ones are refused. Default: 512.
    pub max_queue: usize,
    /// Whether what ended requests computed is kept for others, as long as the memory
    /// is not needed. Default: true.
    pub keep_prefixes: bool,
    /// Whether tokens are drafted from what a text already has and checked in one pass
    /// (speculative decoding). Default: true.
    pub speculate: bool,
}

impl EngineOptions {
    setters! {
        with_num_ctx(num_ctx: impl Into<Option<usize>>);
        with_kv_bytes(kv_bytes: impl Into<Option<usize>>);
        with_kv_type(kv_type: KvType);
        with_num_batch(num_batch: impl Into<Option<usize>>);
        with_max_running(max_running: usize);
        with_max_queue(max_queue: usize);
        with_keep_prefixes(keep_prefixes: bool);
        with_speculate(speculate: bool);
    }
}

impl Default for EngineOptions {
    fn default() -> Self {
        EngineOptions {
            num_ctx: None,
            kv_bytes: None,
            kv_type: KvType::default(),
            num_batch: None,
            max_running: 32,
            max_queue: 512,
            keep_prefixes: true,
            speculate: true,
        }
    }
}

/// The options, with nothing left open.
#[derive(Debug, Clone)]
struct Parts {
    kv_type: KvType,
    num_batch: usize,
    max_running: usize,
    keep_prefixes: bool,
    speculate: bool,
}

/// Serves many conversations with one model; threads and tasks share it by cloning,
/// which is cheap.
///
/// Dropping the last clone ends what is running: those replies end with
/// [`Error::Closed`].
///
/// ```
/// use tramontane::{Engine, GenerateOptions};
/// let engine = Engine::new(&tramontane::Model::open("models/storyteller-q4_k_m.gguf")?, &Default::default())?;
/// let options = GenerateOptions::default().with_num_predict(8);
/// let mut first = engine.generate("Once upon a time", &options)?;
/// let second = engine.generate("One day", &options)?;
/// // Both are on their way. One as it comes:
/// for piece in first.blocking_iter() {
///     print!("{}", piece?.text);
/// }
/// // The other as a whole:
/// let completion = second.wait()?;
/// println!("{} {:?}", completion.text, completion.summary.finish_reason);
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Clone)]
pub struct Engine(Arc<Shared>);

/// What the clones of an engine share.
struct Shared {
    model: Model,
    queue: Queue<Job, Piece, Outcome>,
    budget: Arc<KvBudget>,
    stats: Arc<Mutex<EngineStats>>,
    num_ctx: usize,
    options: Parts,
    worker: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the worker.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a length of 0, [`Error::Limit`] if the system gives no
    /// thread.
    pub fn new(model: &Model, options: &EngineOptions) -> Result<Self> {
        Engine::start(model, None, options)
    }

    /// An engine that has a smaller model of the same vocabulary draft tokens where a
    /// text has nothing to look up. It pays where the drafts are often right and the
    /// draft model takes a small part of the model's time; answers stay the same.
    ///
    /// # Errors
    /// As [`new`](Engine::new), and [`Error::Misuse`] for another vocabulary.
    pub fn with_draft(model: &Model, draft: &Model, options: &EngineOptions) -> Result<Self> {
        Engine::start(model, Some(draft), options)
    }

    fn start(model: &Model, draft: Option<&Model>, options: &EngineOptions) -> Result<Self> {
        let num_ctx = model.num_ctx(options.num_ctx)?;
        draft.map_or(Ok(()), Model::check_generates)?;
        let parts = Parts {
            kv_type: options.kv_type,
            num_batch: num_batch(options.num_batch)?,
            max_running: options.max_running.max(1),
            keep_prefixes: options.keep_prefixes,
            speculate: options.speculate,
        };
        let budget = KvBudget::new(memory::kv_limit(model, options)?);
        let queue = NonZeroUsize::new(options.max_queue).unwrap_or(NonZeroUsize::MIN);
        let (queue, receiver) = queue::queue(Limits { queue, backlog: BACKLOG });
        let stats = Arc::<Mutex<EngineStats>>::default();
        let kv_type = parts.kv_type;
        let draft = draft.map(|draft| DraftModel::new(draft, model, budget.clone(), kv_type));
        let draft = draft.transpose()?;
        let worker = Worker::new(
            model.clone(),
            draft,
            parts.clone(),
            receiver,
            budget.clone(),
            stats.clone(),
        );
        let thread = std::thread::Builder::new().name("tramontane-engine".into());
        let worker =
            thread.spawn(|| worker.run()).map_err(|_| Error::limit(Bounded::Threads, 1, 0))?;
        let (model, worker) = (model.clone(), Some(worker));
        let shared = Shared { model, queue, budget, stats, num_ctx, options: parts, worker };
        Ok(Engine(Arc::new(shared)))
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.0.model
    }

    /// Hands in a request. What can be known to be wrong is refused here and now;
    /// everything else is an error of the reply.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an empty prompt, tokens outside the vocabulary or
    /// impossible options; [`Error::Limit`] for a prompt that does not fit its context,
    /// or a request that alone needs more than [`EngineOptions::kv_bytes`];
    /// [`Error::QueueFull`].
    pub fn submit(&self, request: Request) -> Result<Reply> {
        let text = Text::new(self.model(), request, self.0.num_ctx)?;
        self.check_memory(text.positions())?;
        let (seed, progress) = (text.answer.seed(), text.progress.clone());
        Ok(Reply::new(self.hand_in(Job::Generate(Box::new(text)))?, seed, progress))
    }

    /// [`submit`](Engine::submit) of plain text to continue (control tokens in it are
    /// text), after the vocabulary's BOS.
    ///
    /// # Errors
    /// As [`submit`](Engine::submit).
    pub fn generate(&self, prompt: &str, options: &GenerateOptions) -> Result<Reply> {
        let tokens = self.model().tokenizer().encode(prompt, EncodeOptions::default());
        self.submit(Request::new(tokens, options.clone()))
    }

    /// [`submit`](Engine::submit) of a conversation, by the model's template; a last message
    /// of the assistant is continued. What an earlier turn computed is found again, as far
    /// as the template repeats it: see [`Session::chat`](crate::Session::chat).
    ///
    /// # Errors
    /// [`Error::Template`], and as [`submit`](Engine::submit).
    pub fn chat(&self, chat: &Chat, options: &GenerateOptions) -> Result<Reply> {
        let ChatPrompt { tokens, continues, .. } = self.model().chat_prompt(chat)?;
        self.submit(Request::new(tokens, options.clone()).with_own_text(!continues))
    }

    /// Asks for the vector of a text. It is computed in passes with everything else. Of
    /// `options` the batch and the KV type are the engine's own.
    ///
    /// # Errors
    /// As [`Model::embed`], and [`Error::QueueFull`].
    pub fn embed(&self, tokens: &[u32], options: &EmbedOptions) -> Result<Pending<Embedding>> {
        let input = Input::new(self.model(), tokens, options, self.0.num_ctx)?;
        self.check_memory(input.tokens.len())?;
        let stream = self.hand_in(Job::Embed(Box::new(input)))?;
        Ok(Pending::new(stream, |outcome| match outcome {
            Outcome::Embedding(embedding) => Some(embedding),
            _ => None,
        }))
    }

    /// Asks for the relevance of `document` to `query`, of a reranker. Of `options` the batch
    /// and the KV type are the engine's own.
    ///
    /// # Errors
    /// As [`Model::rerank`], and [`Error::QueueFull`].
    pub fn rerank(
        &self,
        query: &str,
        document: &str,
        options: &EmbedOptions,
    ) -> Result<Pending<Score>> {
        let model = self.model();
        let num_ctx = model.embed_ctx(Some(options.num_ctx.unwrap_or(self.0.num_ctx)))?;
        let pair = model.pair(query, document, num_ctx, options.truncate)?;
        let input = Input::pair(model, pair)?;
        self.check_memory(input.tokens.len())?;
        let stream = self.hand_in(Job::Embed(Box::new(input)))?;
        Ok(Pending::new(stream, |outcome| match outcome {
            Outcome::Score(score, tokens) => Some(Score { score, tokens }),
            _ => None,
        }))
    }

    /// Saves what is computed of `tokens`, the beginning of a prompt, to a file; the result
    /// is their number. They must be in the cache: generate from them first. The
    /// first save or restore hashes the model's weights, about a second per 2 GB and
    /// thread; streams wait meanwhile.
    ///
    /// # Errors
    /// [`Error::QueueFull`].
    pub fn save_prefix(&self, tokens: &[u32], path: impl Into<PathBuf>) -> Result<Pending<usize>> {
        self.prefix(Job::Save { tokens: tokens.to_vec(), path: path.into() })
    }

    /// Takes a saved prefix into the cache; the result is the number of its tokens, or an
    /// error for a damaged file, one of another model or of another KV type.
    ///
    /// # Errors
    /// [`Error::QueueFull`].
    pub fn restore_prefix(&self, path: impl Into<PathBuf>) -> Result<Pending<usize>> {
        self.prefix(Job::Restore(path.into()))
    }

    /// Drops what is kept of ended requests, after all that was handed in before.
    ///
    /// # Errors
    /// [`Error::QueueFull`].
    pub fn forget_prefixes(&self) -> Result<Pending<()>> {
        let stream = self.hand_in(Job::Forget)?;
        Ok(Pending::new(stream, |outcome| matches!(outcome, Outcome::Prefix(_)).then_some(())))
    }

    fn prefix(&self, job: Job) -> Result<Pending<usize>> {
        Ok(Pending::new(self.hand_in(job)?, |outcome| match outcome {
            Outcome::Prefix(tokens) => Some(tokens),
            _ => None,
        }))
    }

    /// What was done so far, and what is held.
    pub fn stats(&self) -> EngineStats {
        let mut stats = *self.0.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.waiting = self.0.queue.waiting();
        (stats.kv_bytes, stats.kv_reserved) = self.0.budget.used_and_promised();
        stats
    }

    fn check_memory(&self, positions: usize) -> Result<()> {
        let Parts { kv_type, num_batch, .. } = self.0.options;
        let needed =
            memory::kv_bytes(&self.model().transformer().plan, positions, kv_type, num_batch);
        let allowed = self.0.budget.limit();
        if needed > allowed {
            return Err(Error::limit(Bounded::KvMemory, needed, allowed));
        }
        Ok(())
    }

    fn hand_in(&self, job: Job) -> Result<Stream<Piece, Outcome>> {
        self.0.queue.submit(job).map_err(|Refused { reason, .. }| match reason {
            Refusal::QueueFull { waiting, allowed } => Error::QueueFull { waiting, allowed },
            Refusal::Closed => Error::Closed,
        })
    }
}

impl fmt::Debug for Engine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Engine").field("stats", &self.stats()).finish_non_exhaustive()
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        self.queue.close();
        if let Some(worker) = self.worker.take() {
            // A panic of the worker was reported by its thread; its streams have ended.
            let _ = worker.join();
        }
    }
}
