//! Generation: sample, decode, stop, one token at a time.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::sampler::{Sampled, Sampler, SamplerOptions, TokenLogprob};
use crate::tokenizer::DecodeStream;

use super::stop::StopGate;
use super::{Session, Timings};

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

/// What to do when the context is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ContextFull {
    /// End with [`FinishReason::ContextFull`]; a prompt that does not fit is an
    /// error.
    #[default]
    Stop,
    /// Fail with [`Error::Limit`].
    Error,
    /// Drop the older half of the conversation but its first `num_keep` tokens,
    /// compute the rest anew and go on; [`Summary::dropped_tokens`] tells.
    Shift {
        /// Tokens at the start that are never dropped (system prompt); at most
        /// half the context.
        num_keep: usize,
    },
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
    sampler: Sampler,
    decoder: DecodeStream,
    stop: StopGate,
    options: GenerateOptions,
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
        let mut sampler = Sampler::new(options.sampler.clone(), session.model.n_vocab())?;
        let dropped_tokens = session.feed_prompt(prompt, options.context_full)?;
        session.tokens.iter().for_each(|&token| sampler.accept(token));
        let timings = Timings {
            load: session.model.load_time(),
            prompt_tokens: if dropped_tokens > 0 { session.tokens.len() } else { prompt.len() },
            reused_tokens,
            prompt: Session::lap(&mut clock),
            ..Timings::default()
        };
        Ok(Generation {
            decoder,
            stop: StopGate::new(&options.stop),
            sampler,
            session,
            options: options.clone(),
            summary: Summary { finish_reason: None, dropped_tokens, timings },
            clock,
            failed: false,
        })
    }

    /// What happened so far; complete after the last piece.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The seed in use, to repeat this generation.
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    fn step(&mut self) -> Result<Option<Piece>> {
        if self.options.num_predict == Some(0) {
            self.summary.finish_reason = Some(FinishReason::Length);
            return Ok(None);
        }
        if self.summary.timings.generated_tokens > 0 {
            self.feed_pending()?;
        } else if self.session.canceller.take() {
            return Err(Error::Cancelled);
        }
        let Sampled { token, logprob, top_logprobs } =
            self.sampler.sample(&self.session.state.logits)?;
        self.sampler.accept(token);
        self.session.pending = Some(token);
        self.summary.timings.generated_tokens += 1;
        let text = self.text_of(token);
        Ok(Some(Piece { text, token, logprob, top_logprobs }))
    }

    /// Computes the token generated last, making room if that is the policy.
    fn feed_pending(&mut self) -> Result<()> {
        if let (true, ContextFull::Shift { num_keep }) = (self.is_full(), self.options.context_full)
        {
            let tokens = [&self.session.tokens, self.session.pending.as_slice()].concat();
            self.summary.dropped_tokens += self.session.refeed(&tokens, num_keep)?;
        } else {
            self.session.feed(&[])?;
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.session.cache.len() >= self.session.cache.capacity()
    }

    /// Decodes `token` and notices ends.
    fn text_of(&mut self, token: u32) -> String {
        let tokenizer = self.session.model.tokenizer();
        let ends = tokenizer.is_end_of_generation(token) && !self.options.ignore_eos;
        let decoded = if ends { String::new() } else { self.decoder.push(tokenizer, token) };
        let mut text = self.stop.push(&decoded);
        let reason = if self.stop.stopped() {
            FinishReason::StopString
        } else if ends {
            FinishReason::EndOfText
        } else if self.options.num_predict == Some(self.summary.timings.generated_tokens) {
            FinishReason::Length
        } else if self.is_full() && self.options.context_full == ContextFull::Stop {
            FinishReason::ContextFull
        } else {
            return text;
        };
        // The last piece brings what was held back, unless a stop string cut it.
        text += &self.stop.push(&self.decoder.finish());
        text += &self.stop.finish();
        self.summary.finish_reason = Some(reason);
        text
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
