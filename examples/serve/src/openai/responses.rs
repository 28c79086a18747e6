//! `POST /v1/responses`: text in, text out, nothing kept between requests.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Map, Value, json};

use crate::answer::{self, Asked, Chat};
use crate::app::Shared;
use crate::prompt::Message;
use crate::wire::{self, ApiError, Body, Result};

use super::error::OpenAiError;
use super::response::{Events, Head};
use super::unsupported::{self, MODERATES_NOTHING, Refused};
use super::{content, options, stream};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The conversation.
    pub chat: Chat,
    /// Whether it comes in events.
    pub stream: bool,
    /// Fields that the response repeats.
    pub echo: Map<String, Value>,
}

const KEEPS_NOTHING: &str = "this server keeps no conversations; send all messages of it as input";
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
    let Request { chat, stream, echo } = read(&bytes)?;
    let head = Head::new(&chat.asked.model, echo);
    let answer = answer::chat(app.clone(), chat);
    if stream {
        return Ok(stream::send(&app, answer, Events::new(head)).await?);
    }
    let (text, logprobs, done) = answer.await?.whole().await?;
    Ok(wire::json(&head.whole(&text, &logprobs, &done)))
}

/// Reads a request.
///
/// # Errors
/// 400: a mistake, or what this server cannot do.
pub fn read(bytes: &Bytes) -> Result<Request> {
    let mut body = Body::parse("ResponsesRequest", bytes)?;
    let mut asked = options::asked(&mut body, options::RESPONSES)?;
    unsupported::set(&mut body, REFUSED)?;
    unsupported::tools(&mut body)?;
    let text = body.object("text")?.unwrap_or_default();
    unsupported::format(&mut Body::from_value("ResponsesText", text.into())?, "format")?;
    if let Some(strategy) = body.text("truncation")? {
        asked.truncate = truncation(&strategy)?;
    }
    asked.top_logprobs = options::alternatives(&mut body, "top_logprobs")?.unwrap_or(0);
    let include = body.texts("include")?.unwrap_or_default();
    asked.logprobs =
        asked.top_logprobs > 0 || include.iter().any(|name| name == "message.output_text.logprobs");
    let instructions = body.text("instructions")?;
    let echo = echo(&mut body, &asked, instructions.as_deref());
    let messages = messages(instructions, body.take("input"))?;
    let stream = body.flag("stream")?.unwrap_or(false);
    Ok(Request { chat: Chat { asked, messages }, stream, echo })
}

fn echo(body: &mut Body, asked: &Asked, instructions: Option<&str>) -> Map<String, Value> {
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

/// The instructions, and then what was said.
fn messages(instructions: Option<String>, input: Option<Value>) -> Result<Vec<Message>> {
    let message = |role: &str, content| Message { role: role.into(), content };
    let mut messages = Vec::new();
    if let Some(instructions) = instructions.filter(|text| !text.is_empty()) {
        messages.push(message("system", instructions));
    }
    match input {
        Some(Value::String(text)) if !text.is_empty() => messages.push(message("user", text)),
        Some(Value::Array(items)) if !items.is_empty() => {
            for item in items {
                messages.extend(read_item(item)?);
            }
        }
        None | Some(Value::String(_) | Value::Array(_)) => {
            return Err(ApiError::bad_request("input is required"));
        }
        Some(_) => return Err(ApiError::bad_request("input must be a text or a list of items")),
    }
    Ok(messages)
}

/// The message that an item is; none if the model is not to see it.
fn read_item(item: Value) -> Result<Option<Message>> {
    match item["type"].as_str() {
        None | Some("message") => content::message(item).map(Some),
        // What was thought in earlier turns is not shown again.
        Some("reasoning") => Ok(None),
        Some("item_reference") => Err(ApiError::bad_request(format!(
            "input item of type \"item_reference\": {KEEPS_NOTHING}"
        ))),
        Some(kind) => Err(ApiError::bad_request(format!(
            "input item of type {kind:?} is not supported: this server knows messages; tools are \
             not supported yet"
        ))),
    }
}
