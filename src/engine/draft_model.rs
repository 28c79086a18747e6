//! Guesses by a second, smaller model of the same vocabulary.
//!
//! It computes the streams' tokens beside the model, and then the likeliest next ones,
//! all streams in one pass per token. Its keys and values are paid from the engine's
//! budget; a stream for which there is no memory left goes without its guesses.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::kv_cache::{KvBudget, KvCache, KvType};
use crate::model::Model;
use crate::model::forward::{Feed, State, Wanted};

use super::prefix::common;

/// Tokens of a prompt that it computes beside one pass of the model: more would hold up
/// the streams.
const CATCH_UP: usize = 64;

pub(super) struct DraftModel {
    model: Model,
    state: State,
    budget: Arc<KvBudget>,
    kv_type: KvType,
}

/// What it has computed of a sequence.
pub(super) struct Shadow {
    cache: KvCache,
    tokens: Vec<u32>,
}

/// A stream that wants guesses.
pub(super) struct Want<'a> {
    pub shadow: &'a mut Shadow,
    /// All tokens of the stream.
    pub tokens: &'a [u32],
    /// Guesses wanted, then those made.
    pub count: usize,
    pub guesses: Vec<u32>,
}

impl DraftModel {
    /// # Errors
    /// [`Error::Misuse`] if the two do not have the same vocabulary.
    pub fn new(
        model: &Model,
        of: &Model,
        budget: Arc<KvBudget>,
        kv_type: KvType,
    ) -> Result<DraftModel> {
        let (ours, theirs) = (model.tokenizer(), of.tokenizer());
        let count = ours.n_vocab();
        let same = count == theirs.n_vocab()
            && model.n_vocab() == of.n_vocab()
            && (0..count as u32).all(|id| ours.piece(id) == theirs.piece(id));
        if !same {
            let problem = "the draft model has another vocabulary than the model";
            return Err(Error::misuse(problem));
        }
        Ok(DraftModel { model: model.clone(), state: State::default(), budget, kv_type })
    }

    /// For a sequence of up to `positions`, if there is memory.
    pub fn shadow(&self, positions: usize) -> Option<Shadow> {
        let transformer = self.model.transformer();
        let mut cache = transformer.cache_within(&self.budget, positions, self.kv_type);
        cache.grant(positions, CATCH_UP).ok()?;
        Some(Shadow { cache, tokens: Vec::new() })
    }

    /// Makes the guesses of all `wants`; fewer where it is not as far yet.
    ///
    /// # Errors
    /// What the network gives; the guesses made so far stay.
    pub fn guess(&mut self, wants: &mut [Want<'_>]) -> Result<()> {
        for Want { shadow, tokens, .. } in wants.iter_mut() {
            shadow.keep(common(&shadow.tokens, tokens));
        }
        let most = wants.iter().map(|want| want.count).max().unwrap_or(0);
        for round in 0..most {
            let inputs: Vec<Vec<u32>> = wants.iter().map(|want| want.input(round)).collect();
            let mut feeds = Vec::new();
            for (want, input) in wants.iter_mut().zip(&inputs) {
                if !input.is_empty() {
                    let wanted =
                        if want.reaches(input.len()) { Wanted::Last } else { Wanted::None };
                    feeds.push(Feed { cache: &mut want.shadow.cache, tokens: input, wanted });
                }
            }
            if feeds.is_empty() {
                return Ok(());
            }
            let transformer = self.model.transformer();
            transformer.forward(&mut self.state, &mut feeds, &AtomicBool::new(false))?;
            let mut rows = self.state.logits.chunks_exact(self.model.n_vocab());
            for (want, input) in wants.iter_mut().zip(&inputs) {
                let reaches = !input.is_empty() && want.reaches(input.len());
                want.shadow.tokens.extend(input);
                if let Some(row) = reaches.then(|| rows.next()).flatten() {
                    want.guesses.push(likeliest(row));
                }
            }
        }
        Ok(())
    }
}

impl Want<'_> {
    /// What to compute in this round: the rest of the tokens first, then the newest
    /// guess.
    fn input(&self, round: usize) -> Vec<u32> {
        let computed = self.shadow.tokens.len();
        if round >= self.count {
            return Vec::new();
        }
        match self.tokens.get(computed..) {
            Some(rest) if !rest.is_empty() => rest[..rest.len().min(CATCH_UP)].to_vec(),
            _ => self.guesses.last().copied().into_iter().collect(),
        }
    }

    /// Whether all tokens are computed after so many more.
    fn reaches(&self, more: usize) -> bool {
        self.shadow.tokens.len() + more >= self.tokens.len()
    }
}

impl Shadow {
    /// Forgets all but the first `count` tokens: all, where a window has moved on.
    fn keep(&mut self, count: usize) {
        let count = if self.cache.truncate(count).is_ok() { count } else { 0 };
        if count == 0 {
            self.cache.clear();
        }
        self.tokens.truncate(count);
    }
}

/// The first token with the highest logit.
fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (token, &logit)| {
        if logit > best.1 { (token, logit) } else { best }
    });
    best.0 as u32
}
