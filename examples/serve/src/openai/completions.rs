//! `POST /v1/completions`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};

use crate::answer::{self, Done, Generate, Logprob, Step, Whole};
use crate::app::Shared;
use crate::wire::{self, ApiError, Body, Event, Result};

use super::error::OpenAiError;
use super::shared::{Head, add_own, logprobs_of_text, usage};
use super::stream::{self, Writer};
use super::unsupported::{self, Refused};
use super::{format, options};

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The prompt.
    pub generate: Generate,
    /// Whether it comes in chunks.
    pub stream: bool,
    /// Whether the last chunk has the usage.
    pub include_usage: bool,
}

const REFUSED: &[Refused] = &[("echo", "this server does not repeat the prompt")];

/// Completes a prompt.
///
/// # Errors
/// In OpenAI's envelope.
pub async fn completions(State(app): State<Shared>, bytes: Bytes) -> Result<Response, OpenAiError> {
    let Request { generate, stream, include_usage } = read(&bytes)?;
    let head = Head::new("cmpl-", &generate.asked.model);
    let answer = answer::generate(app.clone(), generate);
    if stream {
        return Ok(stream::send(&app, answer, Chunks::new(head, include_usage)).await?);
    }
    let answer = answer.await?.whole().await?;
    Ok(wire::json(&whole(&head, &answer)))
}

/// Reads a request.
///
/// # Errors
/// 400: a mistake, or what this server cannot do.
pub fn read(bytes: &Bytes) -> Result<Request> {
    let mut body = Body::parse("CompletionRequest", bytes)?;
    let mut asked = options::asked(&mut body, options::CHAT)?;
    unsupported::several(&mut body, "n")?;
    unsupported::several(&mut body, "best_of")?;
    unsupported::set(&mut body, REFUSED)?;
    let alternatives = options::alternatives(&mut body, "logprobs")?;
    asked.logprobs = alternatives.is_some();
    asked.top_logprobs = alternatives.unwrap_or(0);
    let response_format = body.take("response_format");
    asked.format = format::take(&mut body, "response_format", response_format)?;
    let prompt = prompt(body.take("prompt"))?;
    let suffix = body.text("suffix")?.unwrap_or_default();
    Ok(Request {
        generate: Generate { suffix, ..Generate::of(asked, prompt) },
        stream: body.flag("stream")?.unwrap_or(false),
        include_usage: options::include_usage(&mut body)?,
    })
}

/// One text; OpenAI also takes several, and tokens.
fn prompt(value: Option<Value>) -> Result<String> {
    let refuse = |text| Err(ApiError::bad_request(text));
    match value {
        None => Ok(String::new()),
        Some(Value::String(text)) => Ok(text),
        Some(Value::Array(mut list)) => match (list.len(), list.pop()) {
            (1, Some(Value::String(text))) => Ok(text),
            (_, Some(Value::String(_))) => {
                refuse("prompt: this server completes one text per request; send several requests")
            }
            (_, Some(Value::Number(_) | Value::Array(_))) => {
                refuse("prompt: tokens are not supported; send the text")
            }
            _ => refuse("prompt must be a text, or a list of one text"),
        },
        Some(_) => refuse("prompt must be a text, or a list of one text"),
    }
}

/// The whole reply.
pub fn whole(head: &Head, whole: &Whole) -> Value {
    let done = &whole.done;
    let mut choice =
        json!({"text": whole.text(), "index": 0, "finish_reason": done.reason.as_str()});
    let thinking = whole.thinking();
    if !thinking.is_empty() {
        choice["reasoning"] = thinking.into();
    }
    add_logprobs(&mut choice, &whole.logprobs());
    let mut reply = head.object("text_completion", json!([choice]));
    reply["usage"] = usage(done);
    add_own(&mut reply, done);
    reply
}

fn add_logprobs(choice: &mut Value, list: &[Logprob]) {
    if !list.is_empty() {
        choice["logprobs"] = logprobs_of_text(list);
    }
}

/// The reply in chunks.
pub struct Chunks {
    head: Head,
    include_usage: bool,
}

impl Chunks {
    /// None was sent yet.
    pub fn new(head: Head, include_usage: bool) -> Self {
        Chunks { head, include_usage }
    }

    fn chunk(&self, choices: Value) -> Value {
        self.head.object("text_completion", choices)
    }

    fn text(&self, text: &str, logprobs: &[Logprob]) -> Event {
        let mut choice = json!({"text": text, "index": 0, "finish_reason": null});
        add_logprobs(&mut choice, logprobs);
        Event::data(&self.chunk(json!([choice])))
    }

    /// Thoughts are not in OpenAI's API; they are not lost here.
    fn thinking(&self, text: &str) -> Event {
        let choice = json!({"text": "", "index": 0, "finish_reason": null, "reasoning": text});
        Event::data(&self.chunk(json!([choice])))
    }

    fn done(&self, done: &Done) -> Vec<Event> {
        let choice = json!({"text": "", "index": 0, "finish_reason": done.reason.as_str()});
        let mut last = self.chunk(json!([choice]));
        add_own(&mut last, done);
        let mut events = vec![Event::data(&last)];
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
            Step::Thinking(text, _) => vec![self.thinking(&text)],
            Step::Text(text, logprobs) => vec![self.text(&text, &logprobs)],
            // No functions are declared here.
            Step::Call(_) | Step::Markup(_) => Vec::new(),
            Step::Done(done) => self.done(&done),
            Step::Failed(error) => vec![Event::data(&OpenAiError(error).json()), Event::done()],
        }
    }
}
