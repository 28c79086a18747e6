//! One call behind a marker, in the form that the marker announces.

use serde_json::{Value as Json, json};

use super::context::{Context, End};
use super::markers::{Match, near, starts};
use super::object::{Item, object, of_object};
use super::python::{self, Stop};
use super::syntax::{Body, CALL_BEGIN};
use super::xml;
use crate::template::ToolCall;

/// Longer names are none.
const NAME: usize = 256;
const CALL_ID: &str = "[CALL_ID]";
const ARGS: &str = "[ARGS]";
/// DeepSeek's marks within one call.
const CALL_SEP: &str = "<｜tool▁sep｜>";
const CALL_END: &str = "<｜tool▁call▁end｜>";
const FENCE: &str = "```";

/// What `text`, which is not empty, begins with.
pub(super) fn item(context: &Context, body: Body, text: &str, end: End) -> Item {
    match body {
        _ if text.starts_with('{') && body != Body::Code && body != Body::Message => {
            object(context, text, end)
        }
        Body::Objects if text.starts_with('<') => match tag(text, end) {
            Match::Full(..) => xml::function(context, text, end),
            Match::Partial => Item::Wait,
            Match::No => Item::Fail(0),
        },
        Body::Objects if context.syntax.python && python::begins_call(text) => {
            pythonic(context, text, "", end)
        }
        Body::Named => named(context, text, end),
        Body::Function => xml::function(context, text, end),
        Body::Code => code(context, text, end),
        Body::Fenced => fenced(context, text, end),
        Body::Objects | Body::Message => Item::Fail(0),
    }
}

fn tag(text: &str, end: End) -> Match {
    starts(text, [xml::FUNCTION], end.is_some())
}

/// A call in Python.
pub(super) fn pythonic(context: &Context, text: &str, suffix: &str, end: End) -> Item {
    match python::call(text, suffix) {
        Ok((name, arguments, len)) => {
            Item::Found { len, call: context.call(name, Json::Object(arguments)) }
        }
        Err(Stop::End) if end.is_none() => Item::Wait,
        Err(Stop::End) => Item::Fail(text.len()),
        Err(Stop::At(at)) => Item::Fail(at),
    }
}

/// `name`, perhaps `[CALL_ID]id`, perhaps `[ARGS]`, and the arguments.
fn named(context: &Context, text: &str, end: End) -> Item {
    let head = near(text, NAME);
    let stop = head.find(['[', '{', '\n']).unwrap_or(head.len());
    let name = text[..stop].trim();
    if name.is_empty() || stop == head.len() && stop < text.len() {
        return Item::Fail(stop);
    }
    let (mut at, mut id, mut marked) = (stop, None, false);
    match starts(&text[at..], [CALL_ID, ARGS], end.is_some()) {
        Match::Full(0, length) => {
            let from = at + length;
            let Some(to) = near(&text[from..], NAME).find('[').map(|to| from + to) else {
                let open = end.is_none() && text.len() - from < NAME;
                return if open { Item::Wait } else { Item::Fail(from) };
            };
            id = Some(text[from..to].trim());
            at = to;
        }
        Match::Partial => return Item::Wait,
        _ => {}
    }
    match starts(&text[at..], [ARGS], end.is_some()) {
        Match::Full(_, length) => (at, marked) = (at + length, true),
        Match::Partial => return Item::Wait,
        Match::No => {}
    }
    let with_id = |call: ToolCall| match id {
        Some(id) if !id.is_empty() => call.with_id(id),
        _ => call,
    };
    let rest = text[at..].trim_start();
    let start = text.len() - rest.len();
    if rest.starts_with('{') {
        let item = of_object(context, name, rest, end).moved(start);
        return match item {
            Item::Found { len, call } => Item::Found { len, call: call.map(with_id) },
            other => other,
        };
    }
    let none = || context.call(name, Json::Null).map(with_id);
    // No arguments: the call must end here.
    match (context.ends(rest, end), end) {
        (Match::Partial, _) => Item::Wait,
        (Match::Full(..), _) if marked => Item::Found { len: start, call: none() },
        (_, Some(false)) if rest.is_empty() => Item::Found { len: start, call: none() },
        _ => Item::Fail(start),
    }
}

/// Behind a marker for code: a call object, `name.call(…)`, or a program if there is a
/// function for it.
fn code(context: &Context, text: &str, end: End) -> Item {
    let tool = ["python", "code_interpreter", "ipython"];
    let tool = tool.into_iter().find(|name| context.takes_code(name));
    let item = if text.starts_with('{') {
        object(context, text, end)
    } else {
        pythonic(context, text, ".call", end)
    };
    match (item, tool) {
        (Item::Wait, _) => Item::Wait,
        (Item::Fail(_) | Item::Found { call: None, .. }, Some(tool)) => {
            program(context, tool, text, end)
        }
        (item, _) => item,
    }
}

/// A program up to the end of the turn.
fn program(context: &Context, tool: &str, text: &str, end: End) -> Item {
    let drops = context.syntax.drops.iter().filter_map(|drop| text.find(drop.as_str()));
    let len = match (drops.min(), end) {
        (Some(len), _) => len,
        (None, None) => return Item::Wait,
        (None, Some(false)) => text.len(),
        (None, Some(true)) => return Item::Fail(text.len()),
    };
    let code = text[..len].trim_end();
    Item::Found { len, call: context.call(tool, json!({"code": code})) }
}

/// `<begin>function<sep>name`, the arguments in a fence or without one, `<end>`.
fn fenced(context: &Context, text: &str, end: End) -> Item {
    let head = match starts(text, [CALL_BEGIN], end.is_some()) {
        Match::Full(_, length) => length,
        Match::Partial => return Item::Wait,
        Match::No => return Item::Fail(0),
    };
    // Name and fence are short.
    let short = near(&text[head..], NAME);
    let Some((kind, rest)) = short.split_once(CALL_SEP) else {
        let open = end.is_none() && head + short.len() == text.len();
        return if open { Item::Wait } else { Item::Fail(head) };
    };
    let Some((before, _)) = rest.split_once('{') else {
        let open = end.is_none() && head + short.len() == text.len();
        return if open { Item::Wait } else { Item::Fail(head) };
    };
    let stop = before.find(['\n', '`']).unwrap_or(before.len());
    let (written, fence) = before.split_at(stop);
    let name = match (kind.trim(), written.trim()) {
        (name, "") | ("function" | "", name) => name,
        _ => return Item::Fail(head),
    };
    let start = head + kind.len() + CALL_SEP.len() + before.len();
    if !["", "json"].contains(&fence.trim().trim_start_matches('`').trim()) {
        return Item::Fail(start);
    }
    let item = of_object(context, name, &text[start..], end).moved(start);
    let Item::Found { mut len, call } = item else { return item };
    for mark in [FENCE, CALL_END] {
        let rest = text[len..].trim_start();
        match starts(rest, [mark], end.is_some()) {
            Match::Full(_, length) => len = text.len() - rest.len() + length,
            Match::Partial => return Item::Wait,
            Match::No => {}
        }
    }
    Item::Found { len, call }
}
