//! `POST /v1/responses`: nothing is kept between requests.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::answer::{self, Asked, Chat};
use crate::app::Shared;
use crate::wire::{self, ApiError, Body, Result};

use super::error::OpenAiError;
use super::items::KEEPS_NOTHING;
use super::response::{Events, Head};
use super::unsupported::{self, MODERATES_NOTHING, Refused};
use super::{format, items, options, stream, tools};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The conversation.
    pub chat: Chat,
    /// Whether it comes in events.
    pub stream: bool,
    /// Fields that the response repeats.
    pub echo: Map<String, Value>,
    /// Whether thoughts come in `encrypted_content` too, which clients send back.
    pub encrypted: bool,
}

const REFUSED: &[Refused] = &[
    ("previous_response_id", KEEPS_NOTHING),
    ("conversation", KEEPS_NOTHING),
    ("background", "this server answers while the client waits"),
    ("prompt", "this server keeps no prompts; send instructions and input"),
    ("moderation", MODERATES_NOTHING),
];
/// Goes on with a conversation.
///
/// # Errors
/// In OpenAI's envelope.
pub async fn responses(State(app): State<Shared>, bytes: Bytes) -> Result<Response, OpenAiError> {
    let Request { chat, stream, echo, encrypted } = read(&bytes)?;
    let head = Head { encrypted, ..Head::new(&chat.asked.model, echo) };
    let answer = answer::chat(app.clone(), chat);
    if stream {
        return Ok(stream::send(&app, answer, Events::new(head)).await?);
    }
    Ok(wire::json(&head.whole(&answer.await?.whole().await?)))
}

/// Reads a request.
///
/// # Errors
/// 400: a mistake, or what this server cannot do.
pub fn read(bytes: &Bytes) -> Result<Request> {
    let mut body = Body::parse("ResponsesRequest", bytes)?;
    let mut echo = asked_back(&body);
    let mut asked = options::asked(&mut body, options::RESPONSES)?;
    unsupported::set(&mut body, REFUSED)?;
    let tools = tools::of_responses(&mut body)?;
    let mut text = body.object("text")?.unwrap_or_default();
    asked.format = format::take(&mut body, "text.format", text.shift_remove("format"))?;
    if let Some(strategy) = body.text("truncation")? {
        asked.truncate = truncation(&strategy)?;
    }
    asked.top_logprobs = options::alternatives(&mut body, "top_logprobs")?.unwrap_or(0);
    let include = body.texts("include")?.unwrap_or_default();
    asked.logprobs =
        asked.top_logprobs > 0 || include.iter().any(|name| name == "message.output_text.logprobs");
    let instructions = body.text("instructions")?;
    echo.extend(options_of(&mut body, &asked, instructions.as_deref()));
    let messages = items::messages(instructions, body.take("input"))?;
    let stream = body.flag("stream")?.unwrap_or(false);
    let encrypted = include.iter().any(|name| name == "reasoning.encrypted_content");
    Ok(Request { chat: Chat { asked, messages, tools }, stream, echo, encrypted })
}

/// Fields that a response repeats as the client sent them.
fn asked_back(body: &Body) -> Map<String, Value> {
    let mut body = body.clone();
    let names = ["tools", "tool_choice", "parallel_tool_calls", "text", "reasoning"];
    let fields = names.into_iter().filter_map(|name| Some((name.to_owned(), body.take(name)?)));
    fields.collect()
}

fn options_of(body: &mut Body, asked: &Asked, instructions: Option<&str>) -> Map<String, Value> {
    let option = |name| asked.options.get(name).cloned().unwrap_or_default();
    let fields = [
        ("instructions", instructions.into()),
        ("max_output_tokens", option("num_predict")),
        ("temperature", option("temperature")),
        ("top_p", option("top_p")),
        ("truncation", if asked.truncate { "auto" } else { "disabled" }.into()),
        ("metadata", body.take("metadata").unwrap_or_else(|| json!({}))),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// Whether a conversation that does not fit loses its oldest part.
fn truncation(strategy: &str) -> Result<bool> {
    match strategy {
        "auto" => Ok(true),
        "disabled" => Ok(false),
        _ => Err(ApiError::bad_request("truncation must be \"auto\" or \"disabled\"")),
    }
}
