//! One request being worked on.
//!
//! A sequence is its tokens and a cache that has computed the first of them. What it
//! owes, the rest, is the prompt's remainder at first and the newest token later; a
//! pass that pays all of it brings logits, and they bring the next token.

use std::time::Instant;

use crate::error::{Error, Result};
use crate::kv_cache::KvCache;
use crate::model::Model;
use crate::session::answer::Answer;
use crate::session::{FinishReason, Piece, Summary, Timings};

use super::costs::GuessCosts;
use super::draft::{Lookup, Pace};
use super::draft_model::{Shadow, Want};
use super::embed::Embedding;
use super::pooling::Pool;
use super::request::{Input, Outcome, Text, no_room};
use super::stream::Sink;

/// Guesses of a draft model at a time at most: each costs a pass of it.
const MODEL_GUESSES: usize = 4;

pub(super) struct Sequence {
    /// Counts up with the order of arrival.
    pub id: u64,
    pub sink: Sink<Piece, Outcome>,
    pub cache: KvCache,
    pub tokens: Vec<u32>,
    /// Positions that it may come to use: what is granted.
    pub positions: usize,
    /// Whether they are granted; it does not move before.
    pub granted: bool,
    /// Another sequence that is about to compute so many of the same first tokens.
    pub leader: Option<(u64, usize)>,
    /// How many of its tokens were found, not computed.
    pub found: usize,
    pub task: Task,
}

/// What for.
pub(super) enum Task {
    Generate(Box<Generating>),
    Embed { pool: Pool, normalize: bool },
}

/// A text on its way.
pub(super) struct Generating {
    answer: Answer,
    num_ctx: usize,
    summary: Summary,
    clock: Instant,
    speculation: Option<Speculation>,
}

/// Guesses ahead.
struct Speculation {
    lookup: Lookup,
    pace: Pace,
    /// Where the text has nothing to look up.
    by_model: Option<(Shadow, Pace)>,
}

/// Tokens that may come next.
#[derive(Debug, Clone, Default)]
pub(super) struct Guess {
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
        let Text { tokens, dropped, answer, num_ctx, speculate: wanted, submitted } = *text;
        let clock = Instant::now();
        let timings = Timings {
            load: model.load_time(),
            waited: clock - submitted,
            prompt_tokens: tokens.len(),
            ..Timings::default()
        };
        let summary = Summary { finish_reason: None, dropped_tokens: dropped, timings };
        let speculation = (speculate && wanted).then(|| {
            let mut lookup = Lookup::default();
            lookup.extend(&tokens);
            Speculation { lookup, pace: Pace::default(), by_model: None }
        });
        (tokens, Generating { answer, num_ctx, summary, clock, speculation })
    }
}

impl Task {
    pub fn embed(input: Input) -> (Vec<u32>, Self) {
        let Input { tokens, pool, normalize } = input;
        (tokens, Task::Embed { pool, normalize })
    }
}

impl Sequence {
    /// Tokens not computed yet.
    pub fn owed(&self) -> usize {
        self.tokens.len() - self.cache.len()
    }

    /// Whether its next row brings a token at once.
    pub fn decodes(&self) -> bool {
        self.owed() == 1 && matches!(self.task, Task::Generate(_))
    }

    /// Whether it may be in the next pass.
    pub fn is_ready(&self) -> bool {
        self.granted && self.leader.is_none() && !self.sink.must_pause()
    }

    /// Takes over `cache`, which has computed the first of its tokens.
    pub fn adopt(&mut self, cache: KvCache) {
        self.found = cache.len();
        self.cache = cache;
        if let Task::Generate(text) = &mut self.task {
            text.summary.timings.reused_tokens = self.found;
            text.summary.timings.prompt_tokens = self.tokens.len() - self.found;
        }
    }

