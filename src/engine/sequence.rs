//! One request being worked on.
//!
//! A sequence is its tokens and a cache that has computed the first of them. The rest is
//! due: the prompt's remainder at first and the newest token later. A pass that computes
//! all that is due brings logits, and they bring the next token.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::kv_cache::KvCache;
use crate::model::Model;
use crate::session::answer::{Answer, Step};
use crate::session::{FinishReason, Piece, Summary, Timings};

use super::draft::{DraftLength, PromptLookup};
use super::draft_costs::{DraftCosts, MAX_DRAFT};
use super::draft_model::{DraftRequest, DraftState};
use super::embed::Embedding;
use super::pooling::Pool;
use super::prefix::Kept;
use super::progress::Progress;
use super::request::{Goal, Input, Outcome, Text, no_room};
use super::stream::Sink;

/// Tokens of a draft model at a time at most: each costs a pass of it.
const MAX_MODEL_DRAFT: usize = 4;

pub(super) struct Sequence {
    /// Counts up with the order of arrival.
    pub id: u64,
    pub sink: Sink<Piece, Outcome>,
    pub cache: KvCache,
    pub tokens: Vec<u32>,
    /// Positions that it may come to use: what is reserved.
    pub positions: usize,
    /// Whether they are reserved; it is in no pass before.
    pub reserved: bool,
    /// Another sequence that is about to compute so many of the same first tokens.
    pub prefix_source: Option<(u64, usize)>,
    /// How many of its tokens were found, not computed.
    pub found: usize,
    /// How often what it continues was found.
    pub uses: u32,
    pub task: Task,
}

/// What for.
pub(super) enum Task {
    Generate(Box<Generating>),
    Embed { pool: Pool, goal: Goal },
}

/// A text on its way.
pub(super) struct Generating {
    answer: Answer,
    num_ctx: usize,
    summary: Summary,
    progress: Progress,
    clock: Instant,
    speculation: Option<Speculation>,
    /// How many of the newest tokens had no alternative: they wait for the pass that computes
    /// the one before them.
    forced: usize,
}

/// What drafts the next tokens.
struct Speculation {
    lookup: PromptLookup,
    length: DraftLength,
    /// Where the text has nothing to look up.
    by_model: Option<(DraftState, DraftLength)>,
}

/// Tokens that may come next.
#[derive(Debug, Clone, Default)]
pub(super) struct Draft {
    pub tokens: Vec<u32>,
    pub by_model: bool,
}

/// Whether a sequence goes on.
pub(super) enum Next {
    More,
    Done(Outcome),
}

impl Generating {
    pub fn new(text: Box<Text>, model: &Model, speculate: bool) -> (Vec<u32>, Self) {
        let Text { tokens, dropped, answer, num_ctx, speculate: wanted, progress, submitted } =
            *text;
        let clock = Instant::now();
        let timings = Timings {
            load: model.load_time(),
            waited: clock - submitted,
            prompt_tokens: tokens.len(),
            ..Timings::default()
        };
        let summary = Summary { finish_reason: None, dropped_tokens: dropped, timings };
        let speculation = (speculate && wanted).then(|| {
            let mut lookup = PromptLookup::default();
            lookup.extend(&tokens);
            Speculation { lookup, length: DraftLength::default(), by_model: None }
        });
        let forced = 0;
        (tokens, Generating { answer, num_ctx, summary, progress, clock, speculation, forced })
    }
}

impl Task {
    pub fn embed(input: Input) -> (Vec<u32>, Self) {
        let Input { tokens, pool, goal } = input;
        (tokens, Task::Embed { pool, goal })
    }
}

impl Sequence {
    /// Tokens not computed yet.
    pub fn due(&self) -> usize {
        self.tokens.len() - self.cache.len()
    }

    /// Whether its next rows bring a token at once: that of the newest token that was chosen,
    /// and those of the tokens that had to follow.
    pub fn decodes(&self) -> bool {
        matches!(&self.task, Task::Generate(text) if self.due() == 1 + text.forced)
    }

    /// Whether it is a stream whose recurrent state was taken back before a rejected draft: it
    /// comes before prompts.
    pub fn owes_few(&self) -> bool {
        self.is_stream() && (2..=MAX_DRAFT + 1).contains(&self.due())
    }

    /// Whether it may be in the next pass.
    pub fn is_ready(&self) -> bool {
        self.reserved && self.prefix_source.is_none() && !self.sink.must_pause()
    }

