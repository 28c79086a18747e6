//! The message that `/v1/messages` answers with, whole and in events.

use serde_json::{Value, json};

use crate::answer::{Call, Done, DoneReason, Part, Step, Whole};
use crate::wire::Event;

use super::error::AnthropicError;
use super::shared::add_own;
use super::stream::Writer;

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
    pub fn whole(&self, whole: &Whole) -> Value {
        let done = &whole.done;
        let mut content: Vec<Value> = whole.parts.iter().map(|part| self.block(part)).collect();
        if content.is_empty() {
            content.push(json!({"type": "text", "text": ""}));
        }
        let mut reply = self.message(content.into(), done.prompt_tokens);
        let (reason, stop) = self.ending(done, whole.calls().next().is_some());
        reply["stop_reason"] = reason.into();
        reply["stop_sequence"] = stop;
        reply["usage"] = usage(done.prompt_tokens, done.generated_tokens);
        add_own(&mut reply, done);
        reply
    }

    fn block(&self, part: &Part) -> Value {
        match part {
            Part::Text(text, _) => json!({"type": "text", "text": text}),
            Part::Thinking(text) => {
                json!({"type": "thinking", "thinking": text, "signature": self.signature()})
            }
            Part::Call(call) => tool_use(call, call.arguments.clone()),
        }
    }

    /// Clients send thoughts back only with a signature; nothing is signed here.
    fn signature(&self) -> &str {
        &self.id
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
    fn ending(&self, done: &Done, called: bool) -> (&'static str, Value) {
        match (done.reason, self.stop.as_slice()) {
            (DoneReason::Length, _) => ("max_tokens", Value::Null),
            _ if called => ("tool_use", Value::Null),
            // A text of the model's own settings is its way to end a turn.
            (DoneReason::Stop, _) | (DoneReason::StopString, []) => ("end_turn", Value::Null),
            (DoneReason::StopString, [only]) => ("stop_sequence", only.as_str().into()),
            // The engine does not say which one.
            (DoneReason::StopString, _) => ("stop_sequence", Value::Null),
        }
    }
}

fn tool_use(call: &Call, input: Value) -> Value {
    json!({"type": "tool_use", "id": call.id, "name": call.name, "input": input})
}

fn usage(input: usize, output: usize) -> Value {
    json!({"input_tokens": input, "output_tokens": output})
}

/// The reply in events.
pub struct Events {
    head: Head,
    /// The block that is open.
    open: Option<Kind>,
    /// Blocks that were opened.
    count: usize,
    called: bool,
}

/// A kind of block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Text,
    Thinking,
    ToolUse,
}

impl Events {
    /// None was sent yet.
    pub fn new(head: Head) -> Self {
        Events { head, open: None, count: 0, called: false }
    }

    /// Begins a block, after the end of the one before.
    fn begin_block(&mut self, kind: Kind, block: Value) -> Vec<Event> {
        let mut events = self.end_block();
        let start = json!({"index": self.count, "content_block": block});
        events.push(event("content_block_start", start));
        self.open = Some(kind);
        self.count += 1;
        events
    }

    fn end_block(&mut self) -> Vec<Event> {
        let mut events = Vec::new();
        let Some(kind) = self.open.take() else { return events };
        if kind == Kind::Thinking {
            let signature = self.head.signature();
            let delta = json!({"type": "signature_delta", "signature": signature});
            events.push(self.delta(delta));
        }
        events.push(event("content_block_stop", json!({"index": self.count.saturating_sub(1)})));
        events
    }

    /// More of the open block.
    fn delta(&self, delta: Value) -> Event {
        let index = self.count.saturating_sub(1);
        event("content_block_delta", json!({"index": index, "delta": delta}))
    }

    fn text(&mut self, text: &str) -> Vec<Event> {
        let mut events = match self.open {
            Some(Kind::Text) => Vec::new(),
            _ => self.begin_block(Kind::Text, json!({"type": "text", "text": ""})),
        };
        events.push(self.delta(json!({"type": "text_delta", "text": text})));
        events
    }

    fn thinking(&mut self, text: &str) -> Vec<Event> {
        let block = json!({"type": "thinking", "thinking": "", "signature": ""});
        let mut events = match self.open {
            Some(Kind::Thinking) => Vec::new(),
            _ => self.begin_block(Kind::Thinking, block),
        };
        events.push(self.delta(json!({"type": "thinking_delta", "thinking": text})));
        events
    }

    fn call(&mut self, call: &Call) -> Vec<Event> {
        self.called = true;
        let mut events = self.begin_block(Kind::ToolUse, tool_use(call, json!({})));
        let input = call.arguments_text();
        events.push(self.delta(json!({"type": "input_json_delta", "partial_json": input})));
        events.extend(self.end_block());
        events
    }

    fn done(&mut self, done: &Done) -> Vec<Event> {
        let mut events = match self.count {
            0 => self.begin_block(Kind::Text, json!({"type": "text", "text": ""})),
            _ => Vec::new(),
        };
        events.extend(self.end_block());
        let (reason, stop) = self.head.ending(done, self.called);
        let mut delta = json!({
            "delta": {"stop_reason": reason, "stop_sequence": stop},
            "usage": usage(done.prompt_tokens, done.generated_tokens),
        });
        add_own(&mut delta, done);
        events.push(event("message_delta", delta));
        events.push(event("message_stop", json!({})));
        events
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
        vec![event("message_start", json!({"message": message}))]
    }

    fn step(&mut self, step: Step) -> Vec<Event> {
        match step {
            Step::Thinking(text, _) => self.thinking(&text),
            Step::Text(text, _) if text.is_empty() => Vec::new(),
            Step::Text(text, _) => self.text(&text),
            Step::Call(call) => self.call(&call),
            Step::Markup(_) => Vec::new(),
            Step::Done(done) => self.done(&done),
            Step::Failed(error) => vec![Event::named("error", &AnthropicError(error).json())],
        }
    }
}
