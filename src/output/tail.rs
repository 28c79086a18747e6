//! Calls that thoughts end with.

use super::context::{Context, End};
use super::markers::{Match, starts};
use super::region::{Next, Place, next};
use super::syntax::{Opening, Tag};
use crate::template::ToolCall;

/// What stands at a marker within thoughts.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Tail {
    /// More text will tell.
    Wait,
    /// Thoughts, which go on. So far the text was read to find that out.
    Thoughts(usize),
    /// Calls, and nothing behind them.
    Calls(Vec<ToolCall>),
}

/// What `text`, which begins with a marker within the thoughts of `tag`, is.
pub(super) fn tail(context: &Context, tag: &Tag, text: &str, end: End) -> Tail {
    let openings = &context.syntax.openings;
    let mut calls = Vec::new();
    let mut at = 0;
    let mut closed = false;
    loop {
        let separator = |c: char| c.is_whitespace() || ",;".contains(c);
        at = text.len() - text[at..].trim_start_matches(separator).len();
        let rest = &text[at..];
        if rest.is_empty() {
            return match end {
                None => Tail::Wait,
                Some(_) if calls.is_empty() => Tail::Thoughts(at),
                Some(_) => Tail::Calls(calls),
            };
        }
        match starts(rest, [tag.close.as_str()], end.is_some()) {
            Match::Full(_, length) if !closed => {
                (closed, at) = (true, at + length);
                continue;
            }
            Match::Partial => return Tail::Wait,
            _ => {}
        }
        match starts(rest, context.syntax.opening_texts(), end.is_some()) {
            Match::Full(index, _) => {
                let Some(opening) = openings.get(index) else { return Tail::Thoughts(at) };
                match region(context, opening, text, at, end, &mut calls) {
                    Ok(Some(after)) => at = after,
                    Ok(None) => return Tail::Wait,
                    Err(read) => return Tail::Thoughts(read),
                }
            }
            Match::Partial => return Tail::Wait,
            Match::No => return Tail::Thoughts(at),
        }
    }
}

/// Reads the calls of one marker: where they end, `None` if more text will tell.
fn region(
    context: &Context,
    opening: &Opening,
    text: &str,
    from: usize,
    end: End,
    calls: &mut Vec<ToolCall>,
) -> Result<Option<usize>, usize> {
    let mut at = from + opening.consumed();
    let mut place = Place::default();
    let before = calls.len();
    loop {
        match next(context, opening, place, &text[at..], end) {
            Next::Wait => return Ok(None),
            Next::Skip(length, then) => (at, place) = (at + length, then),
            Next::Item { len, call: Some(call) } => {
                calls.push(call);
                at += len;
                place.items = true;
            }
            Next::Item { len, call: None } => return Err(at + len),
            Next::Close(length) if calls.len() > before => return Ok(Some(at + length)),
            Next::Over(0) if calls.len() > before => return Ok(Some(at)),
            Next::Close(length) | Next::Over(length) => return Err(at + length),
        }
    }
}
