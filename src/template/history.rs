//! Histories that not every template shows, and forms of contents.

use serde_json::{Value as Json, json};

use super::chat::Chat;
use super::message::Message;
use crate::error::Result;

/// A template engine: the text of a conversation as it is.
pub type Renderer<'r> = dyn Fn(&Chat) -> Result<String> + 'r;

/// A history that not every template shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum History {
    /// A system message first.
    System,
    /// Several system messages first.
    Systems,
    /// A system message after others.
    LateSystem,
    /// Nothing but a system message.
    OnlySystem,
    UserTwice,
    AssistantTwice,
    AssistantFirst,
    /// The answer of a tool that was called.
    Tool,
    /// A call of a tool.
    Calls,
    /// Several calls in one message.
    ParallelCalls,
    /// A call with text before it.
    CallBesideText,
    /// A call whose content is null.
    NullContent,
    /// A call whose content is an empty text.
    EmptyContent,
    /// An assistant's message without words between those of a user.
    Silence,
}

/// How a template reads the content of a role.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    Text,
    /// As a list of parts only.
    Parts,
    Both,
}

impl Message {
    /// A plain text as a list of one part, for templates that read nothing else.
    pub(super) fn in_form(self, form: Form) -> Self {
        match (form, self.get("content")) {
            (Form::Parts, Some(Json::String(text))) => {
                let parts = json!([{"type": "text", "text": text}]);
                self.with("content", parts)
            }
            _ => self,
        }
    }
}
