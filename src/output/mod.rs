//! What a model wrote → thoughts, text and calls of functions.
//!
//! ```text
//! prompt's end ─┐
//! pieces ───────┴─► OutputParser ─► thoughts · text · calls
//! ```
//!
//! How a model writes its thoughts and calls is an [`OutputSyntax`], found out by having its
//! chat template render small conversations. Nothing that the model wrote is lost: what looks
//! like a call and is none stays text.

mod attempts;
mod call_forms;
mod channels;
mod constraint;
mod context;
mod form;
mod grammar;
mod item;
mod json;
mod known;
mod markers;
mod message;
mod object;
mod parameters;
mod parser;
mod probe;
mod python;
mod region;
mod sink;
mod syntax;
mod tail;
mod typed;
mod whole;
mod xml;

use self::context::Context;
pub use self::parser::OutputParser;
use self::syntax::Syntax;
use crate::constrain::Constraint;
use crate::error::Result;
use crate::template::{Renderer, Tool, ToolCall};
use crate::tokenizer::Tokenizer;

/// How a model writes thoughts and calls.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OutputSyntax {
    syntax: Syntax,
}

/// What a parser found.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum OutputEvent {
    /// More of the model's thoughts.
    Thinking(String),
    /// More of the answer's text.
    Text(String),
    /// A complete call of a declared function. It has the id that the model wrote, if it
    /// wrote one.
    Call(ToolCall),
}

/// Whether the model may, or must, call functions.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ToolChoice {
    /// As it likes.
    #[default]
    Auto,
    /// It must not.
    None,
    /// It must call at least one.
    Required,
    /// It must call this one.
    Function(String),
}

/// What an answer is to be, for [`OutputSyntax::constraint`].
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct AnswerShape<'a> {
    /// Functions that may be called.
    pub tools: &'a [Tool],
    /// Whether they are.
    pub choice: ToolChoice,
    /// Whether more than one call is allowed.
    pub parallel: bool,
    /// What the text of the answer must be.
    pub content: Option<Constraint>,
    /// The end of the rendered prompt, some hundred bytes: it may have opened a thought.
    pub prompt_end: &'a str,
}

impl OutputSyntax {
    /// Finds out how a model writes, by the template that `render` is the engine of, its
    /// source and its vocabulary.
    pub fn probe(render: &Renderer<'_>, source: &str, tokenizer: &Tokenizer) -> Self {
        OutputSyntax { syntax: probe::probe(render, source, tokenizer) }
    }

    /// The syntax whose markers `text` has: a template, a vocabulary, or both.
    pub fn by_markers(text: &str) -> Self {
        OutputSyntax { syntax: known::by_markers(text) }
    }

    /// Whether the model can think before it answers.
    pub fn thinks(&self) -> bool {
        self.syntax.thinks
    }

    /// Whether the template shows functions to the model and has a form for their calls.
    pub fn calls(&self) -> bool {
        self.syntax.calls
    }

    /// The control tokens that the parser must see in the text:
    /// [`GenerateOptions::visible`](crate::GenerateOptions::visible).
    pub fn marker_tokens(&self, tokenizer: &Tokenizer) -> Vec<u32> {
        let id = |text: &str| tokenizer.id(text).filter(|id| tokenizer.is_control(*id));
        let mut ids: Vec<u32> = self.syntax.marks().filter_map(id).collect();
        ids.retain(|id| !tokenizer.is_end_of_generation(*id));
        ids.sort_unstable();
        ids.dedup();
        ids
    }

    /// A parser of one answer. `prompt_end` is the end of the rendered prompt.
    pub fn parser(&self, tools: &[Tool], prompt_end: &str) -> OutputParser {
        OutputParser::new(Context::new(self.syntax.clone(), tools), prompt_end)
    }

    /// What the answer is constrained to; `None` if it may be anything. Names and arguments
    /// of calls are constrained by their schemas from the marker on.
    ///
    /// # Errors
    /// [`Error::Misuse`](crate::Error::Misuse) for a choice of a function that is not declared.
    pub fn constraint(&self, shape: &AnswerShape<'_>) -> Result<Option<Constraint>> {
        constraint::constraint(&self.syntax, shape).map(|(constraint, _)| constraint)
    }

    /// The functions whose arguments [`constraint`](Self::constraint) leaves free but for
    /// being an object, because their schemas cannot be followed.
    ///
    /// # Errors
    /// As [`constraint`](Self::constraint).
    pub fn loose_functions(&self, shape: &AnswerShape<'_>) -> Result<Vec<String>> {
        constraint::constraint(&self.syntax, shape).map(|(_, loose)| loose)
    }
}
