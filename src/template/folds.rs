//! What was done to a conversation, and what came of it.

use crate::error::{Error, Result};
use crate::tokenizer::Prompt;

/// What was done to a conversation so that a template takes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Fold {
    /// `developer` became `system`.
    Developer,
    /// A system text went into the neighbouring user's message.
    System,
    /// System messages were joined.
    Systems,
    /// A tool's answer became a user's message.
    Tool,
    /// Calls of tools became text of the assistant's messages.
    Calls,
    /// A message with several calls, or with a call and text, became several messages.
    SplitCalls,
    /// Ids of calls became ids of nine letters and digits.
    Ids,
    /// Messages of one role that follow each other were joined.
    Turns,
    /// A user's message without words was put before the assistant's first.
    Opening,
    /// Texts became lists of parts.
    Parts,
    /// Lists of parts became texts.
    Texts,
}

/// The prompt of a conversation that was folded.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Folded {
    /// The prompt.
    pub prompt: Prompt,
    /// Whether the prompt ends within a message that the model continues.
    pub continues: bool,
    /// What was done; empty if the template takes the conversation as it is.
    pub folds: Vec<Fold>,
}

impl Fold {
    /// A name for logs and replies.
    pub fn as_str(self) -> &'static str {
        match self {
            Fold::Developer => "developer-as-system",
            Fold::System => "system-into-user",
            Fold::Systems => "systems-joined",
            Fold::Tool => "tool-as-user",
            Fold::Calls => "calls-as-text",
            Fold::SplitCalls => "calls-split",
            Fold::Ids => "ids-shortened",
            Fold::Turns => "turns-joined",
            Fold::Opening => "user-added",
            Fold::Parts => "content-as-parts",
            Fold::Texts => "content-as-text",
        }
    }
}

impl Folded {
    /// The plain text, if calls and results are in forms of the template's own.
    ///
    /// # Errors
    /// [`Error::Template`] if they became texts of other messages.
    pub fn own_text(&self) -> Result<String> {
        match self.folds.iter().find(|fold| matches!(fold, Fold::Calls | Fold::Tool)) {
            Some(_) => Err(Error::Template("it has no form for calls of tools".into())),
            None => Ok(self.prompt.to_string()),
        }
    }
}
