//! `POST /v1/messages`, Anthropic's.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::answer::{self, Chat, Done, DoneReason, Step};
use crate::app::Shared;
use crate::prompt::Message;
use crate::wire::{self, ApiError, Body, Event, Result, Think};

use super::error::AnthropicError;
use super::shared::add_own;
use super::stream::{self, Writer};
use super::unsupported::{self, Refused};
use super::{content, id, options};

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
    ("mcp_servers", "tools are not supported yet; leave them out"),
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
    let (text, _, done) = answer.await?.whole().await?;
    Ok(wire::json(&head.whole(&text, &done)))
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
    unsupported::tools(body)?;
    unsupported::set(body, REFUSED)?;
    let output = body.object("output_config")?.unwrap_or_default();
    unsupported::format(&mut Body::from_value("OutputConfig", output.into())?, "format")?;
    unsupported::format(body, "output_format")?;
    let mut messages = system(body.take("system"))?;
    for one in list {
        messages.push(content::message(one)?);
    }
    asked.think = think(body)?.or(asked.think);
    Ok(Chat { asked, messages })
}

fn system(system: Option<Value>) -> Result<Vec<Message>> {
    let content = system.map(content::text).transpose()?.unwrap_or_default();
    let message = Message { role: "system".into(), content };
    Ok(if message.content.is_empty() { Vec::new() } else { vec![message] })
}

/// `enabled` is an order, which models that do not think refuse; `adaptive` is an offer, which
/// they may pass over.
fn think(body: &mut Body) -> Result<Option<Think>> {
    let thinking = body.object("thinking")?.unwrap_or_default();
    match thinking.get("type").and_then(Value::as_str) {
        Some("disabled") => Ok(Some(Think::No)),
        Some("enabled") => Ok(Some(Think::Yes)),
        Some("adaptive") => Ok(None),
        None if thinking.is_empty() => Ok(None),
        _ => Err(ApiError::bad_request(
            "thinking.type must be \"enabled\", \"adaptive\" or \"disabled\"",
        )),
    }
}

/// What is known of a reply from its start.
#[derive(Debug, Clone)]
pub struct Head {
    /// The reply's name.
    pub id: String,
    /// The model, as the client wrote it.
    pub model: String,
    /// Texts of the request that end the answer.
    pub stop: Vec<String>,
}

impl Head {
    /// The whole reply.
    pub fn whole(&self, text: &str, done: &Done) -> Value {
        let mut reply = self.message(json!([{"type": "text", "text": text}]), done.prompt_tokens);
        let (reason, stop) = self.ending(done);
        reply["stop_reason"] = reason.into();
        reply["stop_sequence"] = stop;
        reply["usage"] = usage(done.prompt_tokens, done.generated_tokens);
        add_own(&mut reply, done);
        reply
    }

    fn message(&self, content: Value, input_tokens: usize) -> Value {
        json!({
            "id": self.id,
            "type": "message",
            "role": "assistant",
            "model": self.model,
            "content": content,
            "stop_reason": null,
            "stop_sequence": null,
            "usage": usage(input_tokens, 0),
        })
    }

    /// `stop_reason` and `stop_sequence`.
    fn ending(&self, done: &Done) -> (&'static str, Value) {
        match (done.reason, self.stop.as_slice()) {
            (DoneReason::Length, _) => ("max_tokens", Value::Null),
            // A text of the model's own settings is its way to end a turn.
            (DoneReason::Stop, _) | (DoneReason::StopString, []) => ("end_turn", Value::Null),
            (DoneReason::StopString, [only]) => ("stop_sequence", only.as_str().into()),
            // The engine does not say which one.
            (DoneReason::StopString, _) => ("stop_sequence", Value::Null),
        }
    }
}

fn usage(input: usize, output: usize) -> Value {
    json!({"input_tokens": input, "output_tokens": output})
}

/// The reply in events.
pub struct Events {
    head: Head,
}

impl Events {
    /// None was sent yet.
    pub fn new(head: Head) -> Self {
        Events { head }
    }

    fn done(&self, done: &Done) -> Vec<Event> {
        let (reason, stop) = self.head.ending(done);
        let mut delta = json!({
            "delta": {"stop_reason": reason, "stop_sequence": stop},
            "usage": usage(done.prompt_tokens, done.generated_tokens),
        });
        add_own(&mut delta, done);
        vec![
            event("content_block_stop", json!({"index": 0})),
            event("message_delta", delta),
            event("message_stop", json!({})),
        ]
    }
}

fn event(name: &'static str, fields: Value) -> Event {
    let mut event = json!({"type": name});
    if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
        event.extend(fields);
    }
    Event::named(name, &event)
}

impl Writer for Events {
    fn begin(&mut self, prompt_tokens: usize) -> Vec<Event> {
        let message = self.head.message(json!([]), prompt_tokens);
        let block = json!({"index": 0, "content_block": {"type": "text", "text": ""}});
        vec![
            event("message_start", json!({"message": message})),
            event("content_block_start", block),
        ]
    }

    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Text(text, _) => {
                let delta = json!({"index": 0, "delta": {"type": "text_delta", "text": text}});
                vec![event("content_block_delta", delta)]
            }
            Step::Done(done) => self.done(&done),
            Step::Failed(error) => vec![Event::named("error", &AnthropicError(error).json())],
        }
    }
}