    /// Takes over what has computed the first of its tokens.
    pub fn adopt(&mut self, kept: Kept) {
        self.found = kept.cache.len();
        (self.cache, self.uses) = (kept.cache, kept.uses);
        if let Task::Generate(text) = &mut self.task {
            text.summary.timings.reused_tokens = self.found;
            text.summary.timings.prompt_tokens = self.tokens.len() - self.found;
        }
        self.tell_progress();
    }

    /// Shows how far the prompt is.
    pub fn tell_progress(&self) {
        if let Task::Generate(text) = &self.task
            && text.answer.generated() == 0
        {
            text.progress.reached(self.cache.len());
        }
    }

    /// Tokens of the prompt that are still to be computed.
    pub fn prompt_due(&self) -> usize {
        if self.is_stream() { 0 } else { self.due() }
    }

    /// A draft of up to `room` tokens after the last one, looked up in the text.
    pub fn draft_by_lookup(&mut self, room: usize, costs: &DraftCosts) -> Draft {
        let room = room.min(self.room_for_draft());
        let Task::Generate(text) = &mut self.task else { return Draft::default() };
        let Some(Speculation { lookup, length, .. }) = &text.speculation else {
            return Draft::default();
        };
        let mut tokens = match length.length(costs).min(room) {
            0 => Vec::new(),
            most => lookup.longest().map_or_else(Vec::new, |found| lookup.draft(found, most)),
        };
        text.answer.clip(&mut tokens);
        Draft { tokens, by_model: false }
    }

    /// What a draft model drafted, as far as it is allowed.
    pub fn draft_by_model(&mut self, mut tokens: Vec<u32>) -> Draft {
        if let Task::Generate(text) = &mut self.task {
            text.answer.clip(&mut tokens);
        }
        Draft { tokens, by_model: true }
    }

