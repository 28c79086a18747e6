//! Generation: sample, decode, stop, one token at a time.

use std::borrow::Cow;
use std::time::Instant;

use crate::constrain::Constraint;
use crate::error::{Error, Result};
use crate::sampler::SamplerOptions;
use crate::tokenizer::Tokenizer;

use super::answer::{Answer, Step};
use super::{Canceller, ContextFull, Session, Timings};

/// What to generate and when to end.
///
/// ```
/// use tramontane::GenerateOptions;
/// let options = GenerateOptions::default().with_temperature(0.2).with_seed(7).with_num_predict(100);
/// assert_eq!(options.sampler.seed, Some(7));
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct GenerateOptions {
    /// How tokens are chosen: temperature, seed and the rest.
    pub sampler: SamplerOptions,
    /// Tokens to generate at most. Default: no limit but the context.
    pub num_predict: Option<usize>,
    /// Ends before any of these strings; they are not part of the text. Control tokens are
    /// found by their text, though it is not shown. Default: none.
    pub stop: Vec<String>,
    /// What to do when the context is full. Default: end.
    pub context_full: ContextFull,
    /// Shows control tokens as their text; those that end the answer stay hidden. Default:
    /// false.
    pub special: bool,
    /// Control tokens that are shown as their text though [`special`](Self::special) is off:
    /// the markers of thoughts and calls, for a parser. Default: none.
    pub visible: Vec<u32>,
    /// What the text is allowed to be; needs the crate's feature `constrain`. It holds for what
    /// is generated, whatever the prompt says, and the answer ends where it must: a model that
    /// was not asked for such a text may write a poor one. Default: anything.
    pub constraint: Option<Constraint>,
    /// Goes on after the model's end-of-text token: for benchmarks. Default: false.
    pub ignore_eos: bool,
}

impl GenerateOptions {
    setters! {
        with_sampler(sampler: SamplerOptions);
        with_num_predict(num_predict: impl Into<Option<usize>>);
        with_context_full(context_full: ContextFull);
        with_special(special: bool);
        with_visible(visible: Vec<u32>);
        with_constraint(constraint: impl Into<Option<Constraint>>);
        with_ignore_eos(ignore_eos: bool);
    }

    /// Always the most likely token: the same text every time.
    pub fn greedy() -> Self {
        GenerateOptions::default().with_sampler(SamplerOptions::greedy())
    }

    /// These options with other [stop strings](Self::stop).
    #[must_use]
    pub fn with_stop<S: Into<String>>(mut self, stop: impl IntoIterator<Item = S>) -> Self {
        self.stop = stop.into_iter().map(Into::into).collect();
        self
    }

    /// These options with another [temperature](SamplerOptions::temperature): 0 always
    /// takes the most likely token.
    #[must_use]
    pub fn with_temperature(mut self, temperature: f32) -> Self {
        self.sampler.temperature = temperature;
        self
    }

    /// These options with another [seed](SamplerOptions::seed): the same seed gives the
    /// same text.
    #[must_use]
    pub fn with_seed(mut self, seed: impl Into<Option<u64>>) -> Self {
        self.sampler.seed = seed.into();
        self
    }
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
    /// No token was left that [`GenerateOptions::constraint`] allows, or following it became
    /// too costly: the text is incomplete.
    Constraint,
    /// Cancelled from another thread.
    Cancelled,
}

/// One generated token.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Piece {
    /// The text that became certain with this token: whole characters, no part
    /// of a stop string; often one word, sometimes nothing.
    pub text: String,
    /// The token, end-of-text included.
    pub token: u32,
    /// Its log-probability, if [asked for](SamplerOptions::logprobs).
    pub logprob: Option<Logprob>,
    /// The most likely tokens at this place, best first, if
    /// [asked for](SamplerOptions::top_logprobs).
    pub top_logprobs: Vec<Logprob>,
}

/// A token, its own text and how likely the model found it.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Logprob {
    /// The token.
    pub token: u32,
    /// The bytes of its text, possibly a part of a character. A control token has some here,
    /// but none in [`Piece::text`], unless [`GenerateOptions::special`] asks for it.
    pub bytes: Vec<u8>,
    /// Natural logarithm of its probability, before penalties and filters; under a
    /// [constraint](GenerateOptions::constraint) among the tokens that it allows.
    pub logprob: f32,
}

impl Logprob {
    pub(crate) fn new(tokenizer: &Tokenizer, token: u32, logprob: f32) -> Self {
        Logprob { token, bytes: tokenizer.token_bytes_with_special(token), logprob }
    }

    /// The token's text; a part of a character shows as U+FFFD.
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

/// What happened, for after the last piece.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// Why it ended; `None` while it has not (or after an error).
    pub finish_reason: Option<FinishReason>,
    /// Tokens of prompt and conversation that were dropped to make room.
    pub dropped_tokens: usize,
    /// Counts and times.
    pub timings: Timings,
}

/// A whole answer.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Completion {
    /// The text of all pieces.
    pub text: String,
    /// Why it ended, counts and times.
    pub summary: Summary,
}

