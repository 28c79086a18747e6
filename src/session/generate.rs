//! Generation: sample, decode, stop, one token at a time.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::sampler::{SamplerOptions, TokenLogprob};
use crate::tokenizer::DecodeStream;

use super::answer::Answer;
use super::{ContextFull, Session, Timings};

/// What to generate and when to end.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct GenerateOptions {
    /// How tokens are chosen.
    pub sampler: SamplerOptions,
    /// Tokens to generate at most. Default: no limit but the context.
    pub num_predict: Option<usize>,
    /// Ends before any of these strings; they are not part of the text.
    pub stop: Vec<String>,
    /// What to do when the context is full.
    pub context_full: ContextFull,
    /// Goes on after the model's end-of-text token: for benchmarks.
    pub ignore_eos: bool,
}

/// Why a generation ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FinishReason {
    /// The model ended its text.
    EndOfText,
    /// A stop string was found.
    StopString,
    /// [`GenerateOptions::num_predict`] was reached.
    Length,
    /// The context is full.
    ContextFull,
    /// Cancelled from another thread.
    Cancelled,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
pub struct Piece {
    /// The text that became certain with this token: whole characters, no part
    /// of a stop string; often one word, sometimes nothing.
    pub text: String,
    /// The token, end-of-text included.
    pub token: u32,
    /// Its natural log probability, if asked for.
    pub logprob: Option<f32>,
    /// The most likely tokens, if asked for.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// What happened, for after the last piece.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Summary {
    /// Why it ended; `None` while it has not (or after an error).
    pub finish_reason: Option<FinishReason>,
    /// Tokens of prompt and conversation that were dropped to make room.
    pub dropped_tokens: usize,
    /// Counts and times.
    pub timings: Timings,
}

/// A running generation: an iterator of [`Piece`]s. It ends after an error.
#[derive(Debug)]
pub struct Generation<'s> {
    session: &'s mut Session,
    answer: Answer,
    summary: Summary,
    clock: Instant,
    failed: bool,
}

impl<'s> Generation<'s> {
    /// Feeds `prompt` and makes ready to generate.
    pub(super) fn start(
        session: &'s mut Session,
        prompt: &[u32],
        reused_tokens: usize,
        decoder: DecodeStream,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let mut clock = Instant::now();
        // Impossible options are noticed before anything is fed.
        Answer::new(&session.model, &[], decoder.clone(), options)?;
        let dropped_tokens = session.feed_prompt(prompt, options)?;
        let answer = Answer::new(&session.model, &session.tokens, decoder, options)?;
        let timings = Timings {
            load: session.model.load_time(),
            prompt_tokens: if dropped_tokens > 0 { session.tokens.len() } else { prompt.len() },
            reused_tokens,
            prompt: Session::lap(&mut clock),
            ..Timings::default()
        };
        let summary = Summary { finish_reason: None, dropped_tokens, timings };
        Ok(Generation { session, answer, summary, clock, failed: false })
    }

    /// What happened so far; complete after the last piece.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The seed in use, to repeat this generation.
    pub fn seed(&self) -> u64 {
        self.answer.seed()
    }

    fn step(&mut self) -> Result<Option<Piece>> {
        if self.answer.options().num_predict == Some(0) {
            self.summary.finish_reason = Some(FinishReason::Length);
            return Ok(None);
        }
        if self.answer.generated() > 0 {
            self.feed_pending()?;
        } else if self.session.canceller.take() {
            return Err(Error::Cancelled);
        }
        let Session { model, state, .. } = &*self.session;
        let (piece, reason) = self.answer.next(model, &state.logits, self.is_full())?;
        self.session.pending = Some(piece.token);
        self.summary.timings.generated_tokens += 1;
        self.summary.finish_reason = reason;
        Ok(Some(piece))
    }

    /// Computes the token generated last, making room if that is the policy.
    fn feed_pending(&mut self) -> Result<()> {
        if self.is_full() {
            let tokens = [&self.session.tokens, self.session.pending.as_slice()].concat();
            let full = self.answer.options().context_full;
            if let Some(kept) = full.shift(&tokens, self.session.num_ctx()) {
                self.summary.dropped_tokens += kept.dropped;
                return self.session.start_again(&kept.tokens);
            }
        }
        self.session.feed(&[]).map(|_| ())
    }

    fn is_full(&self) -> bool {
        self.session.cache.len() >= self.session.cache.capacity()
    }
}

impl Iterator for Generation<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        if self.failed || self.summary.finish_reason.is_some() {
            return None;
        }
        let step = self.step();
        self.summary.timings.generation += Session::lap(&mut self.clock);
        match step {
            Ok(piece) => piece.map(Ok),
            Err(Error::Cancelled) => {
                self.summary.finish_reason = Some(FinishReason::Cancelled);
                None
            }
            Err(error) => {
                self.failed = true;
                Some(Err(error))
            }
        }
    }
}
