//! The content of a message: a text, or a list of parts. The parts of one message are
//! one message to the model, each on a line of its own.

use serde_json::Value;
use tramontane::{Message, ToolCall};

use crate::wire::{ApiError, Body, Result, go_type};

/// Kinds of parts that are no text, and what they are.
const REFUSED: [(&str, &str); 10] = [
    ("image_url", "images"),
    ("input_image", "images"),
    ("image", "images"),
    ("input_audio", "sounds"),
    ("audio", "sounds"),
    ("video_url", "videos"),
    ("file", "files"),
    ("input_file", "files"),
    ("document", "documents"),
    ("search_result", "search results"),
];

/// One message of OpenAI's APIs.
///
/// # Errors
/// 400 for what is no message, and for content that is not text.
pub fn message(value: Value) -> Result<Message> {
    let mut body = match value {
        value @ Value::Object(_) => Body::from_value("Message", value)?,
        _ => return Err(ApiError::bad_request("invalid message format")),
    };
    let role = body.text("role")?.unwrap_or_default().to_lowercase();
    let role = match role.as_str() {
        "" => return Err(ApiError::bad_request("a message has no role")),
        // OpenAI's newer word, not worth a note in the reply.
        "developer" => "system".into(),
        // The word of the old API; what answers is the function of that name.
        "function" => "tool".into(),
        _ => role,
    };
    let mut message = Message::new(role, text(body.take("content").unwrap_or_default())?);
    match message.role() {
        "assistant" => {
            for field in ["reasoning", "reasoning_content"] {
                if let Some(Value::String(thinking)) = body.take(field)
                    && !thinking.is_empty()
                {
                    message = message.with_thinking(thinking);
                }
            }
            let calls = calls(&mut body)?;
            if !calls.is_empty() {
                message = message.with_tool_calls(calls);
            }
        }
        "tool" => {
            if let Some(id) = body.text("tool_call_id")?.filter(|id| !id.is_empty()) {
                message = message.with_tool_call_id(id);
            }
            if let Some(name) = body.text("name")?.filter(|name| !name.is_empty()) {
                message = message.with("name", name.clone()).with("tool_name", name);
            }
        }
        _ => {}
    }
    Ok(message)
}

/// The calls of an assistant's message.
fn calls(message: &mut Body) -> Result<Vec<ToolCall>> {
    let list = message.list("tool_calls", "openai.ToolCall")?.unwrap_or_default();
    let mut calls = list.into_iter().map(read_call).collect::<Result<Vec<_>>>()?;
    // The old form.
    if let Some(function) = message.object("function_call")? {
        calls.push(call(Body::from_value("FunctionCall", function.into())?, None)?);
    }
    Ok(calls)
}

fn read_call(value: Value) -> Result<ToolCall> {
    let mut body = match value {
        value @ Value::Object(_) => Body::from_value("ToolCall", value)?,
        _ => return Err(ApiError::bad_request("a call in tool_calls must be an object")),
    };
    let id = body.text("id")?;
    match body.object("function")? {
        Some(function) => call(Body::from_value("Function", function.into())?, id),
        None => Err(ApiError::bad_request(
            "a call in tool_calls has no function; calls of functions are supported",
        )),
    }
}

/// A call with the fields `name` and `arguments`.
///
/// # Errors
/// 400 for arguments that are no JSON object, as text or as they are.
pub fn call(mut function: Body, id: Option<String>) -> Result<ToolCall> {
    let name = function.text("name")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| ApiError::bad_request("a call of a function has no name"))?;
    let arguments = match function.take("arguments") {
        None => Value::Object(Default::default()),
        Some(Value::String(text)) if text.trim().is_empty() => Value::Object(Default::default()),
        Some(Value::String(text)) => serde_json::from_str(&text).unwrap_or_default(),
        Some(other) => other,
    };
    if !arguments.is_object() {
        return Err(ApiError::bad_request("invalid tool call arguments"));
    }
    let call = ToolCall::new(name, arguments);
    Ok(match id.filter(|id| !id.is_empty()) {
        Some(id) => call.with_id(id),
        None => call,
    })
}

/// The text of a message's content; none is an empty one, as in histories whose answer was
/// only a thought, or was cancelled.
///
/// # Errors
/// 400 for parts that are not text.
pub fn text(content: Value) -> Result<String> {
    let parts = match content {
        Value::Null => return Ok(String::new()),
        Value::String(text) => return Ok(text),
        Value::Array(parts) => parts,
        other => {
            let kind = go_type(&other);
            return Err(ApiError::bad_request(format!("invalid message content type: {kind}")));
        }
    };
    let texts = parts.into_iter().filter_map(|one| part(one).transpose());
    Ok(texts.collect::<Result<Vec<_>>>()?.join("\n"))
}

/// The text of one part; none if the model is not to see it.
///
/// # Errors
/// 400 for a part that is not text.
pub fn part(value: Value) -> Result<Option<String>> {
    let mut body = match value {
        value @ Value::Object(_) => Body::from_value("Content", value)?,
        // A list of texts.
        Value::String(text) => return Ok(Some(text)),
        Value::Null => return Ok(None),
        _ => return Err(ApiError::bad_request("invalid message format")),
    };
    let kind = body.text("type")?.unwrap_or_default();
    let field = match kind.as_str() {
        "text" | "input_text" | "output_text" => "text",
        "refusal" => "refusal",
        // What was thought in earlier turns is not shown again.
        "thinking" | "redacted_thinking" => return Ok(None),
        kind => return Err(refuse(kind)),
    };
    body.text(field)
}

fn refuse(kind: &str) -> ApiError {
    ApiError::bad_request(match REFUSED.iter().find(|(name, _)| *name == kind) {
        Some((_, what)) => format!(
            "{what} are not supported (part of type {kind:?}): this server runs text models"
        ),
        None => format!("unknown type {kind:?} of a part of a message; \"text\" is supported"),
    })
}
