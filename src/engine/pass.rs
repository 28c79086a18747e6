//! One forward pass: which rows are in it, and where its results go.

use std::sync::atomic::AtomicBool;
use std::thread;
use std::time::Instant;

use crate::error::{Error, Result};
use crate::model::forward::{Feed, Wanted};

use super::draft_costs::MAX_DRAFT;
use super::memory::AHEAD;
use super::request::{Goal, Outcome};
use super::sequence::{Draft, Next, Sequence, Task};
use super::stats::EngineStats;
use super::worker::Worker;

/// A pass of more rows than this ends early when a request is cancelled. The pass after it
/// has at most so many rows of prompts and does not end early, so there is always progress.
const SHORT: usize = 8;

/// In a pass of up to this many rows weights are multiplied where they lie, so that
/// drafts are cheap.
const CHEAP: usize = 8;

/// Blocks of memory made ready before a pass at most: a few milliseconds each.
const PREPARED: usize = 6;

/// What of a sequence is in a pass.
pub(super) struct Share {
    /// Index of the sequence.
    sequence: usize,
    /// Tokens that are due.
    rows: usize,
    /// Tokens drafted after the last of them.
    draft: Draft,
}

impl Share {
    /// Tokens that may be drafted, of `each` stream: where others had to follow the one that
    /// was chosen, the pass has its rows.
    fn room_for_draft(&self, each: usize) -> usize {
        if self.rows > 1 { 0 } else { each }
    }
}

impl Worker {
    /// Memory that will be needed soon is made ready, a little before every pass, while
    /// there are streams that would notice more at once.
    pub(super) fn prepare(&mut self) {
        if !self.sequences.iter().any(|sequence| sequence.decodes()) {
            return;
        }
        let mut left = PREPARED;
        for sequence in &mut self.sequences {
            if sequence.reserved && sequence.prefix_source.is_none() {
                let ahead = sequence.positions.saturating_sub(sequence.cache.len()).min(AHEAD);
                // An error comes again where the memory is needed, and ends the sequence.
                left -= sequence.cache.prepare(ahead, left).unwrap_or(0).min(left);
            }
        }
    }

    /// The newest rows of every running stream, their drafts, and a slice of what waits.
    pub(super) fn plan(&mut self) -> Vec<Share> {
        self.make_room();
        let mut plan = Vec::new();
        for (index, sequence) in self.sequences.iter().enumerate() {
            if sequence.decodes() && sequence.is_ready() {
                let rows = sequence.due();
                plan.push(Share { sequence: index, rows, draft: Draft::default() });
            }
        }
        let streams = plan.len();
        self.draft(&mut plan);
        let most = if self.given_up { SHORT } else { self.options.num_batch };
        if self.model.transformer().plan.is_encoder() {
            return self.plan_whole(most);
        }
        let mut room = self.prefill.slice(streams, most);
        let (owing, prompts): (Vec<_>, Vec<_>) =
            self.sequences.iter().enumerate().partition(|(_, sequence)| sequence.owes_few());
        for (index, sequence) in owing.into_iter().chain(prompts) {
            // Beside streams no more than is made ready, however much the clock allows.
            let most = if streams == 0 { room } else { room.min(AHEAD) };
            let rows = sequence.due().min(most);
            let ready = sequence.is_ready() && (streams == 0 || sequence.cache.is_prepared(rows));
            if room > 0 && !sequence.decodes() && ready {
                room -= rows;
                plan.push(Share { sequence: index, rows, draft: Draft::default() });
            }
        }
        plan
    }

    /// Whole texts, as an encoder reads them: as many as fit, the oldest first, and one in
    /// any case. There are no streams beside them.
    fn plan_whole(&self, most: usize) -> Vec<Share> {
        let mut plan = Vec::new();
        let mut rows = 0;
        for (index, sequence) in self.sequences.iter().enumerate() {
            let due = sequence.due();
            if sequence.is_ready() && (rows == 0 || rows + due <= most) {
                rows += due;
                plan.push(Share { sequence: index, rows: due, draft: Draft::default() });
            }
        }
        plan
    }

    /// Drafts share the rows that a pass has cheaply: up to [`CHEAP`] in all, and as
    /// many again where there are that many streams; one stream alone may have more.
    fn draft(&mut self, plan: &mut [Share]) {
        let streams = plan.len().max(1);
        let room = match streams {
            // No other stream waits for this pass.
            1 if !self.given_up => MAX_DRAFT,
            few if few <= CHEAP / 2 => CHEAP - few,
            _ => CHEAP,
        };
        let each = (room / streams).max(1);
        let costs = self.times.draft_costs(streams);
        self.draft_costs = costs;
        for share in &mut *plan {
            let each = share.room_for_draft(each);
            share.draft = self.sequences[share.sequence].draft_by_lookup(each, &costs);
        }
        let Worker { draft_model: Some(model), sequences, .. } = self else { return };
        let mut all: Vec<Option<&mut Sequence>> = sequences.iter_mut().map(Some).collect();
        let (mut requests, mut of) = (Vec::new(), Vec::new());
        for (index, share) in plan.iter().enumerate() {
            let without = share.draft.tokens.is_empty();
            let each = share.room_for_draft(each);
            let sequence = all[share.sequence].take().filter(|_| without);
            if let Some(request) =
                sequence.and_then(|sequence| sequence.draft_request(each, &costs))
            {
                requests.push(request);
                of.push(index);
            }
        }
        // What goes wrong there costs drafts, not answers.
        let _ = model.draft(&mut requests);
        let drafts: Vec<Vec<u32>> = requests.into_iter().map(|request| request.draft).collect();
        for (tokens, index) in drafts.into_iter().zip(of) {
            plan[index].draft = self.sequences[plan[index].sequence].draft_by_model(tokens);
        }
    }

