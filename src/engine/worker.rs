//! The one thread that drives the model.
//!
//! ```text
//! turn:  end what was cancelled ─► start what fits ─► plan a pass ─► pass ─► deliver
//! ```
//! It sleeps when there is nothing to compute; the desk's bell wakes it.

use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use crate::error::{Error, Result};
use crate::kv_cache::{KvBudget, KvCache};
use crate::model::Model;
use crate::model::forward::{Feed, State, Wanted};
use crate::session::Piece;

use super::Parts;
use super::desk::{Clerk, Verdict, Woken};
use super::draft_model::DraftModel;
use super::prefix::{self, Prefixes};
use super::request::{Job, Outcome};
use super::rhythm::Rhythm;
use super::saved;
use super::sequence::{Generating, Guess, Next, Sequence, Task};
use super::stats::EngineStats;
use super::stream::Sink;

/// Passes of more rows than this are given up when somebody cancels; the one after
/// such a pass has no more rows than this and is not, so there is always progress.
const SHORT: usize = 8;

/// In a pass of up to this many rows weights are multiplied where they lie, so that
/// guesses are cheap.
const CHEAP: usize = 8;

/// Slabs made ready before a pass at most: a few milliseconds each.
const PREPARED: usize = 6;

/// Positions ahead of a sequence for which they are.
const AHEAD: usize = 128;

pub(super) struct Worker {
    model: Model,
    options: Parts,
    clerk: Clerk<Job, Piece, Outcome>,
    budget: Arc<KvBudget>,
    stats: Arc<Mutex<EngineStats>>,
    /// In order of arrival.
    sequences: Vec<Sequence>,
    prefixes: Prefixes,
    draft_model: Option<DraftModel>,
    state: State,
    rhythm: Rhythm,
    next_id: u64,
    given_up: bool,
}

/// What of a sequence is in a pass.
struct Share {
    /// Index of the sequence.
    sequence: usize,
    /// Tokens that it owes.
    rows: usize,
    /// Guesses after the last of them.
    guess: Guess,
}

/// A request that can start.
struct Start {
    cache: KvCache,
    positions: usize,
    leader: Option<(u64, usize)>,
}

impl Worker {
    pub fn new(
        model: Model,
        draft_model: Option<DraftModel>,
        options: Parts,
        clerk: Clerk<Job, Piece, Outcome>,
        budget: Arc<KvBudget>,
        stats: Arc<Mutex<EngineStats>>,
    ) -> Self {
        Worker {
            model,
            options,
            clerk,
            budget,
            stats,
            sequences: Vec::new(),
            prefixes: Prefixes::default(),
            draft_model,
            state: State::default(),
            rhythm: Rhythm::default(),
            next_id: 0,
            given_up: false,
        }
    }

    /// Works until the desk is closed.
    pub fn run(mut self) {
        loop {
            self.clerk.take_interrupt();
            self.end_cancelled();
            if self.clerk.is_closed() {
                break;
            }
            self.regrant();
            self.start_waiting();
            self.follow_leaders();
            self.prepare();
            let plan = self.plan();
            self.publish();
            if plan.is_empty() {
                if self.clerk.wait() == Woken::Closed {
                    break;
                }
                continue;
            }
            self.pass(&plan);
        }
        // Whoever is still here learns that the engine is gone: `End::abandoned`.
    }

    fn end_cancelled(&mut self) {
        for index in (0..self.sequences.len()).rev() {
            if self.sequences[index].sink.is_cancelled() {
                let outcome = self.sequences[index].cancelled();
                self.end(index, outcome);
            }
        }
    }

    /// Ends a sequence. What it computed may serve the next request; of a cancelled one
    /// only what it had found is kept.
    fn end(&mut self, index: usize, outcome: Outcome) {
        let sequence = self.sequences.remove(index);
        let Sequence { sink, mut cache, tokens, found, task, .. } = sequence;
        let generated = matches!(task, Task::Generate(_));
        let keep = match &outcome {
            Outcome::Done(_) if !sink.is_cancelled() => true,
            _ => found > 0 && cache.truncate(found.min(cache.len())).is_ok(),
        };
        if keep && generated && self.options.keep_prefixes {
            self.prefixes.insert(tokens, cache);
        } else {
            drop(cache);
        }
        self.publish();
        sink.finish(outcome);
    }

