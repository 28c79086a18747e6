//! `POST /v1/chat/completions`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::answer::{self, Asked, Call, Chat, Done, DoneReason, Logprob, Step, Whole};
use crate::app::Shared;
use crate::wire::{self, ApiError, Body, Event, Result};

use super::error::OpenAiError;
use super::shared::{Head, add_own, logprobs, usage};
use super::stream::{self, Writer};
use super::unsupported::{self, MODERATES_NOTHING, Refused};
use super::{content, format, options, tools};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The conversation.
    pub chat: Chat,
    /// Whether it comes in chunks.
    pub stream: bool,
    /// What the reply has beside the answer.
    pub style: Style,
}

const REFUSED: &[Refused] = &[
    ("audio", "this server runs text models"),
    ("web_search_options", "this server does not search the web"),
    ("moderation", MODERATES_NOTHING),
];

/// Goes on with a conversation.
///
/// # Errors
/// In OpenAI's envelope.
pub async fn chat_completions(
    State(app): State<Shared>,
    bytes: Bytes,
) -> Result<Response, OpenAiError> {
    let Request { chat, stream, style } = read(&bytes)?;
    let head = Head::new("chatcmpl-", &chat.asked.model);
    let answer = answer::chat(app.clone(), chat);
    if stream {
        return Ok(stream::send(&app, answer, Chunks::new(head, style)).await?);
    }
    let answer = answer.await?.whole().await?;
    Ok(wire::json(&whole(&head, style, &answer)))
}

/// Reads a request.
///
/// # Errors
/// 400: a mistake, or what this server cannot do.
pub fn read(bytes: &Bytes) -> Result<Request> {
    let mut body = Body::parse("ChatCompletionRequest", bytes)?;
    let mut asked = options::asked(&mut body, options::CHAT)?;
    let messages = body.list("messages", "openai.Message")?.unwrap_or_default();
    if messages.is_empty() {
        return Err(ApiError::bad_request("[] is too short - 'messages'"));
    }
    let (tools, old_calls) = tools::of_chat(&mut body)?;
    let response_format = body.take("response_format");
    asked.format = format::take(&mut body, "response_format", response_format)?;
    unsupported::several(&mut body, "n")?;
    unsupported::set(&mut body, REFUSED)?;
    only_text(&mut body)?;
    read_logprobs(&mut body, &mut asked)?;
    let messages = messages.into_iter().map(content::message).collect::<Result<_>>()?;
    let style = Style { include_usage: options::include_usage(&mut body)?, old_calls };
    let stream = body.flag("stream")?.unwrap_or(false);
    Ok(Request { chat: Chat { asked, messages, tools }, stream, style })
}

fn only_text(body: &mut Body) -> Result<()> {
    let modalities = body.texts("modalities")?.unwrap_or_default();
    match modalities.iter().find(|kind| *kind != "text") {
        None => Ok(()),
        Some(kind) => Err(ApiError::bad_request(format!(
            "modalities: {kind:?} is not supported: this server answers with text"
        ))),
    }
}

fn read_logprobs(body: &mut Body, asked: &mut Asked) -> Result<()> {
    asked.top_logprobs = options::alternatives(body, "top_logprobs")?.unwrap_or(0);
    asked.logprobs = body.flag("logprobs")?.unwrap_or(false) || asked.top_logprobs > 0;
    Ok(())
}

/// What a reply of this route has beside its head.
#[derive(Debug, Clone, Copy, Default)]
pub struct Style {
    /// Whether a stream ends with the usage.
    pub include_usage: bool,
    /// Whether a call has the form of the old API, `function_call`.
    pub old_calls: bool,
}

/// The whole reply.
pub fn whole(head: &Head, style: Style, whole: &Whole) -> Value {
    let mut message = json!({"role": "assistant", "content": whole.text()});
    let thinking = whole.thinking();
    if !thinking.is_empty() {
        message["reasoning"] = thinking.into();
    }
    let calls: Vec<&Call> = whole.calls().collect();
    match calls.first() {
        Some(first) if style.old_calls => message["function_call"] = function(first),
        Some(_) => message["tool_calls"] = calls.iter().map(|call| tool_call(call)).collect(),
        None => {}
    }
    let reason = finish_reason(style, &whole.done, !calls.is_empty());
    let mut choice = json!({"index": 0, "message": message, "finish_reason": reason});
    add_logprobs(&mut choice, &whole.logprobs());
    let mut reply = head.object("chat.completion", json!([choice]));
    reply["usage"] = usage(&whole.done);
    add_own(&mut reply, &whole.done);
    reply
}

