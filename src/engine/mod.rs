//! Many conversations with one model at once.
//!
//! ```text
//! submit ─► desk (bounded queue) ─► worker: one pass for all ─► streams of events
//!                                      │  ▲
//!                               KV pages under one budget, shared prefixes
//! ```
//! One thread drives the model. Every pass has a row for each running stream, some
//! guesses of what comes next, and a slice of the prompts that wait. What rides in a
//! pass, what was found and what was guessed never changes a bit of an answer.

mod admit;
mod bill;
mod costs;
mod desk;
mod draft;
mod draft_model;
mod embed;
mod pass;
mod pooling;
mod prefix;
mod request;
mod rhythm;
mod saved;
mod sequence;
mod stats;
mod stream;
mod worker;

#[cfg(test)]
mod desk_tests;

use std::fmt;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

pub use bill::MemoryBill;
pub use embed::{EmbedOptions, Embedding};
pub use pooling::Pooling;
pub use request::{Outcome, Reply, Request};
pub use stats::EngineStats;
pub use stream::{Canceller, End, Item, Stream};

use crate::error::{Error, Result};
use crate::kv_cache::{KvBudget, KvType};
use crate::model::Model;
use crate::session::{GenerateOptions, Piece, num_batch};
use crate::template::Chat;
use crate::tokenizer::EncodeOptions;

use desk::{Desk, Limits, Refusal, Refused};
use draft_model::DraftModel;
use request::{Input, Job, Text};
use worker::Worker;

/// What `desk.rs` and `stream.rs` build upon. `tests/orders` compiles the same
/// two files upon loom's versions of these, and runs them in every order of events.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
}

/// Events that a client may leave unread before its text pauses.
const BACKLOG: NonZeroUsize = NonZeroUsize::new(256).unwrap();

/// How an engine works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EngineOptions {
    /// Positions of a conversation whose request does not say. Default: as for a
    /// session.
    pub num_ctx: Option<usize>,
    /// Bytes of keys and values in all. Default: four conversations of `num_ctx`.
    pub kv_bytes: Option<usize>,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Rows of prompts per forward pass at most; a row of each running stream and its
    /// guesses come on top. Default: 512.
    pub num_batch: Option<usize>,
    /// Requests worked on at the same time at most. Default: 32.
    pub max_running: usize,
    /// Requests that may wait; further ones are refused. Default: 512.
    pub max_queue: usize,
    /// Whether what ended requests computed is kept for others, as long as the memory
    /// is not needed. Default: true.
    pub keep_prefixes: bool,
    /// Whether tokens are guessed ahead from what a text already has. Default: true.
    pub speculate: bool,
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

/// Serves many conversations with one model; threads and tasks may share it.
///
/// Dropping it ends what is running: those streams end with [`Error::Closed`].
///
/// ```
/// # #[cfg(feature = "builtin")] {
/// use tramontane::engine::{Engine, Item, Outcome};
/// let engine = Engine::new(&tramontane::builtin()?, &Default::default())?;
/// let options = tramontane::GenerateOptions { num_predict: Some(8), ..Default::default() };
/// let replies: Vec<_> = ["Once upon a time", "One day"]
///     .into_iter()
///     .map(|prompt| engine.generate(prompt, &options))
///     .collect::<Result<_, _>>()?;
/// for reply in replies {
///     for item in reply {
///         match item {
///             Item::Event(piece) => print!("{}", piece.text),
///             Item::End(Outcome::Done(summary)) => println!(" {:?}", summary.finish_reason),
///             Item::End(other) => println!(" {other:?}"),
///         }
///     }
/// }
/// # }
/// # Ok::<(), tramontane::Error>(())
/// ```
pub struct Engine {
    model: Model,
    desk: Desk<Job, Piece, Outcome>,
    budget: std::sync::Arc<KvBudget>,
    stats: std::sync::Arc<Mutex<EngineStats>>,
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

    /// An engine that has a smaller model of the same vocabulary guess ahead where a
    /// text has nothing to look up. It pays where the guesses are often right and the
    /// draft model takes a small part of the model's time; answers stay the same.
    ///
    /// # Errors
    /// As [`new`](Engine::new), and [`Error::Misuse`] for another vocabulary.
    pub fn with_draft(model: &Model, draft: &Model, options: &EngineOptions) -> Result<Self> {
        Engine::start(model, Some(draft), options)
    }

