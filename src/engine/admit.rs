//! Which requests start, with what memory, and what they find computed already.

use std::sync::Arc;

use crate::kv_cache::{KvBudget, KvCache};
use crate::model::Model;
use crate::session::Piece;

use super::Parts;
use super::desk::Verdict;
use super::memory;
use super::prefix::{self, Found, Prefixes};
use super::request::{Job, Outcome};
use super::sequence::{Generating, Sequence, Task};
use super::stream::Sink;
use super::worker::Worker;

/// A request that can start.
struct Start {
    cache: KvCache,
    positions: usize,
    leader: Option<(u64, usize)>,
}

/// What became of a beginning that was found.
enum Taken {
    /// It is there, and so is memory to go on.
    Granted(KvCache),
    /// There is no memory yet.
    Short,
    /// Its sliding window does not reach back so far.
    MovedOn,
}

/// What decides who may start.
struct Door<'a> {
    model: &'a Model,
    options: &'a Parts,
    budget: &'a Arc<KvBudget>,
    sequences: &'a [Sequence],
    prefixes: &'a mut Prefixes,
    /// Of the one let in.
    start: Option<Start>,
}

impl Door<'_> {
    fn admit(&mut self, job: &Job) -> Verdict {
        let (tokens, positions, generates) = match job {
            Job::Generate(text) => (&text.tokens, text.positions(), true),
            Job::Embed(input) => (&input.tokens, input.tokens.len(), false),
            Job::Save { .. } | Job::Restore(_) | Job::Forget => return Verdict::Take,
        };
        // Who has to start again has waited longest.
        let first = self.sequences.iter().all(|sequence| sequence.granted);
        if !first || self.sequences.len() >= self.options.max_running {
            return Verdict::Leave;
        }
        // A vector needs the hidden states of all its tokens.
        let reuse = generates && self.options.keep_prefixes;
        let leader = reuse.then(|| leader(self.sequences, tokens)).flatten();
        let shared = leader.map_or(0, |(_, common)| common);
        if reuse && let Some(found) = self.find(tokens, shared) {
            match self.take(found, tokens, positions) {
                Taken::Granted(cache) => {
                    self.start = Some(Start { cache, positions, leader: None });
                    return Verdict::Take;
                }
                // What was found stays until there is memory.
                Taken::Short if !self.sequences.is_empty() => return Verdict::Leave,
                Taken::Short | Taken::MovedOn => {}
            }
        }
        let transformer = self.model.transformer();
        let mut cache = transformer.cache_within(self.budget, positions, self.options.kv_type);
        if !grant(self.prefixes, &mut cache, positions, self.options.num_batch) {
            return Verdict::Leave;
        }
        self.start = Some(Start { cache, positions, leader });
        Verdict::Take
    }

    /// Whether more than `least` of the first tokens are kept.
    fn find(&self, tokens: &[u32], least: usize) -> Option<Found> {
        self.prefixes.find(tokens).filter(|found| found.common >= least)
    }

    /// What was found, if there is memory to go on from there.
    fn take(&mut self, found: Found, tokens: &[u32], positions: usize) -> Taken {
        let Some(mut cache) = self.prefixes.take(found) else { return Taken::MovedOn };
        let kept = tokens[..cache.len()].to_vec();
        if grant(self.prefixes, &mut cache, positions, self.options.num_batch) {
            return Taken::Granted(cache);
        }
        self.prefixes.insert(kept, cache);
        Taken::Short
    }
}

impl Worker {
    /// Sequences that have to start again need their memory again.
    pub(super) fn regrant(&mut self) {
        for sequence in self.sequences.iter_mut().filter(|sequence| !sequence.granted) {
            let (cache, positions) = (&mut sequence.cache, sequence.positions);
            sequence.granted = grant(&mut self.prefixes, cache, positions, self.options.num_batch);
        }
    }

    /// Starts requests in order of arrival, as long as there is memory.
    pub(super) fn start_waiting(&mut self) {
        while self.start_next() {}
    }

