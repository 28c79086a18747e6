//! What a conversation is made of: messages, tools, calls of tools.
//!
//! Each is a JSON object underneath, because templates may look at any field: what a
//! message was made from is kept whole, fields that this crate does not know included.

use std::borrow::Cow;

use serde_json::{Map, Value as Json, json};

/// One message of a conversation.
///
/// ```
/// use tramontane::Message;
/// let message = Message::user("What is the weather in Nice?");
/// assert_eq!((message.role(), &*message.content()), ("user", "What is the weather in Nice?"));
/// let json = serde_json::json!({"role": "user", "content": "Hi", "mood": "good"});
/// assert_eq!(Message::from(json.clone()).into_json(), json); // nothing is lost
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Message(Json);

/// A function that the model may call.
///
/// ```
/// use tramontane::Tool;
/// let parameters = serde_json::json!({
///     "type": "object",
///     "properties": {"city": {"type": "string"}},
///     "required": ["city"],
/// });
/// let tool = Tool::function("weather", "The weather of a city", parameters);
/// assert_eq!(tool.name(), "weather");
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Tool(Json);

/// A call of a tool, by the model.
#[derive(Debug, Clone, PartialEq)]
pub struct ToolCall(Json);

impl Message {
    /// A message of any role.
    pub fn new(role: impl Into<String>, content: impl Into<String>) -> Self {
        Message(json!({"role": role.into(), "content": content.into()}))
    }

    /// What the model is to be.
    pub fn system(content: impl Into<String>) -> Self {
        Message::new("system", content)
    }

    /// What a person says.
    pub fn user(content: impl Into<String>) -> Self {
        Message::new("user", content)
    }

    /// What the model said.
    pub fn assistant(content: impl Into<String>) -> Self {
        Message::new("assistant", content)
    }

    /// What the tool called `name` answered.
    pub fn tool(name: impl Into<String>, content: impl Into<String>) -> Self {
        let name = name.into();
        Message::new("tool", content).with("name", name.clone()).with("tool_name", name)
    }

    /// With the model's thoughts before its answer: templates know them as `thinking` or
    /// `reasoning_content`.
    #[must_use]
    pub fn with_thinking(self, text: impl Into<String>) -> Self {
        let text = text.into();
        self.with("thinking", text.clone()).with("reasoning_content", text)
    }

    /// With calls of tools, by the model.
    #[must_use]
    pub fn with_tool_calls(self, calls: impl IntoIterator<Item = ToolCall>) -> Self {
        let calls: Vec<Json> = calls.into_iter().map(|ToolCall(call)| call).collect();
        self.with("tool_calls", calls)
    }

    /// With the [id](ToolCall::id) of the call that a tool's message answers.
    #[must_use]
    pub fn with_tool_call_id(self, id: impl Into<String>) -> Self {
        self.with("tool_call_id", id.into())
    }

    /// With any other field, for templates that look at it.
    #[must_use]
    pub fn with(mut self, field: impl Into<String>, value: impl Into<Json>) -> Self {
        set(&mut self.0, field, value);
        self
    }

    /// Who speaks: `system`, `user`, `assistant`, `tool`; empty if the message does not
    /// say.
    pub fn role(&self) -> &str {
        text(&self.0, "role").unwrap_or_default()
    }