    /// Sequences whose context is full drop a part, or end.
    fn make_room(&mut self) {
        for index in (0..self.sequences.len()).rev() {
            if let Err(error) = self.sequences[index].make_room() {
                self.end(index, Outcome::Failed(error));
            }
        }
        self.reserve_again();
    }

    pub(super) fn pass(&mut self, plan: &[Share]) {
        let start = Instant::now();
        let rows: usize = plan.iter().map(|share| share.rows + share.draft.tokens.len()).sum();
        let result = self.forward(plan, rows);
        let given_up = matches!(result, Err(Error::Cancelled));
        self.given_up = given_up;
        match result {
            Ok(()) => {
                let streams =
                    plan.iter().filter(|share| self.sequences[share.sequence].is_stream());
                let (streams, more) = streams.fold((0, 0), |(streams, more), share| {
                    (streams + 1, more + share.rows - 1 + share.draft.tokens.len())
                });
                let (prompts, time) = (rows - streams - more, start.elapsed());
                self.prefill.record(streams, prompts, time);
                if prompts == 0 {
                    self.times.record(rows, time);
                }
                self.deliver(plan);
            }
            Err(Error::Cancelled) => {}
            // Nothing of this pass can be trusted to go better again.
            Err(error) => self.fail(plan, error),
        }
    }

    fn forward(&mut self, plan: &[Share], rows: usize) -> Result<()> {
        let Worker { model, state, sequences, receiver, given_up, .. } = self;
        let inputs: Vec<Vec<u32>> = plan
            .iter()
            .map(|share| {
                let Sequence { tokens, cache, .. } = &sequences[share.sequence];
                [&tokens[cache.len()..cache.len() + share.rows], &share.draft.tokens].concat()
            })
            .collect();
        let mut caches: Vec<Option<&mut Sequence>> = sequences.iter_mut().map(Some).collect();
        let mut feeds = Vec::with_capacity(plan.len());
        let mut constrained = Vec::new();
        for (share, tokens) in plan.iter().zip(&inputs) {
            let Some(sequence) = caches[share.sequence].take() else { continue };
            let last = share.rows == sequence.due();
            let wanted = match sequence.task {
                Task::Embed { goal: Goal::Score { second: Some(second) }, .. } => {
                    Wanted::HiddenOfPair(second)
                }
                Task::Embed { .. } => Wanted::Hidden,
                Task::Generate(_) if !last => Wanted::None,
                Task::Generate(_) if share.draft.tokens.is_empty() => Wanted::Last,
                Task::Generate(_) => Wanted::All,
            };
            let (cache, answer) = sequence.split();
            feeds.push(Feed { cache, tokens, wanted });
            constrained.extend(answer.filter(|_| last).map(|answer| (answer, &share.draft.tokens)));
        }
        let never = AtomicBool::new(false);
        let cancel = if rows > SHORT && !*given_up { receiver.interrupt() } else { &never };
        let mut work = || model.transformer().forward(state, &mut feeds, cancel);
        if constrained.is_empty() {
            return work();
        }
        // What constraints allow depends on the tokens so far, not on the pass.
        thread::scope(|scope| {
            let masks =
                || constrained.into_iter().for_each(|(answer, draft)| answer.prepare(draft));
            // Without another thread they are computed when they are needed.
            let _ = thread::Builder::new().spawn_scoped(scope, masks);
            work()
        })
    }

    /// Gives every sequence of the pass what was computed for it.
    fn deliver(&mut self, plan: &[Share]) {
        let state = std::mem::take(&mut self.state);
        let (mut logits, mut hidden) = (&*state.logits, &*state.hidden);
        let (n_vocab, dim) = (self.model.n_vocab(), self.model.transformer().plan.dim());
        let mut ended = Vec::new();
        let mut counts = EngineStats { passes: 1, ..EngineStats::default() };
        for share in plan {
            let sequence = &mut self.sequences[share.sequence];
            let own;
            let next = if sequence.is_embedding() {
                (own, hidden) = hidden.split_at(share.rows * dim);
                counts.prompt_tokens += share.rows as u64;
                sequence.take_hidden(&self.model, own)
            } else {
                if !sequence.is_stream() {
                    counts.prompt_tokens += share.rows as u64;
                    sequence.tell_progress();
                }
                if sequence.cache.len() < sequence.tokens.len() {
                    continue;
                }
                (own, logits) = logits.split_at((1 + share.draft.tokens.len()) * n_vocab);
                let before = sequence.tokens.len();
                let (next, right) =
                    sequence.take_logits(&self.model, &share.draft, own, &self.draft_costs);
                counts.generated_tokens += (sequence.tokens.len() - before) as u64;
                counts.drafted_tokens += share.draft.tokens.len() as u64;
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

    /// Ends all requests of a pass that failed: which of them caused it is unknown.
    fn fail(&mut self, plan: &[Share], error: Error) {
        let mut indices: Vec<usize> = plan.iter().map(|share| share.sequence).collect();
        indices.sort_unstable();
        let said = error.to_string();
        let mut error = Some(error);
        for index in indices.into_iter().rev() {
            let error = error.take().unwrap_or_else(|| Error::Misuse(said.clone()));
            self.end(index, Outcome::Failed(error));
        }
    }
}
