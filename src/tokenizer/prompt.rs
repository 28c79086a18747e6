//! A rendered conversation.

use std::fmt;

use super::PLAIN_TEXT_MARK;

/// A conversation as the text that a model is given, for
/// [`Tokenizer::encode_chat`](super::Tokenizer::encode_chat).
///
/// Texts of control tokens in it become control tokens, so what people wrote must be
/// marked as plain text. [`ChatTemplate::render`](crate::ChatTemplate::render) does that;
/// there is one other way to make a prompt, [`from_marked`](Prompt::from_marked).
/// [`Display`](fmt::Display) shows it without marks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompt(String);

impl Prompt {
    /// For a template engine of one's own: a text in which everything that people wrote
    /// has been marked with [`Model::mark`](crate::Model::mark). What is not marked can
    /// end the turn or speak for the system.
    pub fn from_marked(text: impl Into<String>) -> Self {
        Prompt(text.into())
    }

    /// The text with its marks, U+FDD0.
    pub fn marked(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Prompt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.split(PLAIN_TEXT_MARK).try_for_each(|text| f.write_str(text))
    }
}
