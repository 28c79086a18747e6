//! What a request of any API says about the model and how to answer.

use serde_json::{Map, Value};
use tramontane::Message;

use crate::wire::{KeepAlive, Think};

use super::format::Format;
use super::tools::Tools;

/// What all requests have.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The model, as the client wrote it.
    pub model: String,
    /// Ollama's options: `temperature`, `num_ctx`, …; they come before the model's own.
    pub options: Map<String, Value>,
    /// How long the model stays in memory after this.
    pub keep_alive: Option<KeepAlive>,
    /// Whether a conversation that does not fit loses its oldest part; else an error.
    pub truncate: bool,
    /// Whether the older half is dropped when the context is full while generating.
    pub shift: bool,
    /// Whether each token's log probability is wanted.
    pub logprobs: bool,
    /// How many alternatives of each token; 0 to 20.
    pub top_logprobs: usize,
    /// Whether, and how much, the model is to think first. `None`: if it can.
    pub think: Option<Think>,
    /// Whether a model that cannot think passes over `think`; else it is refused.
    pub think_if_able: bool,
    /// What the text of the answer must be.
    pub format: Option<Format>,
}

impl Asked {
    /// A request for `model` that leaves the rest to it.
    pub fn of(model: impl Into<String>) -> Self {
        Asked {
            model: model.into(),
            options: Map::new(),
            keep_alive: None,
            truncate: true,
            shift: true,
            logprobs: false,
            top_logprobs: 0,
            think: None,
            think_if_able: false,
            format: None,
        }
    }
}

/// A conversation to go on with.
#[derive(Debug, Clone)]
pub struct Chat {
    /// Model and options.
    pub asked: Asked,
    /// What was said, oldest first.
    pub messages: Vec<Message>,
    /// Functions that the model may call.
    pub tools: Tools,
}

impl Chat {
    /// A conversation without functions.
    pub fn of(asked: Asked, messages: Vec<Message>) -> Self {
        Chat { asked, messages, tools: Tools::default() }
    }
}

/// A prompt as tokens.
pub struct Prompt {
    pub tokens: Vec<u32>,
    /// Messages that were left out of it.
    pub dropped_messages: usize,
    /// Whether the answer is a text of its own, not a continuation.
    pub own_text: bool,
    /// What was done so that the template takes the conversation.
    pub folds: Vec<&'static str>,
    /// The end of its text: it may have begun a thought.
    pub end: String,
}

impl Prompt {
    /// A text to continue.
    pub fn of(tokens: Vec<u32>) -> Self {
        Prompt {
            tokens,
            dropped_messages: 0,
            own_text: false,
            folds: Vec::new(),
            end: String::new(),
        }
    }
}
