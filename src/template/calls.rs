//! Calls of tools and their results in the form that a template takes.

use std::collections::{BTreeSet, VecDeque};

use serde_json::Value as Json;

use super::folds::Fold;
use super::history::History;
use super::message::Message;
use super::shape::Shape;
use super::tidy::{json_text, nine_letters};

/// Messages with calls and results in the form of `shape`.
pub(super) fn formed(
    shape: &Shape,
    messages: &[Message],
    folds: &mut BTreeSet<Fold>,
) -> Vec<Message> {
    let mut left: VecDeque<Message> = messages.iter().cloned().collect();
    let mut formed = Vec::with_capacity(messages.len());
    while let Some(mut message) = left.pop_front() {
        if message.role() == "tool" {
            renew_result(shape, &mut message, folds);
            formed.push(message);
        } else if !message.calls() {
            formed.push(message);
        } else if !shape.takes(History::Calls) {
            folds.insert(Fold::Calls);
            formed.push(as_text(shape, message));
        } else {
            if !shape.takes(History::CallBesideText) && !says_nothing(&message) {
                folds.insert(Fold::SplitCalls);
                formed.push(text_of(&mut message));
            }
            let calls = message.get("tool_calls").and_then(Json::as_array).map_or(0, Vec::len);
            if calls > 1 && !shape.takes(History::ParallelCalls) {
                folds.insert(Fold::SplitCalls);
                let pairs = pairs(&message, &mut left);
                // Each has one call now.
                pairs.into_iter().rev().for_each(|message| left.push_front(message));
            } else {
                renew_calls(shape, &mut message, folds);
                formed.push(message);
            }
        }
    }
    formed
}

fn says_nothing(message: &Message) -> bool {
    message.is_text() && message.texts().iter().all(|text| text.trim().is_empty())
}

/// Takes the text out of a message with calls, as a message before it. Thoughts stay with
/// the calls that they led to.
fn text_of(message: &mut Message) -> Message {
    let content = message.get("content").cloned().unwrap_or_default();
    message.set("content", "");
    Message::from(serde_json::json!({"role": message.role(), "content": content}))
}

/// A message for each call, with the results of that call behind it.
fn pairs(message: &Message, left: &mut VecDeque<Message>) -> Vec<Message> {
    let count = left.iter().take_while(|next| next.role() == "tool").count();
    let mut results: VecDeque<Message> = left.drain(..count).collect();
    let calls = message.tool_calls();
    let mut one = message.clone();
    one.remove("tool_calls");
    let mut pairs = Vec::with_capacity(calls.len() + count);
    for call in calls {
        let of_call = |result: &Message| result.get("tool_call_id") == call.as_json().get("id");
        let result = results.iter().position(of_call).and_then(|at| results.remove(at));
        pairs.push(one.clone().with("tool_calls", vec![call.as_json().clone()]));
        pairs.extend(result);
        // Thoughts and text stand before the first.
        one.remove("thinking");
        one.remove("reasoning_content");
        one.set("content", "");
    }
    pairs.extend(results);
    pairs
}

/// Content, arguments and ids as the template reads them.
fn renew_calls(shape: &Shape, message: &mut Message, folds: &mut BTreeSet<Fold>) {
    let is_null = message.get("content").is_none_or(Json::is_null);
    let is_empty = message.get("content").is_some_and(|content| content == "");
    if is_null && !shape.takes(History::NullContent) {
        message.set("content", "");
    } else if is_empty && (shape.calls.null || !shape.takes(History::EmptyContent)) {
        message.set("content", Json::Null);
    }
    for call in message.tool_calls_mut() {
        if let Some(Json::String(id)) = call.get_mut("id") {
            renew_id(shape, id, folds);
        }
        let arguments = call.get_mut("function").and_then(|f| f.get_mut("arguments"));
        if let Some(arguments) = arguments.filter(|arguments| arguments.is_object())
            && shape.calls.as_text
        {
            *arguments = json_text(arguments).into();
        }
    }
}

fn renew_result(shape: &Shape, message: &mut Message, folds: &mut BTreeSet<Fold>) {
    match message.get("tool_call_id").and_then(Json::as_str) {
        Some(id) => {
            let mut id = id.to_owned();
            renew_id(shape, &mut id, folds);
            message.set("tool_call_id", id);
        }
        // A result without a call.
        None if shape.calls.nine => message.set("tool_call_id", nine_letters("no call")),
        None => {}
    }
}

/// The same id becomes the same nine letters.
fn renew_id(shape: &Shape, id: &mut String, folds: &mut BTreeSet<Fold>) {
    let fits = id.len() == 9 && id.bytes().all(|byte| byte.is_ascii_alphanumeric());
    if shape.calls.nine && !fits {
        folds.insert(Fold::Ids);
        *id = nine_letters(id);
    }
}

/// Calls as lines of the text.
fn as_text(shape: &Shape, mut message: Message) -> Message {
    let calls = message.tool_calls().into_iter().map(|call| {
        let call = call.as_json();
        let text = json_text(call.get("function").unwrap_or(call));
        match shape.calls.tagged {
            true => format!("<tool_call>\n{text}\n</tool_call>"),
            false => text,
        }
    });
    let mut said: Vec<String> =
        message.texts().into_iter().filter(|text| !text.is_empty()).map(str::to_owned).collect();
    said.extend(calls);
    message.set("content", said.join("\n"));
    message.remove("tool_calls");
    message
}
