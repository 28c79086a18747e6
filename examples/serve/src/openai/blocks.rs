//! Messages of `/v1/messages`: text, thoughts, calls and results are blocks of a message.

use serde_json::Value;
use tramontane::{Message, ToolCall};

use crate::wire::{ApiError, Body, Result};

use super::content;

/// What one message of the API is to the model: the results of calls come first, each a
/// message of its own.
///
/// # Errors
/// 400 for what is no message, and for content that is not text, calls or results.
pub fn messages(value: Value) -> Result<Vec<Message>> {
    let blocks = match &value["content"] {
        Value::Array(blocks) => blocks.clone(),
        _ => return Ok(vec![content::message(value)?]),
    };
    let role = value["role"].as_str().unwrap_or_default().to_lowercase();
    if role.is_empty() {
        return Err(ApiError::bad_request("a message has no role"));
    }
    let mut read = Blocks::default();
    for block in blocks {
        read.block(block)?;
    }
    Ok(read.finish(&role))
}

#[derive(Default)]
struct Blocks {
    texts: Vec<String>,
    thinking: Vec<String>,
    calls: Vec<ToolCall>,
    results: Vec<Message>,
}

impl Blocks {
    fn block(&mut self, block: Value) -> Result<()> {
        match block["type"].as_str() {
            Some("thinking") => {
                self.thinking.extend(block["thinking"].as_str().map(str::to_owned));
            }
            Some("tool_use") => self.calls.push(tool_use(block)?),
            Some("tool_result") => self.results.push(tool_result(block)?),
            _ => self.texts.extend(content::part(block)?),
        }
        Ok(())
    }

    fn finish(self, role: &str) -> Vec<Message> {
        let mut messages = self.results;
        let said = !self.texts.is_empty() || !self.calls.is_empty() || !self.thinking.is_empty();
        if said || messages.is_empty() {
            let mut message = Message::new(role, self.texts.join("\n"));
            if !self.thinking.is_empty() {
                message = message.with_thinking(self.thinking.join("\n"));
            }
            if !self.calls.is_empty() {
                message = message.with_tool_calls(self.calls);
            }
            messages.push(message);
        }
        messages
    }
}

fn tool_use(block: Value) -> Result<ToolCall> {
    let mut body = Body::from_value("ToolUse", block)?;
    let id = required(&mut body, "tool_use", "id")?;
    let name = required(&mut body, "tool_use", "name")?;
    let input = body.object("input")?.unwrap_or_default();
    Ok(ToolCall::new(name, input).with_id(id))
}

fn tool_result(block: Value) -> Result<Message> {
    let mut body = Body::from_value("ToolResult", block)?;
    let id = required(&mut body, "tool_result", "tool_use_id")?;
    let text = content::text(body.take("content").unwrap_or_default())?;
    // Templates have no place for it but the text.
    let text = match body.flag("is_error")? {
        Some(true) => format!("Error: {text}"),
        _ => text,
    };
    Ok(Message::new("tool", text).with_tool_call_id(id))
}

fn required(body: &mut Body, block: &str, field: &str) -> Result<String> {
    let text = body.text(field)?.filter(|text| !text.is_empty());
    text.ok_or_else(|| {
        ApiError::bad_request(format!("{block} block missing required '{field}' field"))
    })
}
