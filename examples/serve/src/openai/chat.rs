//! `POST /v1/chat/completions`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::answer::{self, Asked, Chat, Done, Logprob, Step};
use crate::app::Shared;
use crate::wire::{self, ApiError, Body, Event, Result};

use super::error::OpenAiError;
use super::shared::{Head, add_own, logprobs, usage};
use super::stream::{self, Writer};
use super::unsupported::{self, MODERATES_NOTHING, Refused};
use super::{content, options};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The conversation.
    pub chat: Chat,
    /// Whether it comes in chunks.
    pub stream: bool,
    /// Whether the last chunk has the usage.
    pub include_usage: bool,
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
    let Request { chat, stream, include_usage } = read(&bytes)?;
    let head = Head::new("chatcmpl-", &chat.asked.model);
    let answer = answer::chat(app.clone(), chat);
    if stream {
        return Ok(stream::send(&app, answer, Chunks::new(head, include_usage)).await?);
    }
    let (text, logprobs, done) = answer.await?.whole().await?;
    Ok(wire::json(&whole(&head, &text, &logprobs, &done)))
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
    unsupported::tools(&mut body)?;
    unsupported::format(&mut body, "response_format")?;
    unsupported::several(&mut body, "n")?;
    unsupported::set(&mut body, REFUSED)?;
    only_text(&mut body)?;
    read_logprobs(&mut body, &mut asked)?;
    let messages = messages.into_iter().map(content::message).collect::<Result<_>>()?;
    Ok(Request {
        chat: Chat { asked, messages },
        stream: body.flag("stream")?.unwrap_or(false),
        include_usage: options::include_usage(&mut body)?,
    })
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

/// The whole reply.
pub fn whole(head: &Head, text: &str, logprobs: &[Logprob], done: &Done) -> Value {
    let mut choice = json!({
        "index": 0,
        "message": {"role": "assistant", "content": text},
        "finish_reason": done.reason.as_str(),
    });
    add_logprobs(&mut choice, logprobs);
    let mut reply = head.object("chat.completion", json!([choice]));
    reply["usage"] = usage(done);
    add_own(&mut reply, done);
    reply
}

fn add_logprobs(choice: &mut Value, list: &[Logprob]) {
    if !list.is_empty() {
        choice["logprobs"] = json!({"content": logprobs(list)});
    }
}

/// The reply in chunks.
pub struct Chunks {
    head: Head,
    include_usage: bool,
    /// Whether the role was said.
    begun: bool,
}

impl Chunks {
    /// None was sent yet.
    pub fn new(head: Head, include_usage: bool) -> Self {
        Chunks { head, include_usage, begun: false }
    }

    fn chunk(&self, choices: Value) -> Value {
        self.head.object("chat.completion.chunk", choices)
    }

    fn text(&mut self, text: &str, logprobs: &[Logprob]) -> Event {
        let mut delta = json!({"content": text});
        if !std::mem::replace(&mut self.begun, true) {
            delta = json!({"role": "assistant", "content": text});
        }
        let mut choice = json!({"index": 0, "delta": delta, "finish_reason": null});
        add_logprobs(&mut choice, logprobs);
        Event::data(&self.chunk(json!([choice])))
    }

    fn done(&mut self, done: &Done) -> Vec<Event> {
        let mut events = Vec::new();
        if !self.begun {
            events.push(self.text("", &[]));
        }
        let reason = done.reason.as_str();
        let choice = json!({"index": 0, "delta": {}, "finish_reason": reason});
        let mut last = self.chunk(json!([choice]));
        add_own(&mut last, done);
        events.push(Event::data(&last));
        if self.include_usage {
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
            Step::Text(text, logprobs) => vec![self.text(&text, &logprobs)],
            Step::Done(done) => self.done(&done),
            Step::Failed(error) => vec![Event::data(&OpenAiError(error).json()), Event::done()],
        }
    }
}
