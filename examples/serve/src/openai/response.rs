//! The object of `/v1/responses`, whole and in events.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::answer::{Done, DoneReason, Logprob, Step};
use crate::wire::{ApiError, Event};

use super::id;
use super::shared::{add_own, logprobs};
use super::stream::Writer;

/// What all events of a response repeat.
#[derive(Debug, Clone)]
pub struct Head {
    /// The response's name.
    pub id: String,
    /// The name of its one message.
    pub item: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model, as the client wrote it.
    pub model: String,
    /// Fields of the request.
    pub echo: Map<String, Value>,
}

impl Head {
    /// A new response.
    pub fn new(model: &str, echo: Map<String, Value>) -> Self {
        Head {
            id: id::random("resp_"),
            item: id::random("msg_"),
            created: id::seconds(SystemTime::now()),
            model: model.into(),
            echo,
        }
    }

    /// The response when it has ended well.
    pub fn whole(&self, text: &str, logprobs: &[Logprob], done: &Done) -> Value {
        let status = status(done);
        let mut response = self.object(status, json!([self.message(status, text, logprobs)]));
        if status == "completed" {
            response["completed_at"] = id::seconds(SystemTime::now()).into();
        } else {
            response["incomplete_details"] = json!({"reason": "max_output_tokens"});
        }
        response["usage"] = json!({
            "input_tokens": done.prompt_tokens,
            "input_tokens_details": {"cached_tokens": done.reused_tokens},
            "output_tokens": done.generated_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
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
            "parallel_tool_calls": false,
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

    fn message(&self, status: &str, text: &str, logprobs: &[Logprob]) -> Value {
        let content = json!([self.part(text, logprobs)]);
        self.item(status, content)
    }

    fn item(&self, status: &str, content: Value) -> Value {
        json!({
            "id": self.item,
            "type": "message",
            "status": status,
            "role": "assistant",
            "content": content,
        })
    }

    fn part(&self, text: &str, list: &[Logprob]) -> Value {
        let logprobs = logprobs(list);
        json!({"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs})
    }
}

fn status(done: &Done) -> &'static str {
    match done.reason {
        DoneReason::Length => "incomplete",
        DoneReason::Stop | DoneReason::StopString => "completed",
    }
}

/// The response in events.
pub struct Events {
    head: Head,
    /// Events sent: each has its number.
    count: usize,
    text: String,
    logprobs: Vec<Logprob>,
}

impl Events {
    /// None was sent yet.
    pub fn new(head: Head) -> Self {
        Events { head, count: 0, text: String::new(), logprobs: Vec::new() }
    }

    /// An event with its name and number, and `fields`.
    fn event(&mut self, name: &'static str, fields: Value) -> Event {
        let mut event = json!({"type": name, "sequence_number": self.count});
        if let (Value::Object(event), Value::Object(fields)) = (&mut event, fields) {
            event.extend(fields);
        }
        self.count += 1;
        Event::named(name, &event)
    }

    /// An event about the message, and `fields`.
    fn of_part(&mut self, name: &'static str, fields: Value) -> Event {
        let mut place = json!({"item_id": self.head.item, "output_index": 0, "content_index": 0});
        if let (Value::Object(place), Value::Object(fields)) = (&mut place, fields) {
            place.extend(fields);
        }
        self.event(name, place)
    }

    fn delta(&mut self, text: String, list: Vec<Logprob>) -> Event {
        self.text += &text;
        let fields = json!({"delta": text, "logprobs": logprobs(&list)});
        self.logprobs.extend(list);
        self.of_part("response.output_text.delta", fields)
    }

    fn done(&mut self, done: &Done) -> Vec<Event> {
        let (text, list) = (std::mem::take(&mut self.text), std::mem::take(&mut self.logprobs));
        let status = status(done);
        let part = self.head.part(&text, &list);
        let item = self.head.item(status, json!([part]));
        let response = self.head.whole(&text, &list, done);
        let last = match status {
            "completed" => "response.completed",
            _ => "response.incomplete",
        };
        let said = json!({"text": text, "logprobs": logprobs(&list)});
        vec![
            self.of_part("response.output_text.done", said),
            self.of_part("response.content_part.done", json!({"part": part})),
            self.event("response.output_item.done", json!({"output_index": 0, "item": item})),
            self.event(last, json!({"response": response})),
        ]
    }
}

impl Writer for Events {
    fn begin(&mut self, _prompt_tokens: usize) -> Vec<Event> {
        let response = json!({"response": self.head.object("in_progress", json!([]))});
        let item = self.head.item("in_progress", json!([]));
        let part = self.head.part("", &[]);
        vec![
            self.event("response.created", response.clone()),
            self.event("response.in_progress", response),
            self.event("response.output_item.added", json!({"output_index": 0, "item": item})),
            self.of_part("response.content_part.added", json!({"part": part})),
        ]
    }

    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Text(text, logprobs) => vec![self.delta(text, logprobs)],
            Step::Done(done) => self.done(&done),
            Step::Failed(error) => {
                let response = self.head.failed(&error);
                vec![self.event("response.failed", json!({"response": response}))]
            }
        }
    }
}
