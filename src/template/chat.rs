//! A conversation, and how its rendering is to end.

use serde_json::{Map, Value as Json};

use super::message::{Message, Tool};
use super::thinking::Thinking;
use crate::error::{Bounded, Error, Result};

/// Stands at the end of a message that is to be continued, so that the rendering can be
/// cut there. A noncharacter, so no text needs it.
const CUT: char = '\u{FDD1}';
/// Levels of lists and maps in a message, a tool or a variable.
pub(super) const MAX_DEPTH: usize = 64;

/// A conversation: messages, tools, and what else a template may look at.
///
/// ```
/// # #[cfg(feature = "chat-template")] {
/// use tramontane::{Chat, GenerateOptions, Message};
/// let mut session = tramontane::Model::open("models/storyteller-q4_k_m.gguf")?.session(&Default::default())?;
/// let mut chat = Chat::new([Message::user("Tell me a story about a dog.")]);
/// let options = GenerateOptions::default().with_num_predict(20);
/// let answer = session.chat(&chat, &options)?.wait()?;
/// chat.push(Message::assistant(answer.text));
/// chat.push(Message::user("And one about a cat."));
/// let answer = session.chat(&chat, &options)?.wait()?; // computes only what is new
/// assert!(answer.summary.timings.reused_tokens > 0);
/// # }
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Chat {
    /// The messages.
    pub messages: Vec<Message>,
    /// The functions that the model may call. `None` and an empty list are different
    /// to some templates; [`fold`](crate::ChatTemplate::fold) takes both for none.
    pub tools: Option<Vec<Tool>>,
    /// How the rendering ends.
    pub ending: Ending,
    /// Whether the model is to think first; `None` leaves it to the template.
    pub thinking: Option<Thinking>,
    /// More variables for the template. They come before those of `thinking`.
    pub variables: Map<String, Json>,
}

/// How a rendered conversation ends.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// So that the model speaks next: [`GenerationPrompt`](Ending::GenerationPrompt), or,
    /// if the last message is the assistant's, [`ContinueLast`](Ending::ContinueLast).
    #[default]
    Auto,
    /// With the opening of an answer: the template's `add_generation_prompt` is true.
    GenerationPrompt,
    /// Right after the content of the last message, so that the model continues it.
    ContinueLast,
    /// As the template closes the last message.
    Closed,
}

impl Chat {
    /// A conversation of these messages.
    pub fn new(messages: impl Into<Vec<Message>>) -> Self {
        Chat { messages: messages.into(), ..Chat::default() }
    }

    setters! {
        with_ending(ending: Ending);
        with_thinking(thinking: impl Into<Option<Thinking>>);
    }

    /// This conversation with functions that the model may call.
    #[must_use]
    pub fn with_tools(mut self, tools: impl Into<Vec<Tool>>) -> Self {
        self.tools = Some(tools.into());
        self
    }

    /// This conversation with one more variable for the template.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<String>, value: impl Into<Json>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// Adds a message at the end.
    pub fn push(&mut self, message: Message) {
        self.messages.push(message);
    }

    /// Whether the model is to continue the last message.
    pub(crate) fn continues_last(&self) -> bool {
        match self.ending {
            Ending::Auto => self.messages.last().is_some_and(Message::can_be_continued),
            Ending::ContinueLast => true,
            Ending::GenerationPrompt | Ending::Closed => false,
        }
    }

    /// # Errors
    /// [`Error::Limit`] for values that are nested too deep: they are visited recursively.
    pub(super) fn check_depth(&self) -> Result<()> {
        let messages = self.messages.iter().map(Message::as_json);
        let tools = self.tools.iter().flatten().map(Tool::as_json);
        let levels = messages.chain(tools).chain(self.variables.values()).map(|v| levels(v, 1));
        let needed = levels.max().unwrap_or(0);
        if needed <= MAX_DEPTH {
            return Ok(());
        }
        let what = Bounded::Template("levels of lists and maps in a message");
        Err(Error::limit(what, needed, MAX_DEPTH))
    }
}

/// Levels of lists and maps in a value at level `depth`, up to one more than are allowed.
pub(super) fn levels(json: &Json, depth: usize) -> usize {
    if depth > MAX_DEPTH {
        return depth;
    }
    match json {
        Json::Array(items) => items.iter().map(|item| levels(item, depth + 1)).max(),
        Json::Object(fields) => fields.values().map(|item| levels(item, depth + 1)).max(),
        _ => None,
    }
    .unwrap_or(depth)
}

/// What `engine` makes of a conversation: of one whose last message is to be continued, up
/// to the end of that message's content.
pub(super) fn rendered(
    chat: &Chat,
    engine: impl FnOnce(&Chat) -> Result<String>,
) -> Result<String> {
    if !chat.continues_last() {
        return engine(chat);
    }
    chat.check_depth()?;
    let mut open = chat.clone();
    if let Some(last) = open.messages.pop() {
        open.push(last.ending_with(CUT));
    }
    let mut text = engine(&open)?;
    let end = text.rfind(CUT).ok_or_else(|| {
        let problem = "it does not show the last message, which is to be continued";
        Error::Template(problem.into())
    })?;
    text.truncate(end);
    Ok(text)
}
