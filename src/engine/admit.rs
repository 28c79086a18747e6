//! Which requests start, with what memory, and what they find computed already.

use std::sync::Arc;

use crate::kv_cache::KvBudget;
use crate::model::Model;
use crate::session::Piece;

use super::Parts;
use super::dedup;
use super::prefix::{Found, Kept, Prefixes};
use super::queue::Verdict;
use super::request::{Job, Outcome};
use super::sequence::{Generating, Sequence, Task};
use super::stream::Sink;
use super::worker::Worker;

/// A request that can start.
struct Start {
    kept: Kept,
    positions: usize,
    prefix_source: Option<(u64, usize)>,
}

/// What became of a beginning that was found.
enum Taken {
    /// It is there, and so is memory to go on.
    Reserved(Kept),
    /// There is no memory yet.
    Short,
}

/// Decides which request may start.
struct Admission<'a> {
    model: &'a Model,
    options: &'a Parts,
    budget: &'a Arc<KvBudget>,
    sequences: &'a [Sequence],
    prefixes: &'a mut Prefixes,
    /// Of the one let in.
    start: Option<Start>,
}

impl Admission<'_> {
    fn admit(&mut self, job: &Job) -> Verdict {
        let (tokens, positions, num_ctx, generates) = match job {
            Job::Generate(text) => (&text.tokens, text.positions(), text.num_ctx, true),
            Job::Embed(input) => (&input.tokens, input.tokens.len(), input.tokens.len(), false),
            Job::Save { .. } | Job::Restore(_) | Job::Forget => return Verdict::Take,
        };
        // A sequence that has to start again comes before new requests.
        let first = self.sequences.iter().all(|sequence| sequence.reserved);
        if !first || self.sequences.len() >= self.options.max_running {
            return Verdict::Leave;
        }
        // A vector needs the hidden states of all its tokens.
        let reuse = generates && self.options.keep_prefixes;
        let transformer = self.model.transformer();
        let mut cache = transformer.cache_within(self.budget, num_ctx, self.options.kv_type);
        let long_rope = cache.shape().long_rope();
        let prefix_source =
            reuse.then(|| dedup::prefix_source(self.sequences, tokens, long_rope)).flatten();
        let shared = prefix_source.map_or(0, |(_, common)| common);
        if reuse && let Some(found) = self.find(tokens, long_rope, shared) {
            match self.take(found, tokens, positions) {
                Taken::Reserved(kept) => {
                    self.start = Some(Start { kept, positions, prefix_source: None });
                    return Verdict::Take;
                }
                // What was found stays until there is memory.
                Taken::Short if !self.sequences.is_empty() => return Verdict::Leave,
                Taken::Short => {}
            }
        }
        if !self.prefixes.reserve(&mut cache, positions, self.options.num_batch) {
            return Verdict::Leave;
        }
        self.start = Some(Start { kept: cache.into(), positions, prefix_source });
        Verdict::Take
    }

    /// Whether more than `least` of the first tokens are kept.
    fn find(&self, tokens: &[u32], long_rope: bool, least: usize) -> Option<Found> {
        self.prefixes.find(tokens, long_rope).filter(|found| found.common >= least)
    }

    /// What was found, if there is memory to go on from there.
    fn take(&mut self, found: Found, tokens: &[u32], positions: usize) -> Taken {
        let mut kept = self.prefixes.take(found);
        if self.prefixes.reserve(&mut kept.cache, positions, self.options.num_batch) {
            self.prefixes.count_use(&mut kept, tokens);
            return Taken::Reserved(kept);
        }
        self.prefixes.insert(tokens[..kept.cache.len()].to_vec(), kept);
        Taken::Short
    }
}

impl Worker {
    /// Sequences that have to start again need their memory again.
    pub(super) fn reserve_again(&mut self) {
        for sequence in self.sequences.iter_mut().filter(|sequence| !sequence.reserved) {
            let (cache, positions) = (&mut sequence.cache, sequence.positions);
            sequence.reserved = self.prefixes.reserve(cache, positions, self.options.num_batch);
        }
    }

    /// Starts requests in order of arrival, as long as there is memory.
    pub(super) fn start_waiting(&mut self) {
        while self.start_next() {}
    }

    /// Starts or does what comes next, one at a time: what follows may find it done.
    fn start_next(&mut self) -> bool {
        let Worker { receiver, sequences, prefixes, options, budget, model, .. } = self;
        let mut admission = Admission { model, options, budget, sequences, prefixes, start: None };
        let mut any = false;
        let admitted = receiver.admit(|job| match any {
            true => Verdict::Leave,
            false => {
                let verdict = admission.admit(job);
                any = verdict == Verdict::Take;
                verdict
            }
        });
        let mut start = admission.start;
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
        let Some(Start { kept, positions, prefix_source }) = start else { return };
        let id = self.next_id;
        self.next_id += 1;
        let empty = self.model.transformer().cache_within(&self.budget, 0, self.options.kv_type);
        let mut sequence = Sequence {
            id,
            sink,
            cache: empty,
            tokens,
            positions,
            reserved: true,
            prefix_source,
            found: 0,
            uses: 0,
            task,
        };
        sequence.adopt(kept);
        if let Some(draft_model) = &self.draft_model {
            sequence.set_draft_model(draft_model.state(positions));
        }
        self.count(|stats| stats.reused_tokens += sequence.found as u64);
        self.sequences.push(sequence);
    }
}