    /// What to ask the draft model for: up to `room` tokens.
    pub fn draft_request(&mut self, room: usize, costs: &DraftCosts) -> Option<DraftRequest<'_>> {
        let room = room.min(self.room_for_draft());
        let Task::Generate(text) = &mut self.task else { return None };
        let (state, length) = text.speculation.as_mut()?.by_model.as_mut()?;
        let count = length.length(costs).min(room);
        (count > 0).then(|| DraftRequest { state, tokens: &self.tokens, count, draft: Vec::new() })
    }

    /// The answer and its cache, if it has a constraint.
    pub fn split(&mut self) -> (&mut KvCache, Option<&mut Answer>) {
        let answer = match &mut self.task {
            Task::Generate(text) if text.answer.is_constrained() => Some(&mut text.answer),
            _ => None,
        };
        (&mut self.cache, answer)
    }

    /// Lets a draft model draft where there is nothing to look up.
    pub fn set_draft_model(&mut self, state: Option<DraftState>) {
        if let Task::Generate(text) = &mut self.task
            && let Some(speculation) = &mut text.speculation
        {
            speculation.by_model = state.map(|state| (state, DraftLength::new(MAX_MODEL_DRAFT)));
        }
    }

    /// Drafted tokens that could be used: the pass brings one token anyway.
    fn room_for_draft(&self) -> usize {
        let Task::Generate(text) = &self.task else { return 0 };
        let left = text
            .answer
            .options()
            .num_predict
            .map_or(usize::MAX, |most| most.saturating_sub(text.answer.generated() + 1));
        left.min(self.positions.saturating_sub(self.tokens.len()))
    }

    /// Makes room if the context is full and the request wants to go on.
    ///
    /// # Errors
    /// [`Error::Limit`] if it wants to fail then.
    pub fn make_room(&mut self) -> Result<()> {
        let Task::Generate(text) = &mut self.task else { return Ok(()) };
        if self.cache.len() < text.num_ctx {
            return Ok(());
        }
        let full = text.answer.options().context_full;
        let Some(kept) = full.shift(&self.tokens, text.num_ctx) else {
            return Err(no_room(self.tokens.len(), text.num_ctx));
        };
        text.summary.dropped_tokens += kept.dropped;
        self.tokens = kept.tokens;
        if let Some(speculation) = &mut text.speculation {
            speculation.lookup = PromptLookup::default();
            speculation.lookup.extend(&self.tokens);
        }
        text.forced = 0;
        self.cache.clear();
        self.reserved = false;
        Ok(())
    }

    /// Takes what a pass computed after the last of the tokens and after each
    /// drafted one: rows of `logits`. Returns how many drafted tokens were right, too.
    pub fn take_logits(
        &mut self,
        model: &Model,
        draft: &Draft,
        logits: &[f32],
        costs: &DraftCosts,
    ) -> (Next, usize) {
        let Task::Generate(text) = &mut self.task else { return (Next::More, 0) };
        let start = self.tokens.len();
        let (mut right, mut end) = (0, None);
        text.lap_prompt();
        if text.answer.options().num_predict == Some(0) {
            return (Next::Done(text.done(FinishReason::Length)), 0);
        }
        for logits in logits.chunks_exact(model.n_vocab()) {
            let full = self.tokens.len() >= text.num_ctx;
            let Step { piece, token, reason } = match text.answer.next(model, logits, full) {
                Ok(step) => step,
                Err(error) => return (Next::Done(Outcome::Failed(error)), right),
            };
            self.tokens.extend(token);
            piece.into_iter().for_each(|piece| self.sink.send(piece));
            end = reason;
            if end.is_some() || token != draft.tokens.get(right).copied() {
                break;
            }
            right += 1;
        }
        // All but the newest of these is computed.
        let computed = self.tokens.len() - 1;
        text.forced = 0;
        while end.is_none() && text.forced < MAX_DRAFT && self.tokens.len() < text.num_ctx {
            let Some(Step { piece, token, reason }) = text.answer.next_forced(model) else { break };
            self.tokens.extend(token);
            text.forced += token.iter().len();
            piece.into_iter().for_each(|piece| self.sink.send(piece));
            end = reason;
        }
        if let Some(Speculation { lookup, length, by_model }) = &mut text.speculation {
            let (count, none) = ((draft.tokens.len(), right), (0, 0));
            let looked_up = if draft.by_model { none } else { count };
            length.record(looked_up.0, looked_up.1, costs);
            if let Some((_, length)) = by_model {
                let modelled = if draft.by_model { count } else { none };
                length.record(modelled.0, modelled.1, costs);
            }
            lookup.extend(&self.tokens[start..]);
        }
        text.summary.timings.generated_tokens = text.answer.generated();
        text.summary.timings.drafted_tokens += draft.tokens.len();
        text.summary.timings.accepted_tokens += right;
        // A rejected draft is forgotten. Where the state does not reach back to that point, the
        // sequence owes more.
        self.reserved &= self.cache.rewind_to(computed) == computed;
        let next = end.map_or(Next::More, |reason| Next::Done(text.done(reason)));
        (next, right)
    }

    /// Takes the hidden states of the tokens that a pass computed.
    pub fn take_hidden(&mut self, model: &Model, hidden: &[f32]) -> Next {
        let Task::Embed { pool, goal } = &mut self.task else { return Next::More };
        pool.add(hidden);
        if self.cache.len() < self.tokens.len() {
            return Next::More;
        }
        let tokens = self.tokens.len();
        let (pool, model) = (pool.clone(), model.transformer());
        let outcome = match *goal {
            Goal::Vector { normalize } => pool
                .vector(model, normalize)
                .map(|vector| Outcome::Embedding(Embedding { vector, tokens })),
            Goal::Score { .. } => pool
                .finish(false)
                .and_then(|state| model.classify(state))
                .map(|score| Outcome::Score(score, tokens)),
        };
        Next::Done(outcome.unwrap_or_else(Outcome::Failed))
    }

    /// Whether it has begun to generate.
    pub fn is_stream(&self) -> bool {
        matches!(&self.task, Task::Generate(text) if text.answer.generated() > 0)
    }

    /// Whether a vector is wanted.
    pub fn is_embedding(&self) -> bool {
        matches!(self.task, Task::Embed { .. })
    }

    /// The outcome when it is cancelled now.
    pub fn cancelled(&mut self) -> Outcome {
        match &mut self.task {
            Task::Generate(text) => text.done(FinishReason::Cancelled),
            Task::Embed { .. } => Outcome::Failed(Error::Cancelled),
        }
    }
}

impl Generating {
    /// Ends the prompt's time with the first logits.
    fn lap_prompt(&mut self) {
        if self.answer.generated() == 0 {
            let now = Instant::now();
            self.summary.timings.prompt = now - self.clock;
            self.clock = now;
        }
    }

    fn done(&mut self, reason: FinishReason) -> Outcome {
        self.summary.finish_reason = Some(reason);
        if self.answer.generated() > 0 {
            self.summary.timings.generation = self.clock.elapsed();
        }
        Outcome::Done(self.summary)
    }
}
