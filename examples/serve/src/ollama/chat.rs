//! `POST /api/chat`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use tramontane::Message;

use crate::answer::tools::{Choice, Names, Tools, tool};
use crate::answer::{self, Chat};
use crate::app::Shared;
use crate::wire::{ApiError, Body, Result};

use super::fields;
use super::lines::{self, Form};
use super::message;

/// Goes on with a conversation; without one loads the model, or lets it go.
///
/// # Errors
/// Ollama's.
pub async fn chat(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("ChatRequest", &bytes)?;
    let (asked, stream) = fields::asked(&mut body)?;
    let messages = body.list("messages", "api.Message")?.unwrap_or_default();
    let messages: Vec<Message> =
        messages.into_iter().map(|one| message::read(one, &asked.model)).collect::<Result<_>>()?;
    let tools = tools(&mut body)?;
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
    let answer = answer::chat(app.clone(), Chat { asked, messages, tools });
    lines::send(&app, model, answer, Form::Chat, stream).await
}

/// `tools`; and `tool_choice` and `parallel_tool_calls` as OpenAI has them, which Ollama
/// does not know.
fn tools(body: &mut Body) -> Result<Tools> {
    let list = body.list("tools", "api.Tool")?.unwrap_or_default();
    let list = list.into_iter().enumerate();
    let list = list.map(|(at, one)| tool(one, Names::Any, &format!("tools[{at}]")));
    let list = list.collect::<Result<Vec<_>>>()?;
    let choice = body.take("tool_choice").as_ref().map(Choice::read).transpose()?;
    Tools::new(list, choice, body.flag("parallel_tool_calls")?.unwrap_or(true))
}
