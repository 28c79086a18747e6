//! A message of a conversation, as clients send it.

use serde_json::{Map, Value, json};
use tramontane::{Message, ToolCall};

use crate::wire::{ApiError, Body, Result, go_kind};

use super::fields;

/// Reads one message of a conversation with `model`.
///
/// # Errors
/// 400 with Go's texts, and for pictures.
pub fn read(value: Value, model: &str) -> Result<Message> {
    let mut body = match value {
        value @ (Value::Object(_) | Value::Null) => Body::from_value("Message", value)?,
        other => {
            return Err(ApiError::bad_request(format!(
                "json: cannot unmarshal {} into Go struct field ChatRequest.messages of type \
                 api.Message",
                go_kind(&other)
            )));
        }
    };
    fields::refuse_images(body.list("images", "api.ImageData")?, model)?;
    let role = body.text("role")?.unwrap_or_default().to_lowercase();
    let mut message = Message::new(role, body.text("content")?.unwrap_or_default());
    if let Some(thinking) = body.text("thinking")?.filter(|text| !text.is_empty()) {
        message = message.with_thinking(thinking);
    }
    let calls = body.list("tool_calls", "api.ToolCall")?.unwrap_or_default();
    if !calls.is_empty() {
        message = message.with_tool_calls(calls.into_iter().map(call).collect::<Result<Vec<_>>>()?);
    }
    if let Some(name) = body.text("tool_name")?.filter(|name| !name.is_empty()) {
        message = message.with("name", name.clone()).with("tool_name", name);
    }
    if let Some(id) = body.text("tool_call_id")?.filter(|id| !id.is_empty()) {
        message = message.with_tool_call_id(id);
    }
    Ok(message)
}

/// A call that the model made; its arguments are an object.
fn call(value: Value) -> Result<ToolCall> {
    let mut body = Body::from_value("ToolCall", value)?;
    let id = body.text("id")?.filter(|id| !id.is_empty());
    let function = body.object("function")?.unwrap_or_default();
    let mut function = Body::from_value("ToolCallFunction", function.into())?;
    let name = function.text("name")?.filter(|name| !name.is_empty());
    let name = name.ok_or_else(|| {
        ApiError::bad_request("a tool call in messages has no function.name; add it")
    })?;
    let arguments: Map<String, Value> = function.object("arguments")?.unwrap_or_default();
    let call = ToolCall::new(name, json!(arguments));
    Ok(match id {
        Some(id) => call.with_id(id),
        None => call,
    })
}
