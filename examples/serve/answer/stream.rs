//! The events of an answer, and its figures.

use std::time::{Duration, Instant};

use tramontane::engine::{Item, Outcome, Reply};
use tramontane::{FinishReason, Model, Piece, Summary};

use crate::error::ApiError;
use crate::metrics::Gauge;
use crate::schedule::Lease;

/// A running answer. Dropping it cancels the work.
pub struct Answer {
    /// The model's name, as the client wrote it.
    pub model: String,
    reply: Reply,
    lease: Lease,
    gauge: Gauge,
    started: Instant,
    deadline: Option<Instant>,
    prompt: Vec<u32>,
    /// The answer's tokens: for the native API's `context`.
    output: Vec<u32>,
    /// What the conversation had lost before it became tokens.
    dropped_messages: usize,
    logprobs: bool,
    ended: bool,
}

/// What happens next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Text, maybe empty; with log probabilities if they were asked for.
    Text(String, Vec<Logprob>),
    /// It ended well.
    Done(Box<Done>),
    /// It ended with an error.
    Failed(ApiError),
}

/// A token's natural log probability.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Logprob {
    /// The token's text.
    pub token: String,
    /// Its natural log probability.
    pub logprob: f64,
    /// The bytes of its text.
    pub bytes: Vec<u8>,
    /// The most likely tokens at this place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that could have been chosen.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TopLogprob {
    /// The token's text.
    pub token: String,
    /// Its natural log probability.
    pub logprob: f64,
    /// The bytes of its text.
    pub bytes: Vec<u8>,
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoneReason {
    /// End of text.
    Stop,
    /// A stop string.
    StopString,
    /// A limit of tokens, or the context.
    Length,
}

impl DoneReason {
    /// Ollama's word.
    pub fn as_str(self) -> &'static str {
        match self {
            DoneReason::Stop | DoneReason::StopString => "stop",
            DoneReason::Length => "length",
        }
    }
}

/// The figures of an answer.
#[derive(Debug, Clone)]
pub struct Done {
    /// Why it ended.
    pub reason: DoneReason,
    /// Tokens of the prompt, found ones included.
    pub prompt_tokens: usize,
    /// How many of them had been computed before.
    pub reused_tokens: usize,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// From the request's arrival to the end.
    pub total: Duration,
    /// Until the model was ready.
    pub load: Duration,
    /// For the prompt.
    pub prompt: Duration,
    /// For the answer.
    pub generation: Duration,
    /// Tokens that were dropped because the context was full.
    pub dropped_tokens: usize,
    /// Messages that were left out because they did not fit.
    pub dropped_messages: usize,
    /// Prompt and answer as tokens.
    pub context: Vec<u32>,
}
