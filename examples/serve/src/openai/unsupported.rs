//! What this server cannot do, refused by name: an answer that passes over half of the
//! request is worse than none.

use serde_json::Value;

use crate::wire::{ApiError, Body, Result};

const TOOLS: &str = "tools are not supported yet: this server cannot call functions; leave tools \
    out or set tool_choice to \"none\"";

/// Of answers that somebody wants to be judged.
pub const MODERATES_NOTHING: &str = "this server does not judge texts";

/// Fields and what is said when one is set. `null`, `false` and what is empty pass.
pub type Refused = (&'static str, &'static str);

/// Refuses those of `fields` that are set.
///
/// # Errors
/// 400.
pub fn set(body: &mut Body, fields: &[Refused]) -> Result<()> {
    for (name, why) in fields {
        if body.take(name).is_some_and(|value| is_set(&value)) {
            return Err(ApiError::bad_request(format!("{name}: {why}")));
        }
    }
    Ok(())
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Refuses functions to call. A choice of none passes, and so does a free choice among
/// none.
///
/// # Errors
/// 400.
pub fn tools(body: &mut Body) -> Result<()> {
    for (list, choice) in [("tools", "tool_choice"), ("functions", "function_call")] {
        let some = body.list(list, "openai.Tool")?.is_some_and(|list| !list.is_empty());
        let choice = body.take(choice);
        let choice = choice.as_ref().map_or("auto", |choice| {
            // OpenAI's is a word or an object, Anthropic's an object with the word.
            choice.as_str().or_else(|| choice["type"].as_str()).unwrap_or("")
        });
        if choice != "none" && (some || choice != "auto") {
            return Err(ApiError::bad_request(TOOLS));
        }
    }
    Ok(())
}

/// Refuses calls of functions in a message.
///
/// # Errors
/// 400.
pub fn calls(message: &mut Body, role: &str) -> Result<()> {
    let calls = ["tool_calls", "function_call"];
    let called = calls.iter().any(|name| message.take(name).is_some_and(|value| is_set(&value)));
    if called || matches!(role, "tool" | "function") {
        return Err(ApiError::bad_request(
            "tool calls in messages are not supported yet: leave these messages out",
        ));
    }
    Ok(())
}

/// Refuses a format other than text.
///
/// # Errors
/// 400.
pub fn format(body: &mut Body, name: &str) -> Result<()> {
    match body.take(name) {
        None => Ok(()),
        Some(format) if format["type"] == "text" || !is_set(&format) => Ok(()),
        Some(format) => {
            let kind = format["type"].as_str().unwrap_or("other");
            Err(ApiError::bad_request(format!(
                "{name} {kind:?} is not supported yet: only \"text\" is; leave {name} out"
            )))
        }
    }
}

/// Refuses more than one answer to one request.
///
/// # Errors
/// 400.
pub fn several(body: &mut Body, name: &str) -> Result<()> {
    match body.integer(name)? {
        None | Some(1) => Ok(()),
        Some(_) => Err(ApiError::bad_request(format!(
            "{name} must be 1: this server gives one answer to a request; send several requests"
        ))),
    }
}
