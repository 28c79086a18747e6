//! `POST /v1/messages`, Anthropic's.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use tramontane::Message;

use crate::answer::{self, Chat};
use crate::app::Shared;
use crate::wire::{self, ApiError, Body, Result, Think};

use super::error::AnthropicError;
use super::message::{Events, Head};
use super::unsupported::{self, Refused};
use super::{blocks, content, format, id, options, stream, tools};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The conversation.
    pub chat: Chat,
    /// Whether it comes in events.
    pub stream: bool,
    /// Texts that end the answer.
    pub stop: Vec<String>,
}

const REFUSED: &[Refused] = &[
    ("mcp_servers", "the model calls functions of the client only; leave it out"),
    ("container", "this server runs no code"),
];

/// Goes on with a conversation.
///
/// # Errors
/// In Anthropic's envelope.
pub async fn messages(State(app): State<Shared>, bytes: Bytes) -> Result<Response, AnthropicError> {
    let Request { chat, stream, stop } = read(&bytes)?;
    let head = Head { id: id::random("msg_"), model: chat.asked.model.clone(), stop };
    let answer = answer::chat(app.clone(), chat);
    if stream {
        return Ok(stream::send(&app, answer, Events::new(head)).await?);
    }
    Ok(wire::json(&head.whole(&answer.await?.whole().await?)))
}

/// `POST /v1/messages/count_tokens`: how long a conversation is as tokens.
///
/// # Errors
/// In Anthropic's envelope.
pub async fn count_tokens(
    State(app): State<Shared>,
    bytes: Bytes,
) -> Result<Response, AnthropicError> {
    let chat = read_chat(&mut Body::parse("CountTokensRequest", &bytes)?)?;
    let tokens = answer::count(&app, chat).await?;
    Ok(wire::json(&json!({"input_tokens": tokens})))
}

/// Reads a request.
///
/// # Errors
/// 400: a mistake, or what this server cannot do.
pub fn read(bytes: &Bytes) -> Result<Request> {
    let mut body = Body::parse("MessagesRequest", bytes)?;
    let chat = read_chat(&mut body)?;
    let options = &chat.asked.options;
    if options.get("num_predict").and_then(Value::as_i64).is_none_or(|most| most <= 0) {
        return Err(ApiError::bad_request("max_tokens is required and must be positive"));
    }
    let stop = options.get("stop").and_then(Value::as_array);
    let stop = stop.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect();
    let stream = body.flag("stream")?.unwrap_or(false);
    Ok(Request { chat, stream, stop })
}

fn read_chat(body: &mut Body) -> Result<Chat> {
    let mut asked = options::asked(body, options::MESSAGES)?;
    let list = body.list("messages", "anthropic.MessageParam")?.unwrap_or_default();
    if list.is_empty() {
        return Err(ApiError::bad_request("messages is required"));
    }
    refuse_thread(body)?;
    unsupported::set(body, REFUSED)?;
    let tools = tools::of_messages(body)?;
    let mut output = body.object("output_config")?.unwrap_or_default();
    let beta = body.take("output_format");
    asked.format =
        format::take(body, "output_config.format", output.shift_remove("format").or(beta))?;
    let mut messages = system(body.take("system"))?;
    for one in list {
        messages.extend(blocks::messages(one)?);
    }
    if let Some(effort) = output.get("effort").and_then(Value::as_str) {
        asked.think = Some(Think::from_effort(effort)?);
    }
    asked.think = think(body, asked.think)?;
    // Clients ask every model to think, as they do at Anthropic.
    asked.think_if_able = true;
    Ok(Chat { asked, messages, tools })
}

/// A thread is a conversation that a server keeps. Clients that would use one send all
/// messages after this error.
fn refuse_thread(body: &mut Body) -> Result<()> {
    match body.take("thread") {
        None => Ok(()),
        Some(_) => {
            let text = "thread: this server keeps no conversations; send all messages of it";
            let error = ApiError::bad_request(text).with_param("thread");
            Err(error.with_code("thread_unsupported_request"))
        }
    }
}

fn system(system: Option<Value>) -> Result<Vec<Message>> {
    let content = system.map(content::text).transpose()?.unwrap_or_default();
    Ok(if content.is_empty() { Vec::new() } else { vec![Message::system(content)] })
}

/// What `thinking` says, with the `effort` that was asked for. A model that can thinks unless
/// it is told not to.
fn think(body: &mut Body, effort: Option<Think>) -> Result<Option<Think>> {
    let thinking = body.object("thinking")?.unwrap_or_default();
    match thinking.get("type").and_then(Value::as_str) {
        Some("disabled") => Ok(Some(Think::No)),
        Some("enabled") => Ok(effort.or(Some(Think::Yes))),
        Some("adaptive" | "between_tools") => Ok(effort),
        None if thinking.is_empty() => Ok(effort),
        _ => Err(ApiError::bad_request(
            "thinking.type must be \"enabled\", \"adaptive\" or \"disabled\"",
        )),
    }
}
