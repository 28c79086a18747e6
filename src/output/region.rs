//! What stands behind a marker: calls, what separates them, and the marker at the end.

use super::context::{Context, End};
use super::item::item;
use super::markers::{Match, starts};
use super::object::Item;
use super::python;
use super::syntax::Opening;
use crate::template::ToolCall;

/// How far a region was read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// A call, or what looks like one, was found.
    pub(super) items: bool,
    /// The calls stand in a list.
    pub(super) list: bool,
}

/// What comes next in a region.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Next {
    /// More text will tell.
    Wait,
    /// So much belongs to nothing; the place behind it.
    Skip(usize, Place),
    /// A call, or what looks like one.
    Item { len: usize, call: Option<ToolCall> },
    /// The marker at the end.
    Close(usize),
    /// The region is over without one. So far the text was read to find that out.
    Over(usize),
}

/// What `rest` begins with.
pub(super) fn next(
    context: &Context,
    opening: &Opening,
    place: Place,
    rest: &str,
    end: End,
) -> Next {
    let trimmed = rest.trim_start();
    if trimmed.len() < rest.len() {
        return Next::Skip(rest.len() - trimmed.len(), place);
    }
    if place.items {
        return behind_item(context, opening, place, rest, end);
    }
    match starts(rest, opening.closings(), end.is_some()) {
        Match::Full(_, length) => return Next::Close(length),
        Match::Partial => return Next::Wait,
        Match::No => {}
    }
    if trimmed.is_empty() {
        return if end.is_some() { Next::Over(0) } else { Next::Wait };
    }
    if rest.starts_with('[') && !place.list {
        let inside = rest[1..].trim_start();
        let python = context.syntax.python && python::begins_call(inside);
        return match inside.chars().next() {
            None if end.is_none() => Next::Wait,
            Some('{') => Next::Skip(1, Place { list: true, ..place }),
            Some(_) if python => Next::Skip(1, Place { list: true, ..place }),
            _ => Next::Over(1),
        };
    }
    found(item(context, opening.body, rest, end))
}

fn found(item: Item) -> Next {
    match item {
        Item::Wait => Next::Wait,
        Item::Fail(read) => Next::Over(read),
        Item::Found { len, call } => Next::Item { len, call },
    }
}

/// Behind a call: the end of the list, separators, surplus closing characters; then an end
/// or the next call.
fn behind_item(context: &Context, opening: &Opening, place: Place, rest: &str, end: End) -> Next {
    match starts(rest, opening.closings(), end.is_some()) {
        Match::Full(_, length) => return Next::Close(length),
        Match::Partial if !rest.is_empty() => return Next::Wait,
        _ => {}
    }
    if place.list && rest.starts_with(']') {
        return Next::Skip(1, Place { list: false, ..place });
    }
    let surplus = |c: char| c.is_whitespace() || "}],;\"".contains(c);
    let behind = rest.trim_start_matches(surplus);
    if behind.is_empty() {
        return match end {
            None => Next::Wait,
            Some(_) if rest.is_empty() => Next::Over(0),
            Some(_) => Next::Skip(rest.len(), place),
        };
    }
    let call = behind.starts_with('{')
        || place.list && context.syntax.python && python::begins_call(behind);
    match context.ends(behind, end) {
        Match::Partial => Next::Wait,
        _ if call => Next::Skip(rest.len() - behind.len(), Place { items: false, ..place }),
        Match::Full(..) if behind.len() < rest.len() => {
            Next::Skip(rest.len() - behind.len(), place)
        }
        Match::Full(..) | Match::No => {
            // Several calls may share one pair of tags.
            match starts(behind, context.syntax.inner(), end.is_some()) {
                Match::Full(..) => {
                    Next::Skip(rest.len() - behind.len(), Place { items: false, ..place })
                }
                Match::Partial => Next::Wait,
                Match::No => Next::Over(0),
            }
        }
    }
}
