//! What an engine is asked, and what it answers.

use std::path::PathBuf;
use std::time::Instant;

use crate::error::{Bounded, Error, Result};
use crate::model::Model;
use crate::session::answer::Answer;
use crate::session::{ContextFull, FinishReason, GenerateOptions, Summary};
use crate::tokenizer::DecodeStream;

use super::embed::{EmbedOptions, Embedding};
use super::pooling::Pool;
use super::progress::Progress;
use super::rerank::Pair;
use super::stream::End;

/// A text to generate.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Request {
    /// The whole prompt: what an earlier request computed is found and not computed
    /// again.
    pub prompt: Vec<u32>,
    /// What to generate, when to end, and what to do when the context is full.
    pub options: GenerateOptions,
    /// Positions that prompt and answer may have. Default: the engine's.
    pub num_ctx: Option<usize>,
    /// Whether the answer is a text of its own (a chat's), so that a leading space
    /// of the vocabulary is no part of it.
    pub own_text: bool,
    /// Whether tokens that the prompt or the answer already has are drafted, if
    /// the engine does so. The answer is the same either way. Default: true.
    pub speculate: bool,
}

impl Request {
    /// To continue `prompt`.
    pub fn new(prompt: Vec<u32>, options: GenerateOptions) -> Self {
        Request { prompt, options, num_ctx: None, own_text: false, speculate: true }
    }

    setters! {
        with_num_ctx(num_ctx: impl Into<Option<usize>>);
        with_own_text(own_text: bool);
        with_speculate(speculate: bool);
    }
}

/// How a request ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The text ended, for the reason in the summary; [`FinishReason::Cancelled`] is
    /// one.
    Done(Summary),
    /// The vector of a text.
    Embedding(Embedding),
    /// The score of a pair of texts, and its tokens.
    Score(f32, usize),
    /// A prefix of so many tokens was saved, or restored.
    Prefix(usize),
    /// It could not be done, or not to its end.
    Failed(Error),
}

impl End for Outcome {
    fn cancelled() -> Self {
        Outcome::Done(Summary {
            finish_reason: Some(FinishReason::Cancelled),
            ..Summary::default()
        })
    }

    fn abandoned() -> Self {
        Outcome::Failed(Error::Closed)
    }
}

/// A request that was looked at: everything that can be known to be wrong is not.
#[derive(Debug)]
pub(super) enum Job {
    Generate(Box<Text>),
    Embed(Box<Input>),
    /// The tokens of a prompt, computed or found, to a file.
    Save {
        tokens: Vec<u32>,
        path: PathBuf,
    },
    Restore(PathBuf),
    /// Drop what is kept of ended requests.
    Forget,
}

/// A text to generate.
#[derive(Debug)]
pub(super) struct Text {
    /// The prompt as it will be computed.
    pub tokens: Vec<u32>,
    /// What had to be left out of it.
    pub dropped: usize,
    pub answer: Answer,
    pub num_ctx: usize,
    pub speculate: bool,
    pub progress: Progress,
    pub submitted: Instant,
}

/// A text to make a vector of, or two to make a score of.
#[derive(Debug)]
pub(super) struct Input {
    pub tokens: Vec<u32>,
    pub pool: Pool,
    pub goal: Goal,
}

/// What pooled states are for.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    Vector {
        normalize: bool,
    },
    /// Of two texts, the second from this token on, if the model tells them apart.
    Score {
        second: Option<usize>,
    },
}

impl Input {
    /// Checks `tokens`.
    ///
    /// # Errors
    /// As [`Model::embed`].
    pub fn new(
        model: &Model,
        tokens: &[u32],
        options: &EmbedOptions,
        default_num_ctx: usize,
    ) -> Result<Self> {
        let pool = Pool::new(options.pooling_of(model)?, model.transformer().plan.dim());
        let num_ctx = model.embed_ctx(Some(options.num_ctx.unwrap_or(default_num_ctx)))?;
        let tokens = model.fitting(0, tokens, num_ctx, options.truncate)?.into_owned();
        Ok(Input { tokens, pool, goal: Goal::Vector { normalize: options.normalize } })
    }

    /// Two texts, as tokens already.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a model without a classifier.
    pub fn pair(model: &Model, pair: Pair) -> Result<Self> {
        let transformer = model.transformer();
        let pool = Pool::new(transformer.classifier()?.pooling, transformer.plan.dim());
        let Pair { tokens, second } = pair;
        Ok(Input { tokens, pool, goal: Goal::Score { second } })
    }
}

impl Text {
    /// Checks `request`.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an empty prompt, tokens outside the vocabulary, impossible
    /// options; [`Error::Limit`] for a prompt longer than its context.
    pub fn new(model: &Model, request: Request, default_num_ctx: usize) -> Result<Self> {
        model.check_generates()?;
        let Request { prompt, options, num_ctx, own_text, speculate } = request;
        let num_ctx = model.num_ctx(Some(num_ctx.unwrap_or(default_num_ctx)))?;
        if prompt.is_empty() {
            return Err(Error::misuse("the prompt is empty; give at least one token"));
        }
        model.transformer().check_tokens(&prompt)?;
        let kept = options.context_full.fit_prompt(&prompt, num_ctx, options.num_predict);
        let (tokens, dropped) = match kept {
            Some(kept) => (kept.tokens, kept.dropped),
            None => (prompt, 0),
        };
        if tokens.len() > num_ctx {
            return Err(no_room(tokens.len(), num_ctx));
        }
        let decoder = if own_text { DecodeStream::new() } else { DecodeStream::continuing() };
        let answer = Answer::new(model, &tokens, decoder, &options)?;
        let (progress, submitted) = (Progress::of(tokens.len()), Instant::now());
        Ok(Text { tokens, dropped, answer, num_ctx, speculate, progress, submitted })
    }

    /// Positions that it may come to use.
    pub fn positions(&self) -> usize {
        let options = self.answer.options();
        match (options.context_full, options.num_predict) {
            (ContextFull::Shift { .. }, _) | (_, None) => self.num_ctx,
            (_, Some(most)) => self.num_ctx.min(self.tokens.len().saturating_add(most)),
        }
    }
}

pub(super) fn no_room(needed: usize, num_ctx: usize) -> Error {
    Error::limit(Bounded::Context, needed, num_ctx)
}