    fn start(model: &Model, draft: Option<&Model>, options: &EngineOptions) -> Result<Self> {
        let num_ctx = model.num_ctx(options.num_ctx)?;
        let parts = Parts {
            kv_type: options.kv_type,
            num_batch: num_batch(options.num_batch)?,
            max_running: options.max_running.max(1),
            keep_prefixes: options.keep_prefixes,
            speculate: options.speculate,
        };
        let budget = KvBudget::new(bill::kv_limit(model, options)?);
        let queue = NonZeroUsize::new(options.max_queue).unwrap_or(NonZeroUsize::MIN);
        let (desk, clerk) = desk::desk(Limits { queue, backlog: BACKLOG });
        let stats = std::sync::Arc::<Mutex<EngineStats>>::default();
        let kv_type = parts.kv_type;
        let draft = draft.map(|draft| DraftModel::new(draft, model, budget.clone(), kv_type));
        let draft = draft.transpose()?;
        let worker =
            Worker::new(model.clone(), draft, parts.clone(), clerk, budget.clone(), stats.clone());
        let thread = std::thread::Builder::new().name("tramontane-engine".into());
        let worker = thread.spawn(|| worker.run()).map_err(|_| Error::Limit {
            what: "threads",
            needed: 1,
            allowed: 0,
        })?;
        let (model, worker) = (model.clone(), Some(worker));
        Ok(Engine { model, desk, budget, stats, num_ctx, options: parts, worker })
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Hands in a request. What can be known to be wrong is refused here and now;
    /// everything else ends with exactly one [`Outcome`] of the reply.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an empty prompt, tokens outside the vocabulary or
    /// impossible options; [`Error::Limit`] for a prompt that does not fit its context,
    /// or a request that alone needs more than [`EngineOptions::kv_bytes`];
    /// [`Error::QueueFull`].
    pub fn submit(&self, request: Request) -> Result<Reply> {
        let text = Text::new(&self.model, request, self.num_ctx)?;
        self.check_memory(text.positions())?;
        self.hand_in(Job::Generate(Box::new(text)))
    }

    /// [`submit`](Engine::submit) of plain text to continue (control tokens in it are
    /// text), after the vocabulary's BOS.
    ///
    /// # Errors
    /// As [`submit`](Engine::submit).
    pub fn generate(&self, prompt: &str, options: &GenerateOptions) -> Result<Reply> {
        let encoding = EncodeOptions { bos: true, special: false };
        let tokens = self.model.tokenizer().encode(prompt, encoding);
        self.submit(Request::new(tokens, options.clone()))
    }

    /// [`submit`](Engine::submit) of a conversation, by the model's template. What an
    /// earlier turn computed is found again.
    ///
    /// # Errors
    /// [`Error::Template`], and as [`submit`](Engine::submit).
    pub fn chat(&self, chat: &Chat<'_>, options: &GenerateOptions) -> Result<Reply> {
        let tokens = self.model.chat_tokens(chat)?;
        let request = Request::new(tokens, options.clone());
        self.submit(Request { own_text: true, ..request })
    }

    /// Asks for the vector of a text; the reply has no events, only
    /// [`Outcome::Embedding`]. It is computed in passes with everything else. Of
    /// `options` the batch and the KV type are the engine's own.
    ///
    /// # Errors
    /// As [`Model::embed`], and [`Error::QueueFull`].
    pub fn embed(&self, tokens: &[u32], options: &EmbedOptions) -> Result<Reply> {
        let input = Input::new(&self.model, tokens, options, self.num_ctx)?;
        self.check_memory(input.tokens.len())?;
        self.hand_in(Job::Embed(Box::new(input)))
    }

    /// Saves what is computed of `tokens`, the beginning of a prompt, to a file: ends
    /// with [`Outcome::Prefix`]. It must be in the cache: generate from it first. The
    /// first save or restore hashes the model's weights, about a second per 2 GB and
    /// thread; streams wait meanwhile.
    ///
    /// # Errors
    /// [`Error::QueueFull`].
    pub fn save_prefix(&self, tokens: &[u32], path: impl Into<PathBuf>) -> Result<Reply> {
        self.hand_in(Job::Save { tokens: tokens.to_vec(), path: path.into() })
    }

    /// Takes a saved prefix into the cache: ends with [`Outcome::Prefix`], or with an
    /// error for a damaged file, one of another model or of another KV type.
    ///
    /// # Errors
    /// [`Error::QueueFull`].
    pub fn restore_prefix(&self, path: impl Into<PathBuf>) -> Result<Reply> {
        self.hand_in(Job::Restore(path.into()))
    }

    /// Drops what is kept of ended requests, after all that was handed in before.
    ///
    /// # Errors
    /// [`Error::QueueFull`].
    pub fn forget_prefixes(&self) -> Result<Reply> {
        self.hand_in(Job::Forget)
    }

    /// What was done so far, and what is held.
    pub fn stats(&self) -> EngineStats {
        let mut stats = *self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.waiting = self.desk.waiting();
        (stats.kv_bytes, stats.kv_granted) = self.budget.used_and_promised();
        stats
    }

    fn check_memory(&self, positions: usize) -> Result<()> {
        let Parts { kv_type, num_batch, .. } = self.options;
        let needed = bill::kv_bytes(&self.model, positions, kv_type, num_batch);
        let allowed = self.budget.limit();
        if needed > allowed {
            return Err(Error::Limit {
                what: "bytes of keys and values (lower num_ctx or num_predict, or raise kv_bytes)",
                needed: needed as u64,
                allowed: allowed as u64,
            });
        }
        Ok(())
    }

    fn hand_in(&self, job: Job) -> Result<Reply> {
        self.desk.submit(job).map_err(|Refused { reason, .. }| match reason {
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

impl Drop for Engine {
    fn drop(&mut self) {
        self.desk.close();
        if let Some(worker) = self.worker.take() {
            // A worker that panicked has said so; its streams have ended.
            let _ = worker.join();
        }
    }
}
