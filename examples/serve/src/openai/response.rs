//! The object of `/v1/responses`, whole and in events. Its output is a list of items:
//! thoughts, messages and calls.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::answer::{Call, Done, DoneReason, Logprob, Part, Step, Whole};
use crate::wire::{ApiError, Event};

use super::id;
use super::shared::{add_own, logprobs};
use super::stream::Writer;

/// What all events of a response repeat.
#[derive(Debug, Clone)]
pub struct Head {
    /// The response's name; those of its items are made of it.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model, as the client wrote it.
    pub model: String,
    /// Fields of the request.
    pub echo: Map<String, Value>,
    /// Whether thoughts come in `encrypted_content` too, which clients send back.
    pub encrypted: bool,
}

const COMPLETED: &str = "completed";
const INCOMPLETE: &str = "incomplete";

impl Head {
    /// A new response.
    pub fn new(model: &str, echo: Map<String, Value>) -> Self {
        Head {
            id: id::random("resp_"),
            created: id::seconds(SystemTime::now()),
            model: model.into(),
            echo,
            encrypted: false,
        }
    }

    /// The response when it has ended well.
    pub fn whole(&self, whole: &Whole) -> Value {
        let nothing = [Part::Text(String::new(), Vec::new())];
        let parts = if whole.parts.is_empty() { &nothing[..] } else { &whole.parts };
        let last = parts.len() - 1;
        let items = parts.iter().enumerate().map(|(at, part)| {
            self.item(at, part, if at == last { status(&whole.done) } else { COMPLETED })
        });
        self.ended(items.collect(), &whole.done)
    }

    fn ended(&self, items: Vec<Value>, done: &Done) -> Value {
        let status = status(done);
        let mut response = self.object(status, items.into());
        if status == COMPLETED {
            response["completed_at"] = id::seconds(SystemTime::now()).into();
        } else {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response["usage"] = json!({
            "input_tokens": done.prompt_tokens,
            "input_tokens_details": {"cached_tokens": done.reused_tokens},
            "output_tokens": done.generated_tokens,
            "output_tokens_details": {"reasoning_tokens": done.thinking_tokens},
            "total_tokens": done.prompt_tokens + done.generated_tokens,
        });
        add_own(&mut response, done);
        response
    }

    fn failed(&self, error: &ApiError) -> Value {
        let mut response = self.object("failed", json!([]));
        response["error"] = json!({"code": "server_error", "message": error.message});
        response
    }

    fn object(&self, status: &str, output: Value) -> Value {
        let mut response = json!({
            "id": self.id,
            "object": "response",
            "created_at": self.created,
            "status": status,
            "background": false,
            "error": null,
            "incomplete_details": null,
            "model": self.model,
            "output": output,
            "parallel_tool_calls": true,
            "previous_response_id": null,
            "reasoning": {"effort": null, "summary": null},
            "store": false,
            "text": {"format": {"type": "text"}},
            "tool_choice": "auto",
            "tools": [],
            "usage": null,
        });
        if let Value::Object(map) = &mut response {
            map.extend(self.echo.clone());
        }
        response
    }

    /// The name of the item at a place of the output.
    fn item_id(&self, kind: &str, at: usize) -> String {
        let own = self.id.strip_prefix("resp_").unwrap_or(&self.id);
        format!("{kind}_{own}_{at}")
    }

    fn item(&self, at: usize, part: &Part, status: &str) -> Value {
        match part {
            Part::Text(text, logprobs) => {
                self.message(at, status, json!([content(text, logprobs)]))
            }
            Part::Thinking(text) => self.reasoning(at, text),
            // A call is complete, whatever ended the answer.
            Part::Call(call) => self.call(at, call, COMPLETED, &call.arguments_text()),
        }
    }

    fn message(&self, at: usize, status: &str, content: Value) -> Value {
        json!({
            "id": self.item_id("msg", at),
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        })
    }

    fn reasoning(&self, at: usize, text: &str) -> Value {
        let summary = match text {
            "" => json!([]),
            text => json!([summary(text)]),
        };
        let mut item =
            json!({"id": self.item_id("rs", at), "type": "reasoning", "summary": summary});
        if self.encrypted {
            item["encrypted_content"] = text.into();
        }
        item
    }

    fn call(&self, at: usize, call: &Call, status: &str, arguments: &str) -> Value {
        json!({
            "id": self.item_id("fc", at),
            "type": "function_call",
            "status": status,
            "call_id": call.id,
            "name": call.name,
            "arguments": arguments,
        })
    }
}

fn content(text: &str, list: &[Logprob]) -> Value {
    let logprobs = logprobs(list);
    json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
}

fn summary(text: &str) -> Value {
    json!({"type": "summary_text", "text": text})
}

fn status(done: &Done) -> &'static str {
    match done.reason {
        DoneReason::Length => INCOMPLETE,
        DoneReason::Stop | DoneReason::StopString => COMPLETED,
    }
}

/// The response in events.
pub struct Events {
    head: Head,
    /// Events sent: each has its number.
    count: usize,
    /// Items that are complete.
    items: Vec<Value>,
    /// The item that is on its way: thoughts or text.
    open: Option<Part>,
}

impl Events {
    /// None was sent yet.
    pub fn new(head: Head) -> Self {
        Events { head, count: 0, items: Vec::new(), open: None }
    }

    /// An event with its name and number, and `fields`.
    fn event(&mut self, name: &'static str, fields: Value) -> Event {
        let mut event = json!({"type": name, "sequence_number": self.count});
        extend(&mut event, fields);
        self.count += 1;
        Event::named(name, &event)
    }

