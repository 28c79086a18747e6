//! From logits to text: sample, decode, notice the end.

use crate::error::Result;
use crate::model::Model;
use crate::sampler::{Sampled, Sampler};
use crate::tokenizer::DecodeStream;

use super::stop::StopGate;
use super::{FinishReason, GenerateOptions, Logprob, Piece};

/// A text being generated: everything about it but the network.
#[derive(Debug)]
pub(crate) struct Answer {
    sampler: Sampler,
    decoder: DecodeStream,
    stop: StopGate,
    options: GenerateOptions,
    generated: usize,
}

impl Answer {
    /// An answer to `before`, all tokens that the context has.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) for impossible options.
    pub fn new(
        model: &Model,
        before: &[u32],
        decoder: DecodeStream,
        options: &GenerateOptions,
    ) -> Result<Self> {
        let sampler = Sampler::new(options.sampler.clone(), model.n_vocab())?;
        let sampler = sampler.without(model.tokenizer().suppressed());
        let decoder = if options.special { decoder.with_special() } else { decoder };
        let (stop, options) = (StopGate::new(&options.stop), options.clone());
        let mut answer = Answer { sampler, decoder, stop, options, generated: 0 };
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

    /// The next token, chosen by `logits` after all before it, and whether it is the
    /// last. `full`: there is no position for it.
    ///
    /// # Errors
    /// [`Error::NonFinite`](crate::Error::NonFinite) from a broken network.
    pub fn next(
        &mut self,
        model: &Model,
        logits: &[f32],
        full: bool,
    ) -> Result<(Piece, Option<FinishReason>)> {
        let Sampled { token, logprob, top_logprobs } = self.sampler.sample(logits)?;
        let tokenizer = model.tokenizer();
        let logprob = logprob.map(|logprob| Logprob::new(tokenizer, token, logprob));
        let top_logprobs = top_logprobs.iter();
        let top_logprobs = top_logprobs.map(|top| Logprob::new(tokenizer, top.token, top.logprob));
        let top_logprobs = top_logprobs.collect();
        self.sampler.accept(token);
        self.generated += 1;
        let ends = tokenizer.is_end_of_generation(token) && !self.options.ignore_eos;
        let decoded = if ends { String::new() } else { self.decoder.push(tokenizer, token) };
        let mut text = self.stop.push(&decoded);
        if !ends && !self.options.special && tokenizer.is_control(token) {
            text += &self.stop.push_hidden(tokenizer.piece(token).unwrap_or_default());
        }
        let reason = self.reason(ends, full);
        if reason.is_some() {
            // The last piece brings what was held back, unless a stop string cut it.
            text += &self.stop.push(&self.decoder.finish());
            text += &self.stop.finish();
        }
        Ok((Piece { text, token, logprob, top_logprobs }, reason))
    }

    fn reason(&self, ends: bool, full: bool) -> Option<FinishReason> {
        if self.stop.stopped() {
            Some(FinishReason::StopString)
        } else if ends {
            Some(FinishReason::EndOfText)
        } else if self.options.num_predict == Some(self.generated) {
            Some(FinishReason::Length)
        } else if full && self.options.context_full.ends() {
            Some(FinishReason::ContextFull)
        } else {
            None
        }
    }
}
