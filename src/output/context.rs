//! What reading an answer depends on: the syntax, and the functions that may be called.

use serde_json::{Map, Value as Json};

use super::json;
use super::markers::{Match, starts};
use super::syntax::{Body, Syntax};
use super::typed::typed;
use crate::template::{Tool, ToolCall};

/// `None` while more text may come; then whether a limit cut the answer.
pub(super) type End = Option<bool>;

/// Names of the function's name, and of its arguments, in a call object.
const NAMES: [&str; 2] = ["name", "tool_name"];
const ARGUMENTS: [&str; 2] = ["arguments", "parameters"];
/// What a call object may have besides.
const OTHERS: [&str; 5] = ["function", "id", "type", "tool_call_id", "index"];

/// Everything that a reader of calls must know.
#[derive(Debug, Clone, Default)]
pub(super) struct Context {
    pub(super) syntax: Syntax,
    pub(super) tools: Vec<Tool>,
}

impl Context {
    /// Without functions no calls are looked for.
    pub(super) fn new(mut syntax: Syntax, tools: &[Tool]) -> Self {
        if tools.is_empty() {
            syntax.openings.retain(|opening| opening.body == Body::Message);
        }
        Context { syntax, tools: tools.to_vec() }
    }

    /// Whether calls are looked for.
    pub(super) fn calls(&self) -> bool {
        !self.tools.is_empty()
    }

    fn tool(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name() == name)
    }

    pub(super) fn declares(&self, name: &str) -> bool {
        self.tool(name).is_some()
    }

    /// Whether `name` is a declared function that takes a text called `code`.
    pub(super) fn takes_code(&self, name: &str) -> bool {
        let code = |tool: &Tool| parameters(tool)?.get("properties")?.get("code").cloned();
        self.tool(name).and_then(code).is_some()
    }

    /// A call, if the function is declared and the arguments are an object. Missing
    /// arguments are an empty one.
    pub(super) fn call(&self, name: &str, arguments: Json) -> Option<ToolCall> {
        let arguments = match arguments {
            Json::Null => Json::Object(Map::new()),
            Json::String(text) if text.trim().is_empty() => Json::Object(Map::new()),
            Json::String(text) => json::read(&text, "")?,
            other => other,
        };
        (self.declares(name) && arguments.is_object()).then(|| ToolCall::new(name, arguments))
    }

    /// The call that a call object stands for.
    pub(super) fn call_of(&self, object: &Json) -> Option<ToolCall> {
        let object = match object.get("function") {
            Some(inner @ Json::Object(_)) => inner,
            _ => object,
        };
        let own =
            self.syntax.form.as_ref().map(|form| (form.name.as_str(), form.arguments.as_str()));
        let names = NAMES.into_iter().chain(own.map(|(name, _)| name));
        let arguments = ARGUMENTS.into_iter().chain(own.map(|(_, arguments)| arguments));
        let name = names.into_iter().find_map(|key| object.get(key)?.as_str())?;
        let arguments = arguments.into_iter().find_map(|key| object.get(key)).cloned();
        let call = self.call(name, arguments.unwrap_or_default())?;
        Some(match object.get("id").and_then(Json::as_str) {
            Some(id) if !id.is_empty() => call.with_id(id),
            _ => call,
        })
    }

    /// Whether what has come of an object can become a call: an answer in JSON is told from
    /// one as early as that.
    pub(super) fn may_be_call(&self, open: &str) -> bool {
        let Some(key) = string(open.trim_start_matches(['[', '{', ' ', '\n', '\r', '\t'])) else {
            return true;
        };
        let (key, behind) = key;
        if NAMES.contains(&key) {
            let value = behind.trim_start().strip_prefix(':').map(str::trim_start);
            return value.and_then(string).is_none_or(|(name, _)| self.declares(name));
        }
        ARGUMENTS.contains(&key) || OTHERS.contains(&key)
    }

    /// The value of a parameter that is written as plain text.
    pub(super) fn parameter(&self, function: &str, parameter: &str, text: &str) -> Json {
        let root = self.tool(function).and_then(parameters).unwrap_or(&Json::Null);
        let schema = root.get("properties").and_then(|all| all.get(parameter));
        typed(schema.unwrap_or(&Json::Null), root, text)
    }

    /// Whether `text` begins with a marker behind which no call goes on.
    pub(super) fn ends(&self, text: &str, end: End) -> Match {
        starts(text, self.syntax.edges(), end.is_some())
    }
}

fn parameters(tool: &Tool) -> Option<&Json> {
    tool.as_json().get("function")?.get("parameters")
}

/// The string without escapes that `text` begins with, and what is behind it.
fn string(text: &str) -> Option<(&str, &str)> {
    let inside = text.strip_prefix('"')?;
    let end = inside.find('"')?;
    Some((&inside[..end], &inside[end + 1..]))
}