    /// Where the next item stands.
    fn at(&self) -> usize {
        self.items.len()
    }

    /// An event about a part of the open item: of the message's content, or of the summary
    /// of thoughts.
    fn of_part(&mut self, name: &'static str, kind: &str, fields: Value) -> Event {
        let index = if kind == "rs" { "summary_index" } else { "content_index" };
        let id = self.head.item_id(kind, self.at());
        let mut place = json!({"item_id": id, "output_index": self.at(), index: 0});
        extend(&mut place, fields);
        self.event(name, place)
    }

    fn added(&mut self, item: Value) -> Event {
        let fields = json!({"output_index": self.at(), "item": item});
        self.event("response.output_item.added", fields)
    }

    /// The item is complete.
    fn item_done(&mut self, item: Value) -> Event {
        let fields = json!({"output_index": self.at(), "item": item});
        self.items.push(item);
        self.event("response.output_item.done", fields)
    }

    fn text(&mut self, text: String, list: Vec<Logprob>) -> Vec<Event> {
        let mut events = Vec::new();
        if !matches!(self.open, Some(Part::Text(..))) {
            events = self.close(COMPLETED);
            events.extend(self.begin_text());
        }
        let fields = json!({"delta": text, "logprobs": logprobs(&list)});
        if let Some(Part::Text(said, all)) = &mut self.open {
            said.push_str(&text);
            all.extend(list);
        }
        events.push(self.of_part("response.output_text.delta", "msg", fields));
        events
    }

    fn begin_text(&mut self) -> Vec<Event> {
        let item = self.head.message(self.at(), "in_progress", json!([]));
        self.open = Some(Part::Text(String::new(), Vec::new()));
        let part = json!({"part": content("", &[])});
        vec![self.added(item), self.of_part("response.content_part.added", "msg", part)]
    }

    fn thinking(&mut self, text: String) -> Vec<Event> {
        let mut events = Vec::new();
        if !matches!(self.open, Some(Part::Thinking(_))) {
            events = self.close(COMPLETED);
            let item = self.head.reasoning(self.at(), "");
            events.push(self.added(item));
            let part = json!({"part": summary("")});
            events.push(self.of_part("response.reasoning_summary_part.added", "rs", part));
            self.open = Some(Part::Thinking(String::new()));
        }
        if let Some(Part::Thinking(said)) = &mut self.open {
            said.push_str(&text);
        }
        let fields = json!({"delta": text});
        events.push(self.of_part("response.reasoning_summary_text.delta", "rs", fields));
        events
    }

    fn call(&mut self, call: &Call) -> Vec<Event> {
        let mut events = self.close(COMPLETED);
        let at = self.at();
        let (id, arguments) = (self.head.item_id("fc", at), call.arguments_text());
        let item = self.head.call(at, call, "in_progress", "");
        events.push(self.added(item));
        let delta = json!({"item_id": id, "output_index": at, "delta": arguments});
        events.push(self.event("response.function_call_arguments.delta", delta));
        let done = json!({
            "item_id": id, "output_index": at, "name": call.name, "arguments": arguments,
        });
        events.push(self.event("response.function_call_arguments.done", done));
        let item = self.head.call(at, call, COMPLETED, &arguments);
        events.push(self.item_done(item));
        events
    }

    /// Ends the open item.
    fn close(&mut self, status: &str) -> Vec<Event> {
        let Some(part) = self.open.take() else { return Vec::new() };
        let item = self.head.item(self.at(), &part, status);
        let mut events = match &part {
            Part::Thinking(text) => vec![
                self.of_part("response.reasoning_summary_text.done", "rs", json!({"text": text})),
                self.of_part(
                    "response.reasoning_summary_part.done",
                    "rs",
                    json!({"part": summary(text)}),
                ),
            ],
            Part::Text(text, list) => {
                let said = json!({"text": text, "logprobs": logprobs(list)});
                let part = json!({"part": content(text, list)});
                vec![
                    self.of_part("response.output_text.done", "msg", said),
                    self.of_part("response.content_part.done", "msg", part),
                ]
            }
            Part::Call(_) => Vec::new(),
        };
        events.push(self.item_done(item));
        events
    }

    fn done(&mut self, done: &Done) -> Vec<Event> {
        let mut events = match (&self.open, self.items.is_empty()) {
            (None, true) => self.begin_text(),
            _ => Vec::new(),
        };
        events.extend(self.close(status(done)));
        let response = self.head.ended(std::mem::take(&mut self.items), done);
        let name = match status(done) {
            COMPLETED => "response.completed",
            _ => "response.incomplete",
        };
        events.push(self.event(name, json!({"response": response})));
        events
    }
}

fn extend(into: &mut Value, fields: Value) {
    if let (Value::Object(into), Value::Object(fields)) = (into, fields) {
        into.extend(fields);
    }
}

impl Writer for Events {
    fn begin(&mut self, _prompt_tokens: usize) -> Vec<Event> {
        let response = json!({"response": self.head.object("in_progress", json!([]))});
        vec![
            self.event("response.created", response.clone()),
            self.event("response.in_progress", response),
        ]
    }

    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Thinking(text, _) => self.thinking(text),
            Step::Text(text, logprobs) => self.text(text, logprobs),
            Step::Call(call) => self.call(&call),
            Step::Markup(_) => Vec::new(),
            Step::Done(done) => self.done(&done),
            Step::Failed(error) => {
                let response = self.head.failed(&error);
                vec![self.event("response.failed", json!({"response": response}))]
            }
        }
    }
}