/// A running generation: an iterator of [`Piece`]s. It ends after an error.
///
/// The prompt is computed when the first piece is asked for, so that its
/// [`canceller`](Generation::canceller) can stop that too.
#[derive(Debug)]
#[must_use = "a generation computes nothing until it is iterated or waited for"]
pub struct Generation<'s> {
    session: &'s mut Session,
    /// What is to be computed before the first token.
    prompt: Option<PlannedPrompt>,
    answer: Answer,
    canceller: Canceller,
    summary: Summary,
    clock: Instant,
    failed: bool,
}

/// A prompt that was checked, and fits.
#[derive(Debug)]
pub(super) struct PlannedPrompt {
    /// Whether the conversation starts again with `tokens`.
    pub start_again: bool,
    /// Tokens to compute.
    pub tokens: Vec<u32>,
    /// Tokens left out because they did not fit.
    pub dropped: usize,
    /// Tokens of the prompt that are in the cache already.
    pub reused: usize,
}

impl<'s> Generation<'s> {
    /// Makes ready to compute `prompt` and to generate.
    pub(super) fn start(
        session: &'s mut Session,
        prompt: PlannedPrompt,
        answer: Answer,
    ) -> Generation<'s> {
        let timings = Timings {
            load: session.model.load_time(),
            reused_tokens: prompt.reused,
            ..Timings::default()
        };
        let summary = Summary { finish_reason: None, dropped_tokens: prompt.dropped, timings };
        Generation {
            session,
            prompt: Some(prompt),
            answer,
            canceller: Canceller::new(),
            summary,
            clock: Instant::now(),
            failed: false,
        }
    }

    /// What happened so far; complete after the last piece.
    pub fn summary(&self) -> Summary {
        self.summary
    }

    /// The seed in use, to repeat this generation.
    pub fn seed(&self) -> u64 {
        self.answer.seed()
    }

    /// A handle that ends this generation from another thread. It then ends without an
    /// error, with [`FinishReason::Cancelled`].
    pub fn canceller(&self) -> Canceller {
        self.canceller.clone()
    }

    /// Generates to the end.
    ///
    /// # Errors
    /// The error that ended the generation, if one did.
    pub fn wait(mut self) -> Result<Completion> {
        let text =
            self.by_ref().map(|piece| piece.map(|piece| piece.text)).collect::<Result<_>>()?;
        Ok(Completion { text, summary: self.summary })
    }

    fn step(&mut self) -> Result<Option<Piece>> {
        if let Some(prompt) = self.prompt.take() {
            self.clock = Instant::now();
            self.compute(prompt)?;
        }
        if self.answer.options().num_predict == Some(0) {
            self.summary.finish_reason = Some(FinishReason::Length);
            return Ok(None);
        }
        let step = match self.next_forced() {
            Some(step) => step,
            None => self.next_computed()?,
        };
        if let Some(token) = step.token {
            self.session.pending.push(token);
            self.summary.timings.generated_tokens += 1;
        }
        self.summary.finish_reason = step.reason;
        Ok(step.piece)
    }

    /// The next token, if the constraint allows but one and there is room: it is computed
    /// together with those after it.
    fn next_forced(&mut self) -> Option<Step> {
        let held = self.session.cache.len() + self.session.pending.len();
        if held >= self.session.num_ctx() || self.canceller.is_cancelled() {
            return None;
        }
        self.answer.next_forced(&self.session.model)
    }

    /// The next token, after all before it are computed.
    fn next_computed(&mut self) -> Result<Step> {
        if self.answer.generated() > 0 {
            self.feed_pending()?;
        } else if self.canceller.is_cancelled() {
            return Err(Error::Cancelled);
        }
        let Session { model, state, .. } = &*self.session;
        self.answer.next(model, &state.logits, self.is_full())
    }

    /// Computes the prompt; its time and its tokens are counted also if that fails.
    fn compute(&mut self, prompt: PlannedPrompt) -> Result<()> {
        let pending = self.session.pending.len();
        if prompt.start_again {
            self.session.clear();
        }
        let before = self.session.tokens.len() + if prompt.start_again { 0 } else { pending };
        let Generation { session, answer, canceller, .. } = &mut *self;
        let result = answer.prepare_during(&[], || session.compute(&prompt.tokens, canceller));
        let timings = &mut self.summary.timings;
        timings.prompt = Session::lap(&mut self.clock);
        timings.prompt_tokens = self.session.tokens.len().saturating_sub(before);
        self.answer.read(&self.session.tokens);
        result
    }

    /// Computes the token generated last, making room if that is the policy.
    fn feed_pending(&mut self) -> Result<()> {
        let mut tokens = Vec::new();
        if self.is_full() {
            let all = [&*self.session.tokens, &*self.session.pending].concat();
            let full = self.answer.options().context_full;
            if let Some(kept) = full.shift(&all, self.session.num_ctx()) {
                self.summary.dropped_tokens += kept.dropped;
                self.session.clear();
                tokens = kept.tokens;
            }
        }
        let Generation { session, answer, canceller, .. } = &mut *self;
        answer.prepare_during(&[], || session.compute(&tokens, canceller))
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
