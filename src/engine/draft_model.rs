//! Drafts by a second, smaller model of the same vocabulary.
//!
//! It computes the streams' tokens beside the model, and then the likeliest next ones,
//! all streams in one pass per token. Its keys and values count against the
//! engine's budget; a stream for which there is no memory left goes without its drafts.

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
pub(super) struct DraftState {
    cache: KvCache,
    tokens: Vec<u32>,
}

/// A stream that requests a draft.
pub(super) struct DraftRequest<'a> {
    pub state: &'a mut DraftState,
    /// All tokens of the stream.
    pub tokens: &'a [u32],
    /// Tokens wanted, then those drafted.
    pub count: usize,
    pub draft: Vec<u32>,
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
    pub fn state(&self, positions: usize) -> Option<DraftState> {
        let transformer = self.model.transformer();
        let mut cache = transformer.cache_within(&self.budget, positions, self.kv_type);
        cache.reserve(positions, CATCH_UP).ok()?;
        Some(DraftState { cache, tokens: Vec::new() })
    }

    /// Makes the drafts of all `requests`; shorter where it is not as far yet.
    ///
    /// # Errors
    /// What the network gives; what was drafted so far stays.
    pub fn draft(&mut self, requests: &mut [DraftRequest<'_>]) -> Result<()> {
        for DraftRequest { state, tokens, .. } in requests.iter_mut() {
            state.keep(common(&state.tokens, tokens));
        }
        let most = requests.iter().map(|request| request.count).max().unwrap_or(0);
        for round in 0..most {
            let inputs: Vec<Vec<u32>> =
                requests.iter().map(|request| request.input(round)).collect();
            let mut feeds = Vec::new();
            for (request, input) in requests.iter_mut().zip(&inputs) {
                if !input.is_empty() {
                    let wanted =
                        if request.reaches(input.len()) { Wanted::Last } else { Wanted::None };
                    feeds.push(Feed { cache: &mut request.state.cache, tokens: input, wanted });
                }
            }
            if feeds.is_empty() {
                return Ok(());
            }
            let transformer = self.model.transformer();
            transformer.forward(&mut self.state, &mut feeds, &AtomicBool::new(false))?;
            let mut rows = self.state.logits.chunks_exact(self.model.n_vocab());
            for (request, input) in requests.iter_mut().zip(&inputs) {
                let reaches = !input.is_empty() && request.reaches(input.len());
                request.state.tokens.extend(input);
                if let Some(row) = reaches.then(|| rows.next()).flatten() {
                    request.draft.push(likeliest(row));
                }
            }
        }
        Ok(())
    }
}

impl DraftRequest<'_> {
    /// What to compute in this round: the rest of the tokens first, then the newest
    /// drafted one.
    fn input(&self, round: usize) -> Vec<u32> {
        let computed = self.state.tokens.len();
        if round >= self.count {
            return Vec::new();
        }
        match self.tokens.get(computed..) {
            Some(rest) if !rest.is_empty() => rest[..rest.len().min(CATCH_UP)].to_vec(),
            _ => self.draft.last().copied().into_iter().collect(),
        }
    }

    /// Whether all tokens are computed after so many more.
    fn reaches(&self, more: usize) -> bool {
        self.state.tokens.len() + more >= self.tokens.len()
    }
}

impl DraftState {
    /// Forgets all but the first `count` tokens, or more where the cache does not reach
    /// back so far.
    fn keep(&mut self, count: usize) {
        let kept = self.cache.rewind_to(count);
        self.tokens.truncate(kept);
    }
}

/// The first token with the highest logit.
fn likeliest(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().fold((0, f32::NEG_INFINITY), |best, (token, &logit)| {
        if logit > best.1 { (token, logit) } else { best }
    });
    best.0 as u32
}
