//! How a template reads tools and calls, found out by having it render some.

use serde_json::{Value as Json, json};

use super::chat::{Chat, Ending};
use super::history::{Form, History, Renderer};
use super::message::{Message, Tool, ToolCall};

/// The function that is called, and its argument.
const NAME: &str = "probetool";
const KEY: &str = "probekey";
/// Text beside a call.
const TEXT: &str = "probetext";
/// Ids that every template takes.
const IDS: [&str; 2] = ["probecal1", "probecal2"];
/// One as long as those of clients.
const LONG_ID: &str = "call_probe_0123456789";

/// How a template reads tools and calls.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CallForm {
    /// A variable that it reads the tools from, beside `tools`.
    pub variable: Option<&'static str>,
    /// Whether every tool needs a description.
    pub described: bool,
    /// Whether arguments are the text of an object.
    pub as_text: bool,
    /// Whether a call shows less besides itself with null than with an empty text as content.
    pub null: bool,
    /// Whether ids must have nine letters and digits.
    pub nine: bool,
    /// Whether it tells the model to write calls between `<tool_call>` tags.
    pub tagged: bool,
}

impl CallForm {
    /// The conversation with its tools as the template reads them.
    pub fn with_tools(&self, mut chat: Chat) -> Chat {
        let tools = chat.tools.iter_mut().flatten();
        for tool in tools.filter(|_| self.described) {
            *tool = described(tool.as_json().clone());
        }
        if let (Some(tools), Some(name)) = (&chat.tools, self.variable) {
            let tools: Vec<Json> = tools.iter().map(|tool| tool.as_json().clone()).collect();
            chat.variables.entry(name).or_insert(tools.into());
        }
        chat
    }
}

fn described(mut tool: Json) -> Tool {
    if let Some(Json::Object(function)) = tool.get_mut("function") {
        let none = function.get("description").is_none_or(Json::is_null);
        if none {
            function.insert("description".into(), "".into());
        }
    }
    Tool::from(tool)
}

/// What a template takes of tools and calls.
pub(super) struct Found {
    pub form: CallForm,
    pub refused: Vec<History>,
}

/// Has `engine` render tools and calls; it reads the content of users in the form `user`.
pub(super) fn probe(engine: &Renderer<'_>, user: Form) -> Found {
    let trial = Trial { engine, user: Message::user("probeuser").in_form(user) };
    let mut form = trial.tools();
    let mut refused = Vec::new();
    let Some(as_text) = trial.arguments(&form) else {
        use History::*;
        refused.extend([Calls, ParallelCalls, CallBesideText, NullContent]);
        return Found { form, refused };
    };
    form.as_text = as_text;
    for (history, content) in [
        (History::NullContent, Json::Null),
        (History::EmptyContent, json!("")),
        (History::CallBesideText, json!(TEXT)),
    ] {
        if !trial.shows(&form, &content, &IDS[..1]) {
            refused.push(history);
        }
    }
    let content = match refused.contains(&History::EmptyContent) {
        true => Json::Null,
        false => json!(""),
    };
    if !trial.shows(&form, &content, &IDS) {
        refused.push(History::ParallelCalls);
    }
    let shown = |content: Json| trial.calls(&form, &content, &IDS[..1]).map(|text| text.len());
    form.null = match (shown(Json::Null), shown(json!(""))) {
        (Some(null), Some(empty)) => null < empty,
        _ => false,
    };
    form.nine = !trial.shows(&form, &content, &[LONG_ID]);
    Found { form, refused }
}

struct Trial<'e> {
    engine: &'e Renderer<'e>,
    user: Message,
}

impl Trial<'_> {
    /// How it reads the tools.
    fn tools(&self) -> CallForm {
        let form = |variable| CallForm { variable, ..CallForm::default() };
        let shown = |variable| {
            let text = self.rendered(&form(variable), tool(true), Vec::new());
            text.contains(NAME).then_some((variable, text))
        };
        let Some((variable, text)) = [None, Some("xml_tools")].into_iter().find_map(shown) else {
            return CallForm::default();
        };
        let bare = self.rendered(&form(variable), tool(false), Vec::new());
        CallForm {
            described: !bare.contains(NAME),
            tagged: text.contains("<tool_call>") && text.contains("</tool_call>"),
            ..form(variable)
        }
    }

    /// Whether arguments are to be text; `None` if calls are not shown.
    fn arguments(&self, form: &CallForm) -> Option<bool> {
        let shown = |as_text, content: Json| {
            self.calls(&CallForm { as_text, ..form.clone() }, &content, &IDS[..1])
        };
        let texts: Vec<(bool, String)> = [false, true]
            .into_iter()
            .flat_map(|as_text| [json!(""), Json::Null].map(|content| (as_text, content)))
            .filter_map(|(as_text, content)| Some((as_text, shown(as_text, content)?)))
            .collect();
        // Not as Python shows an object, and not as JSON of a JSON text.
        let is_json = |(_, text): &&(bool, String)| {
            !text.contains(&format!("'{KEY}'")) && !text.contains(&format!("\\\"{KEY}"))
        };
        texts.iter().find(is_json).or(texts.first()).map(|(as_text, _)| *as_text)
    }

    fn shows(&self, form: &CallForm, content: &Json, ids: &[&str]) -> bool {
        self.calls(form, content, ids).is_some()
    }

    /// The rendering of calls with these ids in one message, and of their results, if all
    /// calls are in it.
    fn calls(&self, form: &CallForm, content: &Json, ids: &[&str]) -> Option<String> {
        let value = |at: usize| format!("probevalue{at}");
        let calls = ids.iter().enumerate().map(|(at, id)| {
            let arguments = match form.as_text {
                true => format!("{{\"{KEY}\": \"{}\"}}", value(at)).into(),
                false => json!({KEY: value(at)}),
            };
            ToolCall::new(NAME, arguments).with_id(*id)
        });
        let asks = Message::assistant("").with_tool_calls(calls).with("content", content.clone());
        let answers = ids.iter().map(|id| Message::tool(NAME, "probed").with_tool_call_id(*id));
        let text = self.rendered(form, tool(true), [asks].into_iter().chain(answers).collect());
        let whole = text.contains(NAME) && (0..ids.len()).all(|at| text.contains(&value(at)));
        let beside = content != TEXT || text.contains(TEXT);
        (whole && beside && text.contains(KEY)).then_some(text)
    }

    /// Nothing where the template fails.
    fn rendered(&self, form: &CallForm, tool: Tool, more: Vec<Message>) -> String {
        let messages: Vec<Message> = [self.user.clone()].into_iter().chain(more).collect();
        let chat = Chat::new(messages).with_tools([tool]).with_ending(Ending::GenerationPrompt);
        (self.engine)(&form.with_tools(chat)).unwrap_or_default()
    }
}

fn tool(described: bool) -> Tool {
    let nothing = json!({"type": "object", "properties": {}});
    match described {
        true => Tool::function(NAME, "probes", nothing),
        false => {
            let function = json!({"name": NAME, "parameters": nothing});
            Tool::from(json!({"type": "function", "function": function}))
        }
    }
}
