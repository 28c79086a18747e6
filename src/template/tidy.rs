//! Tool histories in one form, whatever the client sent: arguments are objects, calls have
//! ids, results name their call and its function, tools have parameters.

use std::collections::HashMap;

use serde_json::{Map, Value as Json, json};
use sha2::{Digest, Sha256};

use super::chat::{Chat, MAX_DEPTH, levels};
use super::message::{Message, Tool};

/// The level of arguments in a message: the message, its calls, one of them, its function.
const ARGUMENTS_AT: usize = 5;

/// The conversation with tools, calls and results in one form.
pub(super) fn tidied(chat: &Chat) -> Chat {
    let mut chat = chat.clone();
    chat.tools = chat.tools.take().filter(|tools| !tools.is_empty());
    for tool in chat.tools.iter_mut().flatten() {
        *tool = Tool::from(with_parameters(tool.as_json().clone()));
    }
    let mut calls = Calls::default();
    for message in &mut chat.messages {
        if message.as_json().is_object() {
            tidy(message, &mut calls);
        }
    }
    chat
}

/// A tool of which the parameters are a schema of an object.
fn with_parameters(mut tool: Json) -> Json {
    let Some(Json::Object(function)) = tool.get_mut("function") else { return tool };
    match function.get_mut("parameters") {
        Some(Json::Object(schema)) if !schema.is_empty() => {
            // As Go programs write what is not there.
            if schema.get("properties").is_some_and(Json::is_null) {
                schema.insert("properties".into(), json!({}));
            }
            if schema.get("type").is_some_and(|name| name == "") {
                schema.insert("type".into(), "object".into());
            }
        }
        None | Some(Json::Null | Json::Object(_)) => {
            let nothing = json!({"type": "object", "properties": {}});
            function.insert("parameters".into(), nothing);
        }
        Some(_) => {}
    }
    tool
}

/// The calls so far.
#[derive(Default)]
struct Calls {
    /// How many there were.
    count: usize,
    /// The function of the last call with an id.
    names: HashMap<String, String>,
    /// Ids and functions of the last message with calls that have no result yet.
    open: Vec<(String, String)>,
}

fn tidy(message: &mut Message, calls: &mut Calls) {
    if let Some(thought) = message.thinking().map(str::to_owned) {
        message.set("thinking", thought.clone());
        message.set("reasoning_content", thought);
    }
    if message.role() == "tool" {
        return tidy_result(message, calls);
    }
    let of_message = match message.get("tool_calls") {
        None => return,
        // Some templates ask only whether the field is there.
        Some(Json::Null) => return message.remove("tool_calls"),
        Some(Json::Array(list)) if list.is_empty() => return message.remove("tool_calls"),
        Some(Json::Array(list)) => list.clone(),
        Some(call) => vec![call.clone()],
    };
    calls.open.clear();
    let tidied = of_message.into_iter().map(|call| tidy_call(call, calls)).collect::<Vec<_>>();
    message.set("tool_calls", tidied);
}

fn tidy_call(call: Json, calls: &mut Calls) -> Json {
    let Json::Object(mut call) = call else { return call };
    calls.count += 1;
    let mut function = match call.shift_remove("function") {
        Some(Json::Object(function)) => function,
        Some(other) => return Json::Object(with_function(call, other)),
        // Without the envelope.
        None => ["name", "arguments"]
            .into_iter()
            .filter_map(|key| Some((key.to_owned(), call.shift_remove(key)?)))
            .collect(),
    };
    function.shift_remove("index");
    let arguments = match function.shift_remove("arguments") {
        None | Some(Json::Null) => json!({}),
        Some(Json::String(text)) if text.trim().is_empty() => json!({}),
        Some(Json::String(text)) => match serde_json::from_str(&text) {
            // What is nested too deep for a template stays text.
            Ok(object @ Json::Object(_)) if levels(&object, ARGUMENTS_AT) <= MAX_DEPTH => object,
            _ => Json::String(text),
        },
        Some(other) => other,
    };
    function.insert("arguments".into(), arguments);
    let name = function.get("name").and_then(Json::as_str).unwrap_or_default().to_owned();
    let id = match call.get("id").and_then(Json::as_str) {
        Some(id) if !id.is_empty() => id.to_owned(),
        _ => nine_letters(&format!("call {}", calls.count)),
    };
    call.insert("id".into(), id.clone().into());
    call.entry("type").or_insert("function".into());
    calls.names.insert(id.clone(), name.clone());
    calls.open.push((id, name));
    Json::Object(with_function(call, Json::Object(function)))
}

fn with_function(mut call: Map<String, Json>, function: Json) -> Map<String, Json> {
    call.insert("function".into(), function);
    call
}

/// A result gets the name of its call's function, and the id of its call.
fn tidy_result(message: &mut Message, calls: &mut Calls) {
    let given = |field: &str| {
        message.get(field).and_then(Json::as_str).filter(|id| !id.is_empty()).map(str::to_owned)
    };
    let (id, name) = (given("tool_call_id"), given("name").or_else(|| given("tool_name")));
    let answered = match &id {
        Some(id) => calls.open.iter().position(|(open, _)| open == id),
        None => {
            let named = |(_, open): &(String, String)| name.as_ref().is_none_or(|n| n == open);
            // In the order of the calls.
            calls.open.iter().position(named)
        }
    };
    let call = answered.map(|at| calls.open.remove(at));
    let id = id.or_else(|| call.map(|(id, _)| id));
    let name = name.or_else(|| calls.names.get(id.as_ref()?).cloned());
    if let Some(name) = name {
        message.set("name", name);
    }
    if let Some(id) = id {
        message.set("tool_call_id", id);
    }
    match message.get("content") {
        None | Some(Json::Null) => message.set("content", ""),
        Some(Json::String(_)) => {}
        Some(_) if message.is_text() => {}
        Some(value) => message.set("content", json_text(value)),
    }
}

/// An id of nine letters and digits, the same for the same text.
pub(super) fn nine_letters(text: &str) -> String {
    const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let digest = Sha256::digest(text);
    digest.iter().take(9).map(|byte| char::from(LETTERS[usize::from(*byte) % 62])).collect()
}

/// JSON as Python's `json.dumps` writes it, with a space behind `,` and `:`.
pub(super) fn json_text(value: &Json) -> String {
    let list = |items: Vec<String>| items.join(", ");
    match value {
        Json::Array(items) => format!("[{}]", list(items.iter().map(json_text).collect())),
        Json::Object(fields) => {
            let field = |(key, item): (&String, &Json)| {
                format!("{}: {}", Json::from(key.as_str()), json_text(item))
            };
            format!("{{{}}}", list(fields.iter().map(field).collect()))
        }
        plain => plain.to_string(),
    }
}
