//! What a template takes, found out by having it render small conversations.
//!
//! Templates are written for the histories of their makers: some know no system message,
//! some raise an error where two messages of one role follow each other, some read the
//! content as a list of parts and leave a plain text out without an error.

use serde_json::{Value as Json, json};

use super::call_probe::{self, CallForm};
use super::chat::{Chat, Ending};
use super::history::{Form, History, Renderer};
use super::message::{Message, Tool, ToolCall};

/// What a template takes. [`render`](Shape::render) folds conversations to it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shape {
    refused: Vec<History>,
    forms: Vec<(&'static str, Form)>,
    pub(super) calls: CallForm,
}

/// Roles of the shortest history that has the role named first.
const FORMS: [(&str, &[&str]); 4] = [
    ("user", &["user"]),
    ("assistant", &["user", "assistant", "user"]),
    ("system", &["system", "user"]),
    ("tool", &["user", "call", "tool"]),
];

const HISTORIES: [(History, &[&str]); 9] = [
    (History::System, &["system", "user"]),
    (History::Systems, &["system", "system", "user"]),
    (History::LateSystem, &["user", "assistant", "system", "user"]),
    (History::OnlySystem, &["system"]),
    (History::UserTwice, &["user", "user"]),
    (History::AssistantTwice, &["user", "assistant", "assistant", "user"]),
    (History::AssistantFirst, &["assistant", "user"]),
    (History::Tool, &["user", "call", "tool"]),
    (History::Silence, &["user", "silence", "user"]),
];

impl Shape {
    /// Has `engine` render small conversations and looks for their words.
    pub fn probe(engine: &Renderer<'_>) -> Self {
        let mut shape = Shape::default();
        for (role, history) in FORMS {
            let form = shape.form_by_probe(engine, role, history);
            shape.forms.push((role, form));
            if role == "user" {
                if !shape.shows(engine, &["user"]) {
                    // It shows nobody's words: nothing can be told by them.
                    return Shape::default();
                }
                let found = call_probe::probe(engine, form);
                (shape.calls, shape.refused) = (found.form, found.refused);
            }
        }
        for (history, roles) in HISTORIES {
            if !shape.shows(engine, roles) {
                shape.refused.push(history);
            }
        }
        shape
    }

    /// The shape that takes every history, in the forms that it reads.
    pub(super) fn open(&self) -> Self {
        Shape { refused: Vec::new(), ..self.clone() }
    }

    /// Shapes that take less, for templates that show a history or not by what else is in the
    /// conversation: calls one by one, no system messages, no calls, and then nothing but
    /// turns of user and assistant.
    pub(super) fn stricter(&self) -> [Self; 4] {
        use History::*;
        let without = |histories: &[History]| {
            let kept = self.refused.iter().filter(|history| !histories.contains(history));
            let refused = kept.chain(histories).copied().collect();
            Shape { refused, ..self.clone() }
        };
        let one_by_one = [ParallelCalls, CallBesideText];
        let systems = [System, LateSystem, OnlySystem];
        let calls = [Calls, Tool];
        let turns = [UserTwice, AssistantTwice, AssistantFirst, Silence];
        let all = [&systems[..], &calls, &turns].concat();
        [without(&one_by_one), without(&systems), without(&calls), without(&all)]
    }

    /// Whether conversations with such a history come out whole.
    pub(super) fn takes(&self, history: History) -> bool {
        !self.refused.contains(&history)
    }

    /// How it reads the content of a role; of one that is not known as the user's.
    pub(super) fn form(&self, role: &str) -> Form {
        let of = |role: &str| self.forms.iter().find(|(known, _)| *known == role);
        of(role).or_else(|| of("user")).map_or(Form::Both, |(_, form)| *form)
    }

    /// The form of `role`, which `history` has.
    fn form_by_probe(
        &mut self,
        engine: &Renderer<'_>,
        role: &'static str,
        history: &[&str],
    ) -> Form {
        let mut shown_as = |form| {
            self.forms.push((role, form));
            let text = self.rendered(engine, history);
            self.forms.pop();
            text
        };
        // What only prints the list shows its keys too.
        let parts = shown_as(Form::Parts)
            .is_some_and(|text| ["'type'", "\"type\""].iter().all(|key| !text.contains(key)));
        match (shown_as(Form::Text).is_some(), parts) {
            (true, true) => Form::Both,
            (false, true) => Form::Parts,
            (_, false) => Form::Text,
        }
    }

    fn shows(&self, engine: &Renderer<'_>, roles: &[&str]) -> bool {
        self.rendered(engine, roles).is_some()
    }

    /// The rendering of a history of these roles, if all its words are in it.
    fn rendered(&self, engine: &Renderer<'_>, roles: &[&str]) -> Option<String> {
        let said: Vec<_> = roles.iter().enumerate().map(|(at, role)| self.said(at, role)).collect();
        let mut chat = Chat::new(said).with_ending(Ending::GenerationPrompt);
        if roles.contains(&"call") {
            let nothing = json!({"type": "object", "properties": {}});
            chat = chat.with_tools([Tool::function("lookup", "Looks it up", nothing)]);
        }
        let text = engine(&self.calls.with_tools(chat)).ok()?;
        let mut spoken = (0..roles.len()).filter(|at| !matches!(roles[*at], "call" | "silence"));
        spoken.all(|at| text.contains(&probe(at, 0))).then_some(text)
    }

    /// A message of one word; calls of tools and silence have none.
    fn said(&self, at: usize, role: &str) -> Message {
        match role {
            // Calls that are not shown become text.
            "call" if !self.takes(History::Calls) => {
                Message::assistant("calling").in_form(self.form("assistant"))
            }
            "call" => {
                let arguments = if self.calls.as_text { json!("{}") } else { json!({}) };
                let call = ToolCall::new("lookup", arguments).with_id("probecall");
                let message = Message::assistant("").with_tool_calls([call]);
                match self.takes(History::NullContent) {
                    true => message.with("content", Json::Null),
                    false => message,
                }
            }
            "tool" => {
                let message = Message::tool("lookup", probe(at, 0)).with_tool_call_id("probecall");
                message.in_form(self.form(role))
            }
            "silence" => Message::assistant("").in_form(self.form("assistant")),
            role => Message::new(role, probe(at, 0)).in_form(self.form(role)),
        }
    }
}

impl Chat {
    /// The conversation with probes for its texts and for the arguments of its calls.
    pub(super) fn with_probes(&self) -> Self {
        let probed = |(at, message): (usize, &Message)| {
            let mut message = message.clone();
            for (number, call) in message.tool_calls_mut().iter_mut().enumerate() {
                if let Some(Json::Object(function)) = call.get_mut("function") {
                    let word = call_probe(at, number);
                    function.insert("arguments".into(), json!({"probe": word}));
                }
            }
            for (part, text) in message.texts_mut().into_iter().enumerate() {
                if !text.trim().is_empty() {
                    *text = probe(at, part);
                }
            }
            message
        };
        let messages = self.messages.iter().enumerate().map(probed).collect();
        Chat { messages, ..self.clone() }
    }
}

/// The word in the place of a message's text, or of one of its parts: one that no template
/// has of its own.
pub(super) fn probe(message: usize, part: usize) -> String {
    format!("probe{message}x{part}word")
}

/// The word in the place of the arguments of a message's call.
pub(super) fn call_probe(message: usize, call: usize) -> String {
    format!("probe{message}c{call}word")
}
