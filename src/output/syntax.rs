//! The description of a syntax: markers, and what stands behind them.

use super::form::{Control, Form};

/// DeepSeek's mark before each call.
pub(super) const CALL_BEGIN: &str = "<｜tool▁call▁begin｜>";

/// Marks within messages and calls.
pub(super) const INNER: [&str; 7] = [
    "[ARGS]",
    "[CALL_ID]",
    "<|message|>",
    "<|constrain|>",
    CALL_BEGIN,
    "<｜tool▁sep｜>",
    "<｜tool▁call▁end｜>",
];

/// How a model writes its thoughts and calls. It is found out by markers, never by the
/// name of a model.
#[derive(Debug, Clone, PartialEq, Default)]
pub(super) struct Syntax {
    /// What encloses thoughts.
    pub(super) thoughts: Vec<Tag>,
    /// What encloses an answer behind thoughts.
    pub(super) wraps: Vec<Tag>,
    /// What begins calls, or messages with a header.
    pub(super) openings: Vec<Opening>,
    /// Marks that belong to nothing.
    pub(super) drops: Vec<String>,
    /// Calls may be written in Python.
    pub(super) python: bool,
    /// Several call objects without a list are an answer of nothing but calls.
    pub(super) several: bool,
    /// Messages with channels (harmony), or with recipients behind `>>>`.
    pub(super) messages: Option<Messages>,
    /// How calls look in the template.
    pub(super) form: Option<Form>,
    /// Markers that are control tokens of the vocabulary.
    pub(super) controls: Vec<Control>,
    /// The template has thoughts.
    pub(super) thinks: bool,
    /// The template shows functions and has a form for their calls.
    pub(super) calls: bool,
}

/// An opening and a closing tag.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Tag {
    pub(super) open: String,
    pub(super) close: String,
}

/// How messages with a header look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Messages {
    /// `<|channel|>analysis to=functions.f<|message|>` …
    Channels,
    /// `>>>f` and a line break.
    Recipients,
}

/// What begins calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Opening {
    pub(super) text: String,
    pub(super) body: Body,
    /// What ends them.
    pub(super) close: Vec<String>,
}

/// What stands behind an opening.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Body {
    /// Call objects, one by one or in a list; calls in Python where the family writes them;
    /// `<function=` within the tags.
    Objects,
    /// The same, or `name[ARGS]{…}`.
    Named,
    /// `name>{…}`, or parameters in tags; the opening is a part of the call.
    Function,
    /// Call objects, `name.call(…)` or a program.
    Code,
    /// DeepSeek's: name and arguments between marks of their own.
    Fenced,
    /// The header of a message; the opening is a part of it.
    Message,
}

impl Opening {
    /// How much of the opening is no part of the first call.
    pub(super) fn consumed(&self) -> usize {
        match self.body {
            Body::Function | Body::Message => 0,
            // DeepSeek's inner mark without the outer one.
            Body::Fenced if self.text == CALL_BEGIN => 0,
            // The bracket of `functools[`.
            Body::Objects if self.text.ends_with('[') => self.text.len() - 1,
            _ => self.text.len(),
        }
    }

    /// What ends the calls.
    pub(super) fn closings(&self) -> impl Iterator<Item = &str> {
        self.close.iter().map(String::as_str)
    }
}

impl Syntax {
    /// What begins calls or messages.
    pub(super) fn opening_texts(&self) -> impl Iterator<Item = &str> {
        self.openings.iter().map(|opening| opening.text.as_str())
    }

    /// Marks behind which a call does not go on.
    pub(super) fn edges(&self) -> impl Iterator<Item = &str> {
        let openings = self.opening_texts();
        let closings = self.openings.iter().flat_map(Opening::closings);
        openings.chain(closings).chain(self.drops.iter().map(String::as_str))
    }

    /// Marks with which a further call in the same tags begins.
    pub(super) fn inner(&self) -> impl Iterator<Item = &str> {
        let inner = |opening: &&Opening| {
            opening.consumed() == 0 && matches!(opening.body, Body::Function | Body::Fenced)
        };
        self.openings.iter().filter(inner).map(|opening| opening.text.as_str())
    }

    /// Everything that may be a control token of the vocabulary.
    pub(super) fn marks(&self) -> impl Iterator<Item = &str> {
        let tags = self.thoughts.iter().chain(&self.wraps);
        tags.flat_map(|tag| [tag.open.as_str(), &tag.close]).chain(self.edges()).chain(INNER)
    }

    /// The control token with this text.
    pub(super) fn control(&self, text: &str) -> Option<&Control> {
        self.controls.iter().find(|control| control.text == text)
    }
}
