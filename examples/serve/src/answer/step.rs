//! The steps of an answer, and its figures.

use std::time::Duration;

use crate::wire::ApiError;

use super::call::Call;

/// What happens next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Thoughts, with log probabilities if they were asked for.
    Thinking(String, Vec<Logprob>),
    /// Text, maybe empty; with log probabilities if they were asked for.
    Text(String, Vec<Logprob>),
    /// A call of a function.
    Call(Call),
    /// Log probabilities of tokens that are no part of any text, such as the markers of calls.
    Markup(Vec<Logprob>),
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
    /// Where it begins in the answer's text, in characters.
    #[serde(skip)]
    pub offset: usize,
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
    /// How many of them were thoughts.
    pub thinking_tokens: usize,
    /// Whether it ended because no token was left that its format or tools allow.
    pub dead_end: bool,
    /// From the request's arrival to the end.
    pub total: Duration,
    /// Until the model was ready.
    pub load: Duration,
    /// For the prompt.
    pub prompt: Duration,
    /// For the answer.
    pub generation: Duration,
    /// Functions whose arguments are any object, because their schemas cannot be kept.
    pub loose_functions: Vec<String>,
    /// Tokens that were dropped because the context was full.
    pub dropped_tokens: usize,
    /// Messages that were left out because they did not fit.
    pub dropped_messages: usize,
    /// What was done so that the template takes the conversation.
    pub folds: Vec<&'static str>,
    /// Prompt and answer as tokens.
    pub context: Vec<u32>,
}