    /// Up to `room` guesses of the tokens after the last one, looked up in the text.
    pub fn look_up(&self, room: usize, costs: &GuessCosts) -> Guess {
        let room = room.min(self.room_for_guesses());
        let Task::Generate(text) = &self.task else { return Guess::default() };
        let Some(Speculation { lookup, pace, .. }) = &text.speculation else {
            return Guess::default();
        };
        let tokens = match pace.length(costs).min(room) {
            0 => Vec::new(),
            most => lookup.longest().map_or_else(Vec::new, |found| lookup.draft(found, most)),
        };
        Guess { tokens, by_model: false }
    }

    /// What to ask the draft model for: up to `room` guesses.
    pub fn want(&mut self, room: usize, costs: &GuessCosts) -> Option<Want<'_>> {
        let room = room.min(self.room_for_guesses());
        let Task::Generate(text) = &mut self.task else { return None };
        let (shadow, pace) = text.speculation.as_mut()?.by_model.as_mut()?;
        let count = pace.length(costs).min(room);
        (count > 0).then(|| Want { shadow, tokens: &self.tokens, count, guesses: Vec::new() })
    }

    /// Gives it a draft model's guesses.
    pub fn follow(&mut self, shadow: Option<Shadow>) {
        if let Task::Generate(text) = &mut self.task
            && let Some(speculation) = &mut text.speculation
        {
            speculation.by_model = shadow.map(|shadow| (shadow, Pace::new(MODEL_GUESSES)));
        }
    }

    /// Guesses that could be used: the pass brings one token anyway.
    fn room_for_guesses(&self) -> usize {
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
            speculation.lookup = Lookup::default();
            speculation.lookup.extend(&self.tokens);
        }
        self.cache.clear();
        self.granted = false;
        Ok(())
    }

    /// Takes what a pass computed after the last of the tokens and after each
    /// guess: rows of `logits`. Returns how many guesses were right, too.
    pub fn take_logits(
        &mut self,
        model: &Model,
        guess: &Guess,
        logits: &[f32],
        costs: &GuessCosts,
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
            let (piece, reason) = match text.answer.next(model, logits, full) {
                Ok(next) => next,
                Err(error) => return (Next::Done(Outcome::Failed(error)), right),
            };
            let token = piece.token;
            self.tokens.push(token);
            self.sink.send(piece);
            end = reason;
            if end.is_some() || guess.tokens.get(right) != Some(&token) {
                break;
            }
            right += 1;
        }
        if let Some(Speculation { lookup, pace, by_model }) = &mut text.speculation {
            let (count, none) = ((guess.tokens.len(), right), (0, 0));
            let looked_up = if guess.by_model { none } else { count };
            pace.record(looked_up.0, looked_up.1, costs);
            if let Some((_, pace)) = by_model {
                let modelled = if guess.by_model { count } else { none };
                pace.record(modelled.0, modelled.1, costs);
            }
            lookup.extend(&self.tokens[start..]);
        }
        text.summary.timings.generated_tokens = text.answer.generated();
        text.summary.timings.drafted_tokens += guess.tokens.len();
        text.summary.timings.accepted_tokens += right;
        // All but the newest token is computed; wrong guesses are forgotten.
        if let Err(error) = self.cache.truncate(self.tokens.len() - 1) {
            return (Next::Done(Outcome::Failed(error)), right);
        }
        let next = end.map_or(Next::More, |reason| Next::Done(text.done(reason)));
        (next, right)
    }

    /// Takes the hidden states of the tokens that a pass computed.
    pub fn take_hidden(&mut self, hidden: &[f32]) -> Next {
        let Task::Embed { pool, normalize } = &mut self.task else { return Next::More };
        pool.add(hidden);
        if self.cache.len() < self.tokens.len() {
            return Next::More;
        }
        let tokens = self.tokens.len();
        Next::Done(match pool.clone().finish(*normalize) {
            Ok(vector) => Outcome::Embedding(Embedding { vector, tokens }),
            Err(error) => Outcome::Failed(error),
        })
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
