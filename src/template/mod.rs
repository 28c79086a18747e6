//! Chat templates: a conversation as the text that the model was trained on.
//!
//! A GGUF file carries its template in `tokenizer.chat_template`, written in
//! Jinja for Python. It is rendered here as `apply_chat_template` of Hugging
//! Face transformers does, byte for byte but for the differences below, and
//! within limits: a template comes with the file, so it may be
//! hostile. It sees the conversation and the clock, nothing else.
//!
//! # Control tokens
//!
//! Templates write control tokens as text. [`ChatTemplate::fold`] marks
//! every spelling of one in the conversation ([`PLAIN_TEXT_MARK`]), so that
//! only the template's own reach the model as control tokens. Limits of that:
//! a template that looks for a control token's text in a message
//! (`'</think>' in content`) does not find it there. A template that
//! builds a control token around message text (`'<|' + role + '|>'`) still
//! does, so check the roles of untrusted messages. One that deletes letters
//! *within* a text may join what was apart. A control token of a single letter
//! cannot be broken.
//!
//! # Limits
//!
//! The source may have 256 KiB, a rendering one million steps (a step also
//! pays for 64 bytes), 4 MiB of output, 16 MiB for one value, 8 MiB of input.
//! What runs past them ends with [`Error::Limit`] or [`Error::Template`].
//!
//! # Differences from Python
//!
//! `tests/data/templates/jinja2_vectors.json` has 1,700 expressions and templates with what
//! jinja2 makes of them; it is the same here, but for these.
//!
//! - Errors here: `extends`, `include`, `import` and `block`, as there is one template; lists
//!   multiplied; `varargs` and `kwargs` of macros; tuples printed without parentheses; the
//!   globals `cycler`, `joiner` and `lipsum`; the filters `filesizeformat`, `pprint`, `random`,
//!   `striptags`, `urlize`, `wordwrap` and `xmlattr`; conversions (`!r`) and `%` in the fields
//!   of `str.format`.
//! - No error here: values of different types in comparisons and sorts, a value that is no
//!   text looked for in a text, a list as key, views and ranges in `tojson`.
//! - Other text: `strftime_now` is in UTC; `range`, `dict.items()`, groups, namespaces and
//!   `loop` print as lists and maps; `autoescape` does nothing; integers beyond 64 bits in
//!   messages become floats.
//! - Other order: the condition of `for … if` is asked for all items before the first turn, so
//!   that it does not see what a turn changes; a name of a `with` is known to those behind it;
//!   a parameter of a macro is not known to the defaults behind it.

mod call_probe;
mod calls;
mod chat;
mod fold;
mod folds;
mod history;
#[cfg(feature = "chat-template")]
mod jinja;
#[cfg(not(feature = "chat-template"))]
#[path = "absent.rs"]
mod jinja;
mod marks;
mod message;
mod shape;
mod thinking;
mod tidy;

use std::fmt;
use std::sync::OnceLock;

pub use self::chat::{Chat, Ending};
pub use self::folds::{Fold, Folded};
pub use self::history::Renderer;
use self::jinja::Jinja;
pub(crate) use self::marks::mark;
pub use self::marks::{PLAIN_TEXT_MARK, strip_marks};
pub use self::message::{Message, Tool, ToolCall};
pub use self::shape::Shape;
pub use self::thinking::Thinking;
use crate::error::{Error, Result};
use crate::gguf::Metadata;
use crate::tokenizer::{Prompt, Tokenizer};

/// The key of the template in a GGUF file.
const KEY: &str = "tokenizer.chat_template";
/// Variables of `apply_chat_template` that hold special tokens. What a vocabulary does not
/// have is an empty text: templates join them to other texts.
const SPECIAL: [&str; 7] =
    ["bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"];

/// What the variable `tools` is where a conversation has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum NoTools {
    /// `none`, as in transformers.
    None,
    /// Not defined.
    Undefined,
}

/// A compiled chat template.
///
/// The language is that of jinja2 3.1 with transformers' additions; see the
/// [module](self) for what is bounded and what differs.
pub struct ChatTemplate {
    source: String,
    tokens: Vec<(&'static str, String)>,
    /// Texts that must never arise from messages, tools or variables.
    control_pieces: Vec<String>,
    jinja: Jinja,
    /// Found out when the first conversation is folded.
    shape: OnceLock<Shape>,
}

impl ChatTemplate {
    /// Compiles a template for a vocabulary, which says what its control tokens are.
    ///
    /// # Errors
    /// [`Error::Template`] for a template that is broken, [`Error::Limit`] for one that is
    /// too large.
    pub fn new(source: &str, tokenizer: &Tokenizer) -> Result<Self> {
        let piece = |id: Option<u32>| id.and_then(|id| tokenizer.piece(id));
        let pieces = tokenizer.control_pieces().map(str::to_owned).collect();
        ChatTemplate::with_pieces(source, piece(tokenizer.bos()), piece(tokenizer.eos()), pieces)
    }

