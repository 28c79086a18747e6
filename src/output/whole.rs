//! Calls without any marker: an answer that as a whole is one, or a list of them.

use super::context::{Context, End};
use super::item::{item, pythonic};
use super::markers::{Match, near, starts};
use super::object::Item;
use super::python;
use super::syntax::Body;
use crate::template::ToolCall;

pub(super) const FENCE: &str = "```";
/// Words behind a fence around calls.
const LANGUAGES: [&str; 7] = ["json", "tool_code", "tool_call", "python", "xml", "javascript", ""];
/// White space behind a fence, at most.
const SPACE: usize = 64;

/// What an answer is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Whole {
    /// More text will tell.
    Wait,
    /// Something else.
    Text,
    Calls(Vec<ToolCall>),
}

/// The length of the fence that `text` begins with, and of the white space behind it;
/// `None` while more text will tell.
pub(super) fn fence(text: &str, end: End) -> Option<Option<usize>> {
    let Some(behind) = text.strip_prefix(FENCE) else {
        return (!FENCE.starts_with(text) || end.is_some()).then_some(None);
    };
    let short = near(behind, SPACE);
    let word = short.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(short.len());
    let (language, space) = short.split_at(word);
    let length = space.len() - space.trim_start().len();
    let open = length == space.len() && end.is_none();
    match LANGUAGES.iter().find(|known| **known == language) {
        Some(_) if open && short.len() < SPACE => None,
        Some(_) => Some(Some(FENCE.len() + language.len() + length)),
        None if open && LANGUAGES.iter().any(|known| known.starts_with(language)) => None,
        None => Some(None),
    }
}

/// What an answer that begins with `text` is.
pub(super) fn whole(context: &Context, text: &str, end: End) -> Whole {
    let fenced = match fence(text, end) {
        None => return Whole::Wait,
        Some(length) => length,
    };
    let mut rest = text[fenced.unwrap_or(0)..].trim_start();
    let list = rest.starts_with('[');
    let first = if list { rest[1..].trim_start() } else { rest };
    rest = first;
    let mut calls = Vec::new();
    loop {
        if rest.is_empty() {
            return over(calls, end);
        }
        let (len, call) = match one(context, rest, fenced.is_some() || list, end) {
            Item::Wait => return Whole::Wait,
            Item::Found { len, call: Some(call) } => (len, call),
            Item::Found { call: None, .. } | Item::Fail(_) => return Whole::Text,
        };
        calls.push(call);
        rest = rest[len..].trim_start();
        if list {
            rest = rest.trim_start_matches(|c: char| c == ',' || c.is_whitespace());
            if let Some(behind) = rest.strip_prefix(']') {
                rest = behind.trim_start();
            } else if rest.starts_with('{') || python::begins_call(rest) {
                continue;
            }
        } else if context.syntax.several {
            let behind = rest.trim_start_matches(|c: char| c == ';' || c.is_whitespace());
            if behind.starts_with('{') {
                rest = behind;
                continue;
            }
        }
        return closed(context, rest, fenced.is_some(), calls, end);
    }
}

/// One call of an answer without markers.
fn one(context: &Context, text: &str, bare: bool, end: End) -> Item {
    if text.starts_with('{') {
        return match context.may_be_call(text) {
            true => item(context, Body::Objects, text, end),
            false => Item::Fail(0),
        };
    }
    match context.syntax.python && bare && python::begins_call(text) {
        true => pythonic(context, text, "", end),
        false => Item::Fail(0),
    }
}

/// Behind the calls only surplus closing characters, the fence's end and marks may stand.
fn closed(context: &Context, text: &str, fenced: bool, calls: Vec<ToolCall>, end: End) -> Whole {
    let surplus = |c: char| c.is_whitespace() || "}],;\"".contains(c);
    let mut rest = text.trim_start_matches(surplus);
    if fenced {
        match starts(rest, [FENCE], end.is_some()) {
            Match::Full(_, length) => rest = rest[length..].trim_start(),
            Match::Partial => return Whole::Wait,
            Match::No if rest.is_empty() => {}
            Match::No => return Whole::Text,
        }
    }
    let drops = || context.syntax.drops.iter().map(String::as_str);
    loop {
        match starts(rest, drops(), end.is_some()) {
            Match::Full(_, length) => rest = rest[length..].trim_start(),
            Match::Partial => return Whole::Wait,
            Match::No if rest.is_empty() => return over(calls, end),
            Match::No => return Whole::Text,
        }
    }
}

fn over(calls: Vec<ToolCall>, end: End) -> Whole {
    match end {
        None => Whole::Wait,
        Some(_) if calls.is_empty() => Whole::Text,
        Some(_) => Whole::Calls(calls),
    }
}
