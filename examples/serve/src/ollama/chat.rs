//! `POST /api/chat`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::Value;

use crate::answer::{self, Chat};
use crate::app::Shared;
use crate::prompt::Message;
use crate::wire::{ApiError, Body, Result};

use super::fields;
use super::lines::{self, Form};

/// Goes on with a conversation; without one loads the model, or lets it go.
///
/// # Errors
/// Ollama's.
pub async fn chat(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("ChatRequest", &bytes)?;
    let (asked, stream) = fields::asked(&mut body)?;
    let messages = body.list("messages", "api.Message")?.unwrap_or_default();
    let messages: Vec<Message> =
        messages.into_iter().map(|one| message(one, &asked.model)).collect::<Result<_>>()?;
    refuse_tools(&mut body, &asked.model)?;
    fields::refuse_later(&mut body)?;
    if asked.model.is_empty() {
        return Err(ApiError::bad_request("model is required"));
    }
    if messages.is_empty() {
        let reason = if fields::at_once(asked.keep_alive) { "unload" } else { "load" };
        match reason {
            "unload" => answer::unload(&app, &asked.model).await?,
            _ => answer::load(&app, &asked).await?,
        }
        return Ok(lines::without_text(&asked.model, Form::Chat, reason));
    }
    let model = asked.model.clone();
    let answer = answer::chat(app.clone(), Chat { asked, messages });
    lines::send(&app, model, answer, Form::Chat, stream).await
}

fn message(value: Value, model: &str) -> Result<Message> {
    let mut body = match value {
        value @ (Value::Object(_) | Value::Null) => Body::from_value("Message", value)?,
        other => {
            return Err(ApiError::bad_request(format!(
                "json: cannot unmarshal {} into Go struct field ChatRequest.messages of type \
                 api.Message",
                crate::wire::go_kind(&other)
            )));
        }
    };
    fields::refuse_images(body.list("images", "api.ImageData")?, model)?;
    let calls = body.list("tool_calls", "api.ToolCall")?.unwrap_or_default();
    let role = body.text("role")?.unwrap_or_default().to_lowercase();
    if !calls.is_empty() || role == "tool" {
        return Err(ApiError::bad_request("tool calls in messages are not supported yet"));
    }
    Ok(Message { role, content: body.text("content")?.unwrap_or_default() })
}

fn refuse_tools(body: &mut Body, model: &str) -> Result<()> {
    match body.list("tools", "api.Tool")?.filter(|tools| !tools.is_empty()) {
        None => Ok(()),
        Some(_) => Err(ApiError::bad_request(format!(
            "{model:?} does not support tools: this server does not yet; leave tools out"
        ))),
    }
}
