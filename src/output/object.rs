//! One call that is, or has, a JSON object.

use serde_json::Value as Json;

use super::context::{Context, End};
use super::json::{self, Scan};
use super::markers::Match;
use crate::template::ToolCall;

/// What a text begins with.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Item {
    /// More text will tell.
    Wait,
    /// Nothing like a call. So far it was read to find that out.
    Fail(usize),
    /// What looks like a call and is this long. Without a call it stays text: its function
    /// is not declared or its arguments are no object.
    Found { len: usize, call: Option<ToolCall> },
}

impl Item {
    /// The same in a text that has `by` bytes more in front.
    pub(super) fn moved(self, by: usize) -> Self {
        match self {
            Item::Wait => Item::Wait,
            Item::Fail(read) => Item::Fail(read + by),
            Item::Found { len, call } => Item::Found { len: len + by, call },
        }
    }
}

/// A call object.
pub(super) fn object(context: &Context, text: &str, end: End) -> Item {
    read(context, text, end, |value| context.call_of(&value))
}

/// The arguments of a call of `name`.
pub(super) fn of_object(context: &Context, name: &str, text: &str, end: End) -> Item {
    read(context, text, end, |value| context.call(name, value))
}

fn read(context: &Context, text: &str, end: End, call: impl Fn(Json) -> Option<ToolCall>) -> Item {
    let found = |len: usize, closers: &str| {
        let call = json::read(&text[..len], closers).and_then(&call);
        Item::Found { len, call }
    };
    match json::scan(text) {
        Scan::Done(len) => found(len, ""),
        Scan::Stop { at, closers } if at == text.len() => match (end, closers) {
            (None, _) => Item::Wait,
            (Some(false), Some(closers)) => found(at, &closers),
            (Some(_), _) => Item::Fail(at),
        },
        Scan::Stop { at, closers: Some(closers) } => match context.ends(&text[at..], end) {
            Match::Full(..) => found(at, &closers),
            Match::Partial => Item::Wait,
            Match::No => Item::Fail(at),
        },
        Scan::Stop { at, closers: None } => Item::Fail(at),
    }
}