    /// Starts or does what comes next, one at a time: what follows may find it done.
    fn start_next(&mut self) -> bool {
        let Worker { clerk, sequences, prefixes, options, budget, model, .. } = self;
        let mut door = Door { model, options, budget, sequences, prefixes, start: None };
        let mut any = false;
        let admitted = clerk.admit(|job| match any {
            true => Verdict::Leave,
            false => {
                let verdict = door.admit(job);
                any = verdict == Verdict::Take;
                verdict
            }
        });
        let mut start = door.start;
        for (job, sink) in admitted {
            match job {
                Job::Generate(text) => {
                    let (tokens, text) = Generating::new(text, &self.model, self.options.speculate);
                    self.begin(start.take(), tokens, Task::Generate(Box::new(text)), sink);
                }
                Job::Embed(input) => {
                    let (tokens, task) = Task::embed(*input);
                    self.begin(start.take(), tokens, task, sink);
                }
                Job::Save { tokens, path } => sink.finish(self.save(&tokens, &path)),
                Job::Restore(path) => sink.finish(self.restore(&path)),
                Job::Forget => {
                    // Also of those that were cancelled since this turn began.
                    self.end_cancelled();
                    self.prefixes.clear();
                    self.publish();
                    sink.finish(Outcome::Prefix(0));
                }
            }
        }
        any
    }

    fn begin(
        &mut self,
        start: Option<Start>,
        tokens: Vec<u32>,
        task: Task,
        sink: Sink<Piece, Outcome>,
    ) {
        // Every job that was let in has its start.
        let Some(Start { cache, positions, leader }) = start else { return };
        let id = self.next_id;
        self.next_id += 1;
        let empty = self.model.transformer().cache_within(&self.budget, 0, self.options.kv_type);
        let mut sequence = Sequence {
            id,
            sink,
            cache: empty,
            tokens,
            positions,
            granted: true,
            leader,
            found: 0,
            task,
        };
        sequence.adopt(cache);
        if let Some(draft_model) = &self.draft_model {
            sequence.follow(draft_model.shadow(positions));
        }
        self.count(|stats| stats.reused_tokens += sequence.found as u64);
        self.sequences.push(sequence);
    }

    /// Sequences that wait for another to compute what both begin with take it over
    /// once it is there.
    pub(super) fn follow_leaders(&mut self) {
        for index in 0..self.sequences.len() {
            let Some((id, common)) = self.sequences[index].leader else { continue };
            let tokens = &self.sequences[index].tokens;
            let source = match self.sequences.iter().find(|sequence| sequence.id == id) {
                // It may have dropped a part of its text meanwhile.
                Some(leader) => {
                    let common = common.min(prefix::common(&leader.tokens, tokens));
                    let computes = leader.granted && !leader.decodes() && !leader.sink.must_pause();
                    if leader.cache.len() < common && computes {
                        continue;
                    }
                    let mut fork = leader.cache.fork();
                    fork.truncate(common.min(fork.len())).ok().map(|()| fork)
                }
                // It ended; what it computed may have been kept.
                None => self.prefixes.find(tokens).and_then(|found| self.prefixes.take(found)),
            };
            self.sequences[index].leader = None;
            if let Some(cache) = source {
                self.change_cache(index, cache);
            }
        }
    }

    /// Gives a sequence a cache that has computed more of its tokens than its own.
    fn change_cache(&mut self, index: usize, mut cache: KvCache) {
        let Worker { sequences, prefixes, options, .. } = self;
        let sequence = &mut sequences[index];
        let found = cache.len();
        sequence.cache.end_grant();
        if grant(prefixes, &mut cache, sequence.positions, options.num_batch) {
            sequence.adopt(cache);
            self.count(|stats| stats.reused_tokens += found as u64);
        } else {
            prefixes.insert(sequence.tokens[..found].to_vec(), cache);
            // What it had set aside was just given back.
            sequence.granted = false;
        }
    }
}

/// A running sequence that has, or will have, more first tokens in common with `tokens`
/// than is worth computing twice.
fn leader(sequences: &[Sequence], tokens: &[u32]) -> Option<(u64, usize)> {
    let tokens = &tokens[..tokens.len().saturating_sub(1)];
    let leaders = sequences.iter().filter(|sequence| !sequence.is_embedding());
    let leaders = leaders.map(|sequence| {
        let others = &sequence.tokens;
        (sequence.id, prefix::common(others, tokens))
    });
    leaders.filter(|(_, common)| *common >= prefix::LEAST).max_by_key(|(_, common)| *common)
}

/// Sets memory aside for `positions`, and makes `cache` the owner of the pages that it
/// will write. Kept prefixes make room.
fn grant(prefixes: &mut Prefixes, cache: &mut KvCache, positions: usize, num_batch: usize) -> bool {
    let rows = memory::rows_ahead(num_batch);
    if cache.set_capacity(positions.max(cache.len())).is_err() {
        return false;
    }
    while let Err(short) = cache.grant(positions, rows) {
        // Nothing is dropped for a request that has to wait all the same.
        let enough = short.free.saturating_add(prefixes.bytes()) >= short.needed;
        if !enough || !prefixes.evict() {
            return false;
        }
    }
    cache.reserve(0).is_ok()
}