    /// Compiles a template for a vocabulary of which only these texts are known:
    /// `bos_token` and `eos_token`, which templates use by that name, and
    /// `control_pieces`, which must not arise from what people write.
    ///
    /// # Errors
    /// As [`new`](ChatTemplate::new).
    pub fn with_pieces(
        source: &str,
        bos_token: Option<&str>,
        eos_token: Option<&str>,
        control_pieces: Vec<String>,
    ) -> Result<Self> {
        let jinja = Jinja::new(source)?;
        let text = |name| match name {
            "bos_token" => bos_token.unwrap_or_default(),
            "eos_token" => eos_token.unwrap_or_default(),
            _ => "",
        };
        let tokens = SPECIAL.map(|name| (name, text(name).to_owned())).to_vec();
        let (source, shape) = (source.to_owned(), OnceLock::new());
        Ok(ChatTemplate { source, tokens, control_pieces, jinja, shape })
    }

    /// The template of a GGUF file, key `tokenizer.chat_template`; `None` if
    /// it has none.
    ///
    /// # Errors
    /// As [`new`](ChatTemplate::new), and [`Error::File`] for a key of another type.
    pub fn from_gguf(metadata: &Metadata, tokenizer: &Tokenizer) -> Result<Option<Self>> {
        let Some(source) = metadata.opt_str(KEY)? else { return Ok(None) };
        Self::new(source, tokenizer).map(Some)
    }

    /// Stops the clock of `strftime_now` at `unix_seconds` since 1970, for
    /// prompts that are to be the same every day.
    pub fn with_time(mut self, unix_seconds: u64) -> Self {
        self.jinja.set_clock(unix_seconds);
        self
    }

    /// The source, as given.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The prompt for a conversation, which is [folded](Fold) to what the template takes:
    /// every word of it is in the prompt. Calls of tools and their results get the form that
    /// the template reads: arguments as object or text, null or empty content, ids, names of
    /// results from their calls. Control tokens come from the template only: what
    /// messages, tools and variables say stays text.
    ///
    /// # Errors
    /// [`Error::Template`] if the template refuses the folded conversation or leaves words
    /// out; [`Error::Limit`] for more than the bounds allow.
    pub fn fold(&self, chat: &Chat) -> Result<Folded> {
        self.shape().render(chat, &|chat| self.with_tools_or_not(chat, &self.control_pieces))
    }

    /// The text of a conversation, folded, for finding out how the template writes: with the
    /// template's own forms of tools, calls and results only, without marks.
    ///
    /// # Errors
    /// As [`fold`](ChatTemplate::fold), and [`Error::Template`] where calls or results have no
    /// form of the template's own.
    pub fn render_own(&self, chat: &Chat) -> Result<String> {
        let engine = |chat: &Chat| self.with_tools_or_not(chat, &[]);
        let folded = self.shape().render(chat, &engine)?;
        folded.own_text()
    }

    fn shape(&self) -> &Shape {
        self.shape.get_or_init(|| Shape::probe(&|chat| self.with_tools_or_not(chat, &[])))
    }

    /// Some templates take every `tools` that is defined for a list, though it is none.
    fn with_tools_or_not(&self, chat: &Chat, control_pieces: &[String]) -> Result<String> {
        match self.as_it_is(chat, control_pieces) {
            Err(Error::Template(problem)) if chat.tools.is_none() => self
                .by_jinja(chat, NoTools::Undefined, control_pieces)
                .map_err(|_| Error::Template(problem)),
            other => other,
        }
    }

    /// The prompt for a conversation as it is, as transformers has it; for prompts that lose
    /// no words see [`fold`](ChatTemplate::fold).
    ///
    /// # Errors
    /// [`Error::Template`] if the template refuses the conversation (the error carries the
    /// text of its `raise_exception`) or does not show a last message that is to be
    /// continued; [`Error::Limit`] for more than the bounds allow.
    pub fn render(&self, chat: &Chat) -> Result<Prompt> {
        let text = chat::rendered(chat, |chat| self.as_it_is(chat, &self.control_pieces))?;
        Ok(Prompt::from_marked(text))
    }

    /// The same as plain text, for display.
    ///
    /// # Errors
    /// As [`render`](ChatTemplate::render).
    pub fn render_plain(&self, chat: &Chat) -> Result<String> {
        chat::rendered(chat, |chat| self.as_it_is(chat, &[]))
    }

    fn as_it_is(&self, chat: &Chat, control_pieces: &[String]) -> Result<String> {
        self.by_jinja(chat, NoTools::None, control_pieces)
    }

    fn by_jinja(
        &self,
        chat: &Chat,
        no_tools: NoTools,
        control_pieces: &[String],
    ) -> Result<String> {
        let Some(thinking) = chat.thinking else {
            return self.jinja.render(chat, no_tools, &self.tokens, control_pieces);
        };
        let mut chat = chat.clone();
        for (name, value) in thinking.variables(&self.source) {
            chat.variables.entry(name).or_insert(value);
        }
        self.jinja.render(&chat, no_tools, &self.tokens, control_pieces)
    }
}

impl fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChatTemplate").field("source", &self.source).finish_non_exhaustive()
    }
}
