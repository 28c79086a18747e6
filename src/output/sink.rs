//! Where text, thoughts and calls go, and the white space between them.

use std::mem;

use super::OutputEvent;
use crate::template::ToolCall;

/// White space before a marker is dropped, so it is held back; more of it than this is sent.
const HELD: usize = 256;

/// Takes what a parser found, in order.
#[derive(Debug, Clone, Default)]
pub(super) struct Sink {
    events: Vec<OutputEvent>,
    content: Channel,
    thinking: Channel,
}

/// Which text a piece belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum To {
    Content,
    Thinking,
}

/// One of the two texts.
#[derive(Debug, Clone, Default)]
struct Channel {
    /// Something other than white space was written.
    started: bool,
    /// White space at the beginning is dropped.
    strip: bool,
    /// White space that may turn out to stand before a marker.
    held: String,
    /// Something else came since the last piece: what separates the next piece from it.
    gap: Option<String>,
}

impl Sink {
    /// Whether the answer's text has begun.
    pub(super) fn has_content(&self) -> bool {
        self.content.started
    }

    /// Adds to a text.
    pub(super) fn write(&mut self, to: To, text: &str) {
        let channel = match to {
            To::Content => &mut self.content,
            To::Thinking => &mut self.thinking,
        };
        let mut piece = String::new();
        let end = text.trim_end().len();
        if end > 0 {
            let stripped = channel.strip && !channel.started || channel.gap.is_some();
            piece.push_str(&channel.gap.take().unwrap_or_default());
            piece.push_str(&mem::take(&mut channel.held));
            piece.push_str(if stripped { text[..end].trim_start() } else { &text[..end] });
            channel.started = true;
        }
        channel.hold(&text[end..], &mut piece);
        self.push(to, piece);
    }

    /// A marker: the next piece of a text is a new one.
    pub(super) fn separate(&mut self) {
        self.content.separate();
        self.thinking.separate();
    }

    /// A call.
    pub(super) fn call(&mut self, call: ToolCall) {
        self.separate();
        self.events.push(OutputEvent::Call(call));
    }

    /// The answer is over.
    pub(super) fn finish(&mut self) {
        let held = mem::take(&mut self.content.held);
        self.push(To::Content, held);
    }

    /// What came since the last time.
    pub(super) fn take(&mut self) -> Vec<OutputEvent> {
        mem::take(&mut self.events)
    }

    fn push(&mut self, to: To, piece: String) {
        if piece.is_empty() {
            return;
        }
        match (to, self.events.last_mut()) {
            (To::Content, Some(OutputEvent::Text(text)))
            | (To::Thinking, Some(OutputEvent::Thinking(text))) => text.push_str(&piece),
            (To::Content, _) => self.events.push(OutputEvent::Text(piece)),
            (To::Thinking, _) => self.events.push(OutputEvent::Thinking(piece)),
        }
    }
}

impl Channel {
    /// Holds white space back, but what is too much goes to `piece`.
    fn hold(&mut self, space: &str, piece: &mut String) {
        if self.gap.is_some() || self.strip && !self.started {
            return;
        }
        for c in space.chars() {
            self.held.push(c);
            if self.held.len() >= HELD {
                piece.push_str(&mem::take(&mut self.held));
            }
        }
    }

    fn separate(&mut self) {
        let held = mem::take(&mut self.held);
        self.strip = true;
        if self.started && self.gap.is_none() {
            self.gap = Some(if held.is_empty() { "\n".to_owned() } else { held });
        }
    }
}
