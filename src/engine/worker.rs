//! The one thread that drives the model.
//!
//! ```text
//! turn:  end what was cancelled ─► start what fits ─► plan a pass ─► pass ─► deliver
//! ```
//! It sleeps when there is nothing to compute; clients wake it.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use crate::error::Error;
use crate::kv_cache::KvBudget;
use crate::model::Model;
use crate::model::forward::State;
use crate::session::{Piece, saved};

use super::Parts;
use super::draft_costs::{DraftCosts, EXPECTED, PassTimes};
use super::draft_model::DraftModel;
use super::prefill::PrefillBudget;
use super::prefix::{self, Kept, Prefixes};
use super::queue::{Receiver, Woken};
use super::request::{Job, Outcome};
use super::sequence::{Sequence, Task};
use super::stats::EngineStats;

pub(super) struct Worker {
    pub(super) model: Model,
    pub(super) options: Parts,
    pub(super) receiver: Receiver<Job, Piece, Outcome>,
    pub(super) budget: Arc<KvBudget>,
    stats: Arc<Mutex<EngineStats>>,
    /// In order of arrival.
    pub(super) sequences: Vec<Sequence>,
    pub(super) prefixes: Prefixes,
    pub(super) draft_model: Option<DraftModel>,
    pub(super) state: State,
    pub(super) prefill: PrefillBudget,
    pub(super) times: PassTimes,
    /// Of the pass being planned.
    pub(super) draft_costs: DraftCosts,
    pub(super) next_id: u64,
    pub(super) given_up: bool,
}

impl Worker {
    pub fn new(
        model: Model,
        draft_model: Option<DraftModel>,
        options: Parts,
        receiver: Receiver<Job, Piece, Outcome>,
        budget: Arc<KvBudget>,
        stats: Arc<Mutex<EngineStats>>,
    ) -> Self {
        Worker {
            model,
            options,
            receiver,
            budget,
            stats,
            sequences: Vec::new(),
            prefixes: Prefixes::default(),
            draft_model,
            state: State::default(),
            prefill: PrefillBudget::default(),
            times: PassTimes::default(),
            draft_costs: EXPECTED,
            next_id: 0,
            given_up: false,
        }
    }

    /// Works until the queue is closed.
    pub fn run(mut self) {
        loop {
            self.receiver.take_interrupt();
            self.end_cancelled();
            // The short pass after one that was given up is for the requests in it.
            self.given_up &= !self.sequences.is_empty();
            if self.receiver.is_closed() {
                break;
            }
            self.reserve_again();
            self.start_waiting();
            self.share_prefixes();
            self.prepare();
            let plan = self.plan();
            self.publish();
            if plan.is_empty() {
                if self.receiver.wait() == Woken::Closed {
                    break;
                }
                continue;
            }
            self.pass(&plan);
        }
        // Requests that are left end with `End::abandoned`: the engine is gone.
    }

    pub(super) fn end_cancelled(&mut self) {
        for index in (0..self.sequences.len()).rev() {
            if self.sequences[index].sink.is_cancelled() {
                let outcome = self.sequences[index].cancelled();
                self.end(index, outcome);
            }
        }
    }

    /// Ends a sequence. What it computed may serve the next request, also if the client
    /// left: it often asks again. Of one that failed only what it had found is kept.
    pub(super) fn end(&mut self, index: usize, outcome: Outcome) {
        let sequence = self.sequences.remove(index);
        let Sequence { sink, mut cache, tokens, found, uses, task, .. } = sequence;
        let generated = matches!(task, Task::Generate(_));
        let keep = match &outcome {
            Outcome::Done(_) if !sink.is_cancelled() => true,
            // A block of every layer is too much for a few tokens.
            Outcome::Done(_) if cache.len() >= prefix::LEAST => true,
            _ => found > 0 && cache.rewind_to(found) > 0,
        };
        if keep && generated && self.options.keep_prefixes {
            self.prefixes.insert(tokens, Kept::new(cache, uses));
        } else {
            drop(cache);
        }
        self.publish();
        sink.finish(outcome);
    }

    pub(super) fn save(&mut self, tokens: &[u32], path: &Path) -> Outcome {
        let len = tokens.len();
        let live = self
            .sequences
            .iter()
            .find(|s| s.tokens.starts_with(tokens) && s.cache.reachable(len) == len);
        let live = live.map(|sequence| {
            let mut fork = sequence.cache.fork();
            fork.rewind_to(len);
            fork
        });
        let Some(cache) = self.prefixes.holding(tokens).or(live) else {
            let shape = self.model.transformer().kv_shape(self.options.kv_type, false);
            let problem = match !shape.states().is_empty() {
                false => "this prefix is not in the cache; generate from it first",
                true => {
                    "this prefix is not in the cache; generate from it first, with num_predict 0: \
                     a recurrent model keeps few states"
                }
            };
            return Outcome::Failed(Error::misuse(problem));
        };
        match saved::write(path, &self.model, tokens, &cache) {
            Ok(()) => Outcome::Prefix(tokens.len()),
            Err(error) => Outcome::Failed(error),
        }
    }

    pub(super) fn restore(&mut self, path: &Path) -> Outcome {
        let Worker { model, budget, options, prefixes, .. } = &mut *self;
        let restored = loop {
            match saved::read(path, model, budget, options.kv_type) {
                Err(Error::Limit { .. }) if prefixes.evict() => {}
                restored => break restored,
            }
        };
        match restored {
            Ok((tokens, cache)) => {
                let count = tokens.len();
                self.prefixes.insert(tokens, cache.into());
                self.publish();
                Outcome::Prefix(count)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    pub(super) fn count(&self, change: impl FnOnce(&mut EngineStats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Shows the present state in the statistics.
    pub(super) fn publish(&self) {
        let (entries, tokens) = self.prefixes.size();
        let running = self.sequences.len();
        let due = self.sequences.iter().map(|sequence| sequence.prompt_due()).sum();
        self.count(|stats| {
            (stats.running, stats.prompt_tokens_due) = (running, due);
            (stats.prefixes, stats.prefix_tokens) = (entries, tokens);
        });
    }
}
