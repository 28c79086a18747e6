//! The input of `/v1/responses`: a text, or items. Thoughts, text and calls that stand one
//! after the other are one message of the model.

use serde_json::Value;
use tramontane::{Message, ToolCall};

use crate::wire::{ApiError, Body, Result};

use super::content;

/// Of what only makes sense where conversations are kept.
pub const KEEPS_NOTHING: &str =
    "this server keeps no conversations; send all messages of it as input";

/// The instructions, and then what was said.
///
/// # Errors
/// 400 for an input that is none.
pub fn messages(instructions: Option<String>, input: Option<Value>) -> Result<Vec<Message>> {
    let mut said = Said::default();
    if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
        said.messages.push(Message::system(instructions));
    }
    match input {
        Some(Value::String(text)) if !text.is_empty() => said.messages.push(Message::user(text)),
        Some(Value::Array(items)) if !items.is_empty() => {
            for item in items {
                said.item(item)?;
            }
        }
        None | Some(Value::String(_) | Value::Array(_)) => {
            return Err(ApiError::bad_request("input is required"));
        }
        Some(_) => return Err(ApiError::bad_request("input must be a text or a list of items")),
    }
    Ok(said.messages)
}

#[derive(Default)]
struct Said {
    messages: Vec<Message>,
    /// Thoughts before the model's next item.
    thinking: String,
    /// Whether the last message is the model's, to which further items belong.
    open: bool,
}

impl Said {
    fn item(&mut self, item: Value) -> Result<()> {
        match item["type"].as_str() {
            None | Some("message") => self.message(content::message(item)?),
            Some("reasoning") => self.thinking.push_str(&thoughts(&item)),
            Some("function_call") => {
                let mut body = Body::from_value("FunctionCall", item)?;
                let id = required(&mut body, "call_id")?;
                self.call(content::call(body, Some(id))?);
            }
            Some("function_call_output") => self.output(item)?,
            Some("item_reference") => {
                return Err(ApiError::bad_request(format!(
                    "input item of type \"item_reference\": {KEEPS_NOTHING}"
                )));
            }
            Some(kind) => {
                return Err(ApiError::bad_request(format!(
                    "input item of type {kind:?} is not supported: this server knows messages, \
                     thoughts and calls of functions"
                )));
            }
        }
        Ok(())
    }

    fn message(&mut self, message: Message) {
        let own = message.role() == "assistant";
        let message = if own { self.with_thoughts(message) } else { message };
        self.open = own;
        self.messages.push(message);
    }

    fn with_thoughts(&mut self, message: Message) -> Message {
        match std::mem::take(&mut self.thinking) {
            none if none.is_empty() => message,
            thinking => message.with_thinking(thinking),
        }
    }

    fn call(&mut self, call: ToolCall) {
        let last = if self.open && self.thinking.is_empty() { self.messages.pop() } else { None };
        let message = last.unwrap_or_else(|| Message::assistant(""));
        let message = self.with_thoughts(message);
        let mut calls = message.tool_calls();
        calls.push(call);
        self.messages.push(message.with_tool_calls(calls));
        self.open = true;
    }

    fn output(&mut self, item: Value) -> Result<()> {
        let mut body = Body::from_value("FunctionCallOutput", item)?;
        let id = required(&mut body, "call_id")?;
        let text = content::text(body.take("output").unwrap_or_default())?;
        self.messages.push(Message::new("tool", text).with_tool_call_id(id));
        self.open = false;
        Ok(())
    }
}

fn required(body: &mut Body, field: &str) -> Result<String> {
    let text = body.text(field)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| {
        ApiError::bad_request(format!("input: an item of a call has no {field}; add it"))
            .with_param("input")
    })
}

/// The text of an item of thoughts: its summary, else its content, else what this server
/// sent as `encrypted_content`.
fn thoughts(item: &Value) -> String {
    let texts = |field: &str| -> String {
        let parts = item[field].as_array().into_iter().flatten();
        parts.filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
    };
    let all = [texts("summary"), texts("content")];
    let sent = item["encrypted_content"].as_str().unwrap_or_default();
    all.into_iter().find(|text| !text.is_empty()).unwrap_or_else(|| sent.to_owned())
}