    /// Sequences that have to start again need their memory again.
    fn regrant(&mut self) {
        for sequence in self.sequences.iter_mut().filter(|sequence| !sequence.granted) {
            let (cache, positions) = (&mut sequence.cache, sequence.positions);
            sequence.granted = grant(&mut self.prefixes, cache, positions, self.options.num_batch);
        }
    }

    /// Starts requests in order of arrival, as long as there is memory.
    fn start_waiting(&mut self) {
        let mut starts = Vec::new();
        let Worker { clerk, sequences, prefixes, options, budget, model, .. } = self;
        let admitted = clerk.admit(|job| {
            let (tokens, positions) = match job {
                Job::Generate(text) => (&text.tokens, text.positions()),
                Job::Embed(input) => (&input.tokens, input.tokens.len()),
                Job::Save { .. } | Job::Restore(_) | Job::Forget => return Verdict::Take,
            };
            if sequences.len() + starts.len() >= options.max_running {
                return Verdict::Leave;
            }
            let mut empty = model.transformer().cache_within(budget, positions, options.kv_type);
            // Vectors need the hidden states of every token.
            let reuse = options.keep_prefixes && matches!(job, Job::Generate(_));
            let leader = reuse.then(|| leader(sequences, tokens)).flatten();
            let found = if reuse { prefixes.find(tokens) } else { None };
            let found = found.filter(|found| leader.is_none_or(|(_, n)| n <= found.common));
            let cache = match found {
                Some(found) => prefixes.take(found),
                None => None,
            };
            let started = cache.and_then(|mut cache| {
                let kept = tokens[..cache.len()].to_vec();
                if grant(prefixes, &mut cache, positions, options.num_batch) {
                    return Some(cache);
                }
                prefixes.insert(kept, cache);
                None
            });
            let leader = if started.is_some() { None } else { leader };
            let cache = match started {
                Some(cache) => cache,
                None if grant(prefixes, &mut empty, positions, options.num_batch) => empty,
                None => return Verdict::Leave,
            };
            starts.push(Start { cache, positions, leader });
            Verdict::Take
        });
        let mut starts = starts.into_iter();
        for (job, sink) in admitted {
            match job {
                Job::Generate(text) => {
                    let (tokens, text) = Generating::new(text, &self.model, self.options.speculate);
                    self.begin(starts.next(), tokens, Task::Generate(Box::new(text)), sink);
                }
                Job::Embed(input) => {
                    let (tokens, task) = Task::embed(*input);
                    self.begin(starts.next(), tokens, task, sink);
                }
                Job::Save { tokens, path } => sink.finish(self.save(&tokens, &path)),
                Job::Restore(path) => sink.finish(self.restore(&path)),
                Job::Forget => {
                    self.prefixes.clear();
                    self.publish();
                    sink.finish(Outcome::Prefix(0));
                }
            }
        }
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
    fn follow_leaders(&mut self) {
        for index in 0..self.sequences.len() {
            let Some((id, common)) = self.sequences[index].leader else { continue };
            let tokens = &self.sequences[index].tokens;
            let source = match self.sequences.iter().find(|sequence| sequence.id == id) {
                // It may have dropped a part of its text meanwhile.
                Some(leader) => {
                    let common = common.min(prefix::common(&leader.tokens, tokens));
                    if leader.cache.len() < common && leader.granted && !leader.decodes() {
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

    /// Memory that will be needed soon is made ready, a little before every pass, while
    /// there are streams that would notice more at once.
    fn prepare(&mut self) {
        if !self.sequences.iter().any(|sequence| sequence.decodes()) {
            return;
        }
        let mut left = PREPARED;
        for sequence in &mut self.sequences {
            if sequence.granted && sequence.leader.is_none() {
                let ahead = sequence.positions.saturating_sub(sequence.cache.len()).min(AHEAD);
                // An error comes again where the memory is needed, and ends the sequence.
                left -= sequence.cache.prepare(ahead, left).unwrap_or(0).min(left);
            }
        }
    }

    /// One row of every running stream, their guesses, and a slice of what waits.
    fn plan(&mut self) -> Vec<Share> {
        self.make_room();
        let mut plan = Vec::new();
        for (index, sequence) in self.sequences.iter().enumerate() {
            if sequence.decodes() && sequence.is_ready() {
                plan.push(Share { sequence: index, rows: 1, guess: Guess::default() });
            }
        }
        let streams = plan.len();
        self.guess(&mut plan);
        let most = if self.given_up { SHORT } else { self.options.num_batch };
        let mut room = self.rhythm.slice(streams, most);
        for (index, sequence) in self.sequences.iter().enumerate() {
            let rows = sequence.owed().min(room);
            let ready = sequence.is_ready() && (streams == 0 || sequence.cache.is_prepared(rows));
            if room > 0 && !sequence.decodes() && ready {
                room -= rows;
                plan.push(Share { sequence: index, rows, guess: Guess::default() });
            }
        }
        plan
    }

    /// Guesses share the rows that a pass has cheaply: up to [`CHEAP`] in all, and as
    /// many again where there are that many streams.
    fn guess(&mut self, plan: &mut [Share]) {
        let streams = plan.len().max(1);
        let room = if streams <= CHEAP / 2 { CHEAP - streams } else { CHEAP };
        let each = (room / streams).max(1);
        for share in &mut *plan {
            share.guess = self.sequences[share.sequence].look_up(each);
        }
        let Worker { draft_model: Some(model), sequences, .. } = self else { return };
        let mut all: Vec<Option<&mut Sequence>> = sequences.iter_mut().map(Some).collect();
        let (mut wants, mut of) = (Vec::new(), Vec::new());
        for (index, share) in plan.iter().enumerate() {
            let without = share.guess.tokens.is_empty();
            let sequence = all[share.sequence].take().filter(|_| without);
            if let Some(want) = sequence.and_then(|sequence| sequence.want(each)) {
                wants.push(want);
                of.push(index);
            }
        }
        // What goes wrong there costs guesses, no answers.
        let _ = model.guess(&mut wants);
        for (want, index) in wants.into_iter().zip(of) {
            plan[index].guess = Guess { tokens: want.guesses, by_model: true };
        }
    }

    /// Sequences whose context is full drop a part, or end.
    fn make_room(&mut self) {
        for index in (0..self.sequences.len()).rev() {
            if let Err(error) = self.sequences[index].make_room() {
                self.end(index, Outcome::Failed(error));
            }
        }
        self.regrant();
    }

    fn pass(&mut self, plan: &[Share]) {
        let start = Instant::now();
        let rows: usize = plan.iter().map(|share| share.rows + share.guess.tokens.len()).sum();
        let result = self.forward(plan, rows);
        let given_up = matches!(result, Err(Error::Cancelled));
        self.given_up = given_up;
        match result {
            Ok(()) => {
                let streams =
                    plan.iter().filter(|share| self.sequences[share.sequence].is_stream());
                let (streams, guessed) =
                    streams.fold((0, 0), |(n, guessed), s| (n + 1, guessed + s.guess.tokens.len()));
                self.rhythm.record(streams, rows - streams - guessed, start.elapsed());
                self.deliver(plan);
            }
            Err(Error::Cancelled) => {}
            // Nothing of this pass can be trusted to go better again.
            Err(error) => self.fail(plan, &error),
        }
    }

    fn forward(&mut self, plan: &[Share], rows: usize) -> Result<()> {
        let Worker { model, state, sequences, clerk, given_up, .. } = self;
        let inputs: Vec<Vec<u32>> = plan
            .iter()
            .map(|share| {
                let Sequence { tokens, cache, .. } = &sequences[share.sequence];
                [&tokens[cache.len()..cache.len() + share.rows], &share.guess.tokens].concat()
            })
            .collect();
        let mut caches: Vec<Option<&mut Sequence>> = sequences.iter_mut().map(Some).collect();
        let mut feeds = Vec::with_capacity(plan.len());
        for (share, tokens) in plan.iter().zip(&inputs) {
            let Some(sequence) = caches[share.sequence].take() else { continue };
            let last = share.rows == sequence.owed();
            let wanted = match sequence.task {
                Task::Embed { .. } => Wanted::Hidden,
                Task::Generate(_) if !last => Wanted::None,
                Task::Generate(_) if share.guess.tokens.is_empty() => Wanted::Last,
                Task::Generate(_) => Wanted::All,
            };
            feeds.push(Feed { cache: &mut sequence.cache, tokens, wanted });
        }
        let never = AtomicBool::new(false);
        let cancel = if rows > SHORT && !*given_up { clerk.interrupt() } else { &never };
        model.transformer().forward(state, &mut feeds, cancel)
    }

    /// Gives every sequence of the pass what was computed for it.
    fn deliver(&mut self, plan: &[Share]) {
        let state = std::mem::take(&mut self.state);
        let (mut logits, mut hidden) = (&*state.logits, &*state.hidden);
        let (n_vocab, dim) = (self.model.n_vocab(), self.model.transformer().config.dim);
        let mut ended = Vec::new();
        let mut counts = EngineStats { passes: 1, ..EngineStats::default() };
        for share in plan {
            let sequence = &mut self.sequences[share.sequence];
            let own;
            let next = if sequence.is_embedding() {
                (own, hidden) = hidden.split_at(share.rows * dim);
                counts.prompt_tokens += share.rows as u64;
                sequence.take_hidden(own)
            } else {
                if !sequence.is_stream() {
                    counts.prompt_tokens += share.rows as u64;
                }
                if sequence.cache.len() < sequence.tokens.len() {
                    continue;
                }
                (own, logits) = logits.split_at((1 + share.guess.tokens.len()) * n_vocab);
                let (next, right) = sequence.take_logits(&self.model, &share.guess, own);
                counts.generated_tokens += 1 + right as u64;
                counts.drafted_tokens += share.guess.tokens.len() as u64;
                counts.accepted_tokens += right as u64;
                next
            };
            if let Next::Done(outcome) = next {
                ended.push((share.sequence, outcome));
            }
        }
        self.state = state;
        self.count(|stats| stats.add(&counts));
        // From the back, so that the places of the others stay.
        ended.sort_by_key(|(index, _)| *index);
        for (index, outcome) in ended.into_iter().rev() {
            self.end(index, outcome);
        }
    }

    fn fail(&mut self, plan: &[Share], error: &Error) {
        let mut indices: Vec<usize> = plan.iter().map(|share| share.sequence).collect();
        indices.sort_unstable();
        for index in indices.into_iter().rev() {
            self.end(index, Outcome::Failed(Error::misuse(error.to_string())));
        }
    }

    fn save(&mut self, tokens: &[u32], path: &Path) -> Outcome {
        let live = self
            .sequences
            .iter()
            .find(|s| s.cache.len() >= tokens.len() && s.tokens.starts_with(tokens));
        let live = live.and_then(|sequence| {
            let mut fork = sequence.cache.fork();
            fork.truncate(tokens.len()).ok().map(|()| fork)
        });
        let Some(cache) = self.prefixes.holding(tokens).or(live) else {
            let problem = "this prefix is not in the cache; generate from it first";
            return Outcome::Failed(Error::misuse(problem));
        };
        match saved::write(path, &self.model, tokens, &cache) {
            Ok(()) => Outcome::Prefix(tokens.len()),
            Err(error) => Outcome::Failed(error),
        }
    }

    fn restore(&mut self, path: &Path) -> Outcome {
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
                self.prefixes.insert(tokens, cache);
                self.publish();
                Outcome::Prefix(count)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    fn count(&self, change: impl FnOnce(&mut EngineStats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// Shows the present state in the statistics.
    fn publish(&self) {
        let (entries, tokens) = self.prefixes.size();
        let running = self.sequences.len();
        self.count(|stats| {
            stats.running = running;
            stats.kv_bytes = self.budget.used();
            stats.kv_granted = self.budget.promised();
            (stats.prefixes, stats.prefix_tokens) = (entries, tokens);
        });
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
fn grant(prefixes: &mut Prefixes, cache: &mut KvCache, positions: usize, rows: usize) -> bool {
    if cache.set_capacity(positions.max(cache.len())).is_err() {
        return false;
    }
    while cache.grant(positions, rows).is_err() {
        if !prefixes.evict() {
            return false;
        }
    }
    cache.reserve(0).is_ok()
}