fn tool_call(call: &Call) -> Value {
    json!({"id": call.id, "type": "function", "function": function(call)})
}

fn function(call: &Call) -> Value {
    json!({"name": call.name, "arguments": call.arguments_text()})
}

/// A cut stays a cut, though there was a call before it.
fn finish_reason(style: Style, done: &Done, called: bool) -> &'static str {
    match done.reason {
        DoneReason::Stop | DoneReason::StopString if called && style.old_calls => "function_call",
        DoneReason::Stop | DoneReason::StopString if called => "tool_calls",
        reason => reason.as_str(),
    }
}

fn add_logprobs(choice: &mut Value, list: &[Logprob]) {
    if !list.is_empty() {
        choice["logprobs"] = json!({"content": logprobs(list)});
    }
}

/// The reply in chunks.
pub struct Chunks {
    head: Head,
    style: Style,
    /// Whether the role was said.
    begun: bool,
    /// Whether there was a call.
    called: bool,
}

impl Chunks {
    /// None was sent yet.
    pub fn new(head: Head, style: Style) -> Self {
        Chunks { head, style, begun: false, called: false }
    }

    fn chunk(&self, choices: Value) -> Value {
        self.head.object("chat.completion.chunk", choices)
    }

    /// A chunk with `delta`; the first one says the role.
    fn delta(&mut self, delta: Value, logprobs: &[Logprob]) -> Event {
        let delta = match (std::mem::replace(&mut self.begun, true), delta) {
            (false, Value::Object(fields)) => {
                let mut first = json!({"role": "assistant", "content": ""});
                for (name, value) in fields {
                    first[name] = value;
                }
                first
            }
            (_, delta) => delta,
        };
        let mut choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        add_logprobs(&mut choice, logprobs);
        Event::data(&self.chunk(json!([choice])))
    }

    /// The head of a call, and then its arguments: clients join texts of all chunks, so that
    /// id and name come once.
    fn call(&mut self, call: &Call) -> Vec<Event> {
        self.called = true;
        let arguments = call.arguments_text();
        if self.style.old_calls {
            let head = json!({"function_call": {"name": call.name, "arguments": ""}});
            let rest = json!({"function_call": {"arguments": arguments}});
            return vec![self.delta(head, &[]), self.delta(rest, &[])];
        }
        let mut head = tool_call(call);
        head["function"]["arguments"] = "".into();
        let mut first = json!({"index": call.index});
        if let (Value::Object(first), Value::Object(head)) = (&mut first, head) {
            first.extend(head);
        }
        let rest = json!({"index": call.index, "function": {"arguments": arguments}});
        vec![
            self.delta(json!({"tool_calls": [first]}), &[]),
            self.delta(json!({"tool_calls": [rest]}), &[]),
        ]
    }

    fn done(&mut self, done: &Done) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.begun {
            events.push(self.delta(json!({"content": ""}), &[]));
        }
        let reason = finish_reason(self.style, done, self.called);
        let choice = json!({"index": 0, "delta": {}, "finish_reason": reason});
        let mut last = self.chunk(json!([choice]));
        add_own(&mut last, done);
        events.push(Event::data(&last));
        if self.style.include_usage {
            let mut chunk = self.chunk(json!([]));
            chunk["usage"] = usage(done);
            events.push(Event::data(&chunk));
        }
        events.push(Event::done());
        events
    }
}

impl Writer for Chunks {
    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Thinking(text, _) => vec![self.delta(json!({"reasoning": text}), &[])],
            Step::Text(text, logprobs) => vec![self.delta(json!({"content": text}), &logprobs)],
            Step::Call(call) => self.call(&call),
            Step::Markup(_) => Vec::new(),
            Step::Done(done) => self.done(&done),
            Step::Failed(error) => vec![Event::data(&OpenAiError(error).json()), Event::done()],
        }
    }
}
