//! From logits to text: sample, decode, notice the end.

use std::thread;

use crate::constrain::Stuck;
use crate::error::Result;
use crate::model::Model;
use crate::sampler::{Sampled, Sampler};
use crate::tokenizer::DecodeStream;

use super::guide::Guide;
use super::stop::StopGate;
use super::{FinishReason, GenerateOptions, Logprob, Piece};

/// A text being generated: everything about it but the network.
#[derive(Debug)]
pub(crate) struct Answer {
    sampler: Sampler,
    decoder: DecodeStream,
    stop: StopGate,
    options: GenerateOptions,
    guide: Option<Guide>,
    generated: usize,
}

/// A step of an answer.
#[derive(Debug)]
pub(crate) struct Step {
    /// What is shown; of a step without a token what was held back, if anything was.
    pub piece: Option<Piece>,
    /// The token that was chosen; none if there is none that the constraint allows.
    pub token: Option<u32>,
    /// Set if it is the last.
    pub reason: Option<FinishReason>,
}

impl Answer {
    /// An answer to `before`, all tokens that the context has. A constraint is compiled here.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) for impossible options, and as
    /// [`Model::check_constraint`].
    pub fn new(
        model: &Model,
        before: &[u32],
        decoder: DecodeStream,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sampler = Sampler::new(options.sampler.clone(), model.n_vocab())?;
        let never = model.tokenizer().suppressed();
        let sampler = sampler.without(never);
        let guide = match &options.constraint {
            Some(constraint) => {
                let blank = decoder.drops_blank(model.tokenizer());
                Some(Guide::new(model.follow(constraint, blank)?, never))
            }
            None => None,
        };
        let decoder = decoder.with_visible(&options.visible);
        let decoder = if options.special { decoder.with_special() } else { decoder };
        let (stop, options) = (StopGate::new(&options.stop), options.clone());
        let mut answer = Answer { sampler, decoder, stop, options, guide, generated: 0 };
        answer.read(before);
        Ok(answer)
    }

    /// Adds tokens that come before the answer: penalties look at them.
    pub fn read(&mut self, before: &[u32]) {
        before.iter().for_each(|&token| self.sampler.accept(token));
    }

    /// What was asked for.
    pub fn options(&self) -> &GenerateOptions {
        &self.options
    }

    /// The seed in use.
    pub fn seed(&self) -> u64 {
        self.sampler.seed()
    }

    /// Tokens generated so far.
    pub fn generated(&self) -> usize {
        self.generated
    }

    /// Does `work`, usually a forward pass, and computes meanwhile what the constraint allows
    /// after it and after each token of `draft`.
    pub fn prepare_during<R>(&mut self, draft: &[u32], work: impl FnOnce() -> R) -> R {
        let Some(guide) = &mut self.guide else { return work() };
        thread::scope(|scope| {
            // Without another thread it is computed when it is needed.
            let _ = thread::Builder::new().spawn_scoped(scope, || guide.prepare(draft));
            work()
        })
    }

    /// What [`prepare_during`](Self::prepare_during) computes, now.
    pub fn prepare(&mut self, draft: &[u32]) {
        if let Some(guide) = &mut self.guide {
            guide.prepare(draft);
        }
    }

    /// Whether there is a constraint.
    pub fn is_constrained(&self) -> bool {
        self.guide.is_some()
    }

    /// Cuts a draft before the first token that the constraint does not allow.
    pub fn clip(&mut self, draft: &mut Vec<u32>) {
        if let Some(guide) = &mut self.guide {
            guide.clip(draft);
        }
    }

    /// The next token, chosen by `logits` after all before it, and whether it is the
    /// last. `full`: there is no position for it.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) from a broken network.
    pub fn next(&mut self, model: &Model, logits: &[f32], full: bool) -> Result<Step> {
        let sampled = match self.guide.as_mut().map(Guide::mask) {
            None => self.sampler.sample(logits)?,
            Some(Ok(mask)) => self.sampler.sample_allowed(logits, &mask)?,
            Some(Err(Stuck)) => return Ok(self.stuck(model)),
        };
        Ok(self.take(model, sampled, full))
    }

    /// The next token, if the constraint allows but one: no logits are needed. There must be a
    /// position for it.
    pub fn next_forced(&mut self, model: &Model) -> Option<Step> {
        match self.guide.as_mut()?.forced()? {
            Ok(token) => {
                let sampled = self.sampler.certain(token);
                Some(self.take(model, sampled, false))
            }
            Err(Stuck) => Some(self.stuck(model)),
        }
    }

    fn take(&mut self, model: &Model, sampled: Sampled, full: bool) -> Step {
        let Sampled { token, logprob, top_logprobs } = sampled;
        let tokenizer = model.tokenizer();
        let logprob = logprob.map(|logprob| Logprob::new(tokenizer, token, logprob));
        let top_logprobs = top_logprobs.iter();
        let top_logprobs = top_logprobs.map(|top| Logprob::new(tokenizer, top.token, top.logprob));
        let top_logprobs = top_logprobs.collect();
        self.sampler.accept(token);
        self.generated += 1;
        // A constraint has an end, whatever the options say.
        let ignored = self.options.ignore_eos && self.guide.is_none();
        let ends = tokenizer.is_end_of_generation(token) && !ignored;
        let decoded = if ends { String::new() } else { self.decoder.push(tokenizer, token) };
        let mut text = self.stop.push(&decoded);
        if !ends && !self.decoder.shows(token) && tokenizer.is_control(token) {
            text += &self.stop.push_hidden(tokenizer.piece(token).unwrap_or_default());
        }
        let followed = match &mut self.guide {
            Some(guide) if !ends => guide.accept(token),
            _ => Ok(()),
        };
        let reason = self.reason(ends, followed, full);
        if reason.is_some() {
            text += &self.held_back();
        }
        let piece = Piece { text, token, logprob, top_logprobs };
        Step { piece: Some(piece), token: Some(token), reason }
    }

    /// The last step where no token is allowed.
    fn stuck(&mut self, model: &Model) -> Step {
        let text = self.held_back();
        // The text is that of tokens before it.
        let token = model.tokenizer().eos().unwrap_or_default();
        let piece = Piece { text, token, logprob: None, top_logprobs: Vec::new() };
        let piece = (!piece.text.is_empty()).then_some(piece);
        Step { piece, token: None, reason: Some(FinishReason::Constraint) }
    }

    /// The last piece brings what was held back, unless a stop string cut it.
    fn held_back(&mut self) -> String {
        let text = self.stop.push(&self.decoder.finish());
        text + &self.stop.finish()
    }

    fn reason(&self, ends: bool, followed: Result<(), Stuck>, full: bool) -> Option<FinishReason> {
        // Where nothing may come but the end, it needs no pass.
        let complete = self.guide.as_ref().is_some_and(Guide::is_complete);
        if self.stop.stopped() {
            Some(FinishReason::StopString)
        } else if ends || complete {
            Some(FinishReason::EndOfText)
        } else if followed.is_err() {
            Some(FinishReason::Constraint)
        } else if self.options.num_predict == Some(self.generated) {
            Some(FinishReason::Length)
        } else if full && self.options.context_full.ends() {
            Some(FinishReason::ContextFull)
        } else {
            None
        }
    }
}