    /// The text; of content in parts the texts one after the other.
    pub fn content(&self) -> Cow<'_, str> {
        match self.0.get("content") {
            Some(Json::String(content)) => Cow::Borrowed(content),
            Some(Json::Array(parts)) => {
                parts.iter().filter_map(|part| text(part, "text")).collect()
            }
            _ => Cow::Borrowed(""),
        }
    }

    /// The model's thoughts before its answer.
    pub fn thinking(&self) -> Option<&str> {
        text(&self.0, "thinking").or_else(|| text(&self.0, "reasoning_content"))
    }

    /// Calls of tools, by the model.
    pub fn tool_calls(&self) -> Vec<ToolCall> {
        let calls = self.0.get("tool_calls").and_then(Json::as_array);
        calls.into_iter().flatten().cloned().map(ToolCall).collect()
    }

    /// The tool that answers.
    pub fn tool_name(&self) -> Option<&str> {
        text(&self.0, "tool_name").or_else(|| text(&self.0, "name"))
    }

    /// Any field.
    pub fn get(&self, field: &str) -> Option<&Json> {
        self.0.get(field)
    }

    /// The message as a template sees it.
    pub fn as_json(&self) -> &Json {
        &self.0
    }

    /// The same, by value.
    pub fn into_json(self) -> Json {
        self.0
    }

    /// Puts a field into the place of what it was.
    pub(super) fn set(&mut self, field: &str, value: impl Into<Json>) {
        set(&mut self.0, field, value);
    }

    /// Takes a field out; the others keep their order.
    pub(super) fn remove(&mut self, field: &str) {
        if let Json::Object(fields) = &mut self.0 {
            fields.shift_remove(field);
        }
    }

    /// The texts of the content: one, or those of its parts.
    pub(super) fn texts(&self) -> Vec<&str> {
        match self.0.get("content") {
            Some(Json::String(content)) => vec![content],
            Some(Json::Array(parts)) => {
                parts.iter().filter_map(|part| text(part, "text")).collect()
            }
            _ => Vec::new(),
        }
    }

    /// The same, to be changed.
    pub(super) fn texts_mut(&mut self) -> Vec<&mut String> {
        let parts = match self.0.get_mut("content") {
            Some(Json::String(content)) => return vec![content],
            Some(Json::Array(parts)) => parts,
            _ => return Vec::new(),
        };
        let texts = parts.iter_mut().filter_map(|part| match part.get_mut("text") {
            Some(Json::String(text)) => Some(text),
            _ => None,
        });
        texts.collect()
    }

    /// Whether the content is nothing but text, or is not there.
    pub(super) fn is_text(&self) -> bool {
        match self.0.get("content") {
            None | Some(Json::Null | Json::String(_)) => true,
            Some(Json::Array(parts)) => parts.iter().all(|part| text(part, "text").is_some()),
            Some(_) => false,
        }
    }

    /// The calls, to be changed.
    pub(super) fn tool_calls_mut(&mut self) -> &mut [Json] {
        match self.0.get_mut("tool_calls") {
            Some(Json::Array(calls)) => calls,
            _ => &mut [],
        }
    }

    /// Whether it calls tools.
    pub(super) fn calls(&self) -> bool {
        self.0.get("tool_calls").and_then(Json::as_array).is_some_and(|calls| !calls.is_empty())
    }

    /// Whether the model can go on where this message ends.
    pub(super) fn can_be_continued(&self) -> bool {
        let content = self.0.get("content").is_some_and(|content| !content.is_null());
        self.role() == "assistant" && content && self.is_text() && !self.calls()
    }

    /// With `end` behind the text, in the form that the content has.
    pub(super) fn ending_with(mut self, end: char) -> Self {
        match self.0.get_mut("content") {
            Some(Json::String(content)) => content.push(end),
            Some(Json::Array(parts)) => {
                let last = parts.iter_mut().rev().find_map(|part| part.get_mut("text"));
                match last {
                    Some(Json::String(text)) => text.push(end),
                    _ => parts.push(json!({"type": "text", "text": end.to_string()})),
                }
            }
            _ => set(&mut self.0, "content", end.to_string()),
        }
        self
    }
}

impl Tool {
    /// A function; `parameters` is a JSON schema of an object.
    pub fn function(
        name: impl Into<String>,
        description: impl Into<String>,
        parameters: impl Into<Json>,
    ) -> Self {
        let (name, description, parameters) = (name.into(), description.into(), parameters.into());
        Tool(json!({
            "type": "function",
            "function": {"name": name, "description": description, "parameters": parameters},
        }))
    }

    /// The function's name; empty if there is none.
    pub fn name(&self) -> &str {
        self.0.get("function").and_then(|function| text(function, "name")).unwrap_or_default()
    }

    /// The tool as a template sees it.
    pub fn as_json(&self) -> &Json {
        &self.0
    }
}

impl ToolCall {
    /// A call of the function `name`; `arguments` is an object.
    pub fn new(name: impl Into<String>, arguments: impl Into<Json>) -> Self {
        let (name, arguments) = (name.into(), arguments.into());
        ToolCall(json!({"type": "function", "function": {"name": name, "arguments": arguments}}))
    }

    /// With an id, which the tool's answer repeats.
    #[must_use]
    pub fn with_id(mut self, id: impl Into<String>) -> Self {
        set(&mut self.0, "id", id.into());
        self
    }

    /// The id, if it has one.
    pub fn id(&self) -> Option<&str> {
        text(&self.0, "id")
    }

    /// The function's name; empty if there is none.
    pub fn name(&self) -> &str {
        self.0.get("function").and_then(|function| text(function, "name")).unwrap_or_default()
    }

    /// The arguments. Some APIs send the object as a string: that is read.
    pub fn arguments(&self) -> Json {
        match self.0.get("function").and_then(|function| function.get("arguments")) {
            Some(Json::String(object)) => {
                serde_json::from_str(object).unwrap_or_else(|_| Json::String(object.clone()))
            }
            Some(arguments) => arguments.clone(),
            None => Json::Null,
        }
    }

    /// The call as a template sees it.
    pub fn as_json(&self) -> &Json {
        &self.0
    }
}

/// Keeps every field; what is no object is the template's to judge.
impl From<Json> for Message {
    fn from(json: Json) -> Self {
        Message(json)
    }
}

/// Keeps every field.
impl From<Json> for Tool {
    fn from(json: Json) -> Self {
        Tool(json)
    }
}

/// Keeps every field.
impl From<Json> for ToolCall {
    fn from(json: Json) -> Self {
        ToolCall(json)
    }
}

fn text<'a>(json: &'a Json, field: &str) -> Option<&'a str> {
    json.get(field).and_then(Json::as_str)
}

fn set(json: &mut Json, field: impl Into<String>, value: impl Into<Json>) {
    if !json.is_object() {
        *json = Json::Object(Map::new());
    }
    if let Json::Object(fields) = json {
        fields.insert(field.into(), value.into());
    }
}
