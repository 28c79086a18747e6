//! The functions that a request lets the model call.

use std::collections::HashSet;

use serde_json::{Map, Value, json};
use tramontane::{Tool, ToolChoice};

use crate::wire::{ApiError, Result, go_kind};

/// Functions that the model may call, and whether it must.
#[derive(Debug, Clone, PartialEq)]
pub struct Tools {
    list: Vec<Tool>,
    /// The names of those that may be called; `None`: all.
    allowed: Option<Vec<String>>,
    choice: ToolChoice,
    parallel: bool,
}

/// What a request says about which functions are called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Choice {
    /// The model chooses.
    Auto,
    /// None is called.
    None,
    /// At least one is called.
    Required,
    /// This one is called.
    Function(String),
    /// As `Auto` or `Required`, among some of the tools.
    Allowed {
        /// Whether at least one is called.
        required: bool,
        /// Their names.
        names: Vec<String>,
    },
}

/// Which names of functions an API takes.
#[derive(Debug, Clone, Copy)]
pub enum Names {
    /// Any that is not empty.
    Any,
    /// Letters, digits, `_` and `-` of ASCII, at most so many.
    Plain(usize),
}

impl Default for Tools {
    fn default() -> Self {
        let choice = ToolChoice::default();
        Tools { list: Vec::new(), allowed: None, choice, parallel: true }
    }
}

impl Tools {
    /// Functions of a request, its choice among them and whether more than one call is
    /// allowed.
    ///
    /// # Errors
    /// 400 for two of one name, and for a choice of one that is not there.
    pub fn new(list: Vec<Tool>, choice: Option<Choice>, parallel: bool) -> Result<Self> {
        let mut names = HashSet::new();
        if let Some(twice) = list.iter().map(Tool::name).find(|name| !names.insert(*name)) {
            let text = format!("tools: two functions are named {twice:?}; name each differently");
            return Err(ApiError::bad_request(text).with_param("tools"));
        }
        let choice = choice.unwrap_or(Choice::Auto);
        let chosen: &[String] = match &choice {
            Choice::Function(name) => std::slice::from_ref(name),
            Choice::Allowed { names, .. } => names,
            _ => &[],
        };
        if let Some(unknown) = chosen.iter().find(|name| !names.contains(name.as_str())) {
            return Err(wrong_choice(format!(
                "tool_choice names {unknown:?}, which is not among tools"
            )));
        }
        let must = matches!(choice, Choice::Required | Choice::Allowed { required: true, .. });
        if must && list.is_empty() {
            return Err(wrong_choice("tool_choice asks for a call, but there are no tools"));
        }
        let (choice, allowed) = match choice {
            Choice::Auto => (ToolChoice::Auto, None),
            Choice::None => (ToolChoice::None, None),
            Choice::Required => (ToolChoice::Required, None),
            Choice::Function(name) => (ToolChoice::Function(name), None),
            Choice::Allowed { required: true, names } => (ToolChoice::Required, Some(names)),
            Choice::Allowed { required: false, names } => (ToolChoice::Auto, Some(names)),
        };
        Ok(Tools { list, allowed, choice, parallel })
    }

    /// Whether the model is shown functions and may call them.
    pub fn are_used(&self) -> bool {
        !self.list.is_empty() && self.choice != ToolChoice::None
    }

    /// Those that the prompt shows.
    pub fn shown(&self) -> &[Tool] {
        if self.are_used() { &self.list } else { &[] }
    }

    /// Those of the request, whether they are shown or not.
    pub fn declared(&self) -> &[Tool] {
        &self.list
    }

    /// Those that may be called.
    pub fn callable(&self) -> Vec<Tool> {
        let allowed = |tool: &&Tool| match &self.allowed {
            None => true,
            Some(names) => names.iter().any(|name| name == tool.name()),
        };
        self.shown().iter().filter(allowed).cloned().collect()
    }

    /// Whether they are called.
    pub fn choice(&self) -> &ToolChoice {
        &self.choice
    }

    /// Whether more than one call is allowed.
    pub fn parallel(&self) -> bool {
        self.parallel
    }
}

impl Choice {
    /// Reads OpenAI's field `tool_choice`, in the form of chats or of responses.
    ///
    /// # Errors
    /// 400 for what is no choice.
    pub fn read(value: &Value) -> Result<Self> {
        match value {
            Value::String(word) => Choice::word(word),
            Value::Object(fields) => match fields.get("type").and_then(Value::as_str) {
                Some("function") => {
                    let nested = fields.get("function").unwrap_or(value);
                    Ok(Choice::Function(name_of(nested)?))
                }
                Some("allowed_tools") => {
                    Choice::allowed(fields.get("allowed_tools").unwrap_or(value))
                }
                Some(kind) if fields.len() == 1 => Choice::word(kind),
                _ => Err(wrong_choice(EXPECTED)),
            },
            _ => Err(wrong_choice(EXPECTED)),
        }
    }

    fn word(word: &str) -> Result<Self> {
        match word {
            "auto" => Ok(Choice::Auto),
            "none" => Ok(Choice::None),
            // Anthropic's and llama.cpp's word is "any".
            "required" | "any" => Ok(Choice::Required),
            _ => Err(wrong_choice(EXPECTED)),
        }
    }

    fn allowed(value: &Value) -> Result<Self> {
        let required = match value["mode"].as_str() {
            Some("auto") | None => false,
            Some("required") => true,
            Some(_) => {
                return Err(wrong_choice(
                    "tool_choice: mode of allowed_tools must be \"auto\" or \"required\"",
                ));
            }
        };
        let list = value["tools"].as_array().filter(|list| !list.is_empty());
        let list = list.ok_or_else(|| wrong_choice("tool_choice: allowed_tools has no tools"))?;
        let name = |tool: &Value| name_of(tool.get("function").unwrap_or(tool));
        let names = list.iter().map(name).collect::<Result<_>>()?;
        Ok(Choice::Allowed { required, names })
    }
}

const EXPECTED: &str = "tool_choice must be \"none\", \"auto\", \"required\", a function or \
    allowed_tools";

fn name_of(value: &Value) -> Result<String> {
    let name = value["name"].as_str().map(str::to_owned);
    name.ok_or_else(|| wrong_choice("tool_choice: the function has no name"))
}

fn wrong_choice(text: impl Into<String>) -> ApiError {
    ApiError::bad_request(text).with_param("tool_choice")
}

/// One tool in OpenAI's form for chats, `{"type": "function", "function": {…}}`; every
/// field that the client sent is kept for the template. `place` is where it stands, for
/// errors.
///
/// # Errors
/// 400 for what is no function.
pub fn tool(value: Value, names: Names, place: &str) -> Result<Tool> {
    let wrong = |what: String| Err(ApiError::bad_request(what).with_param(place));
    let Value::Object(mut fields) = value else {
        return wrong(format!("{place} is a JSON {}; a tool is an object", go_kind(&value)));
    };
    match fields.get("type") {
        None | Some(Value::Null) => {
            fields.shift_insert(0, "type".into(), "function".into());
        }
        Some(Value::String(kind)) if kind == "function" => {}
        Some(other) => {
            return wrong(format!(
                "{place}: type {other} is not supported: the model calls functions of the client \
                 only"
            ));
        }
    }
    match fields.get("function") {
        Some(Value::Object(function)) => {
            check_function(function, names, place, &format!("{place}.function"))?;
        }
        _ => return wrong(format!("{place} has no object function")),
    }
    Ok(Tool::from(Value::Object(fields)))
}

/// The same of the fields of a function, as other forms have them without the layer around.
///
/// # Errors
/// 400 for what is no function.
pub fn function(fields: Map<String, Value>, names: Names, place: &str) -> Result<Tool> {
    check_function(&fields, names, place, place)?;
    Ok(Tool::from(json!({"type": "function", "function": fields})))
}

/// `place` is the tool's, `at` that of these fields.
fn check_function(fields: &Map<String, Value>, names: Names, place: &str, at: &str) -> Result<()> {
    let wrong = |field: &str, what: String| {
        Err(ApiError::bad_request(what).with_param(format!("{at}.{field}")))
    };
    let name = match fields.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name,
        _ => return wrong("name", format!("{place}: the function has no name")),
    };
    if let Names::Plain(most) = names
        && (name.len() > most || !name.bytes().all(is_plain))
    {
        return wrong(
            "name",
            format!(
                "{place}: the name {name:?} must be of letters, digits, _ and -, at most {most}"
            ),
        );
    }
    for (field, wanted) in
        [("description", "a string"), ("parameters", "an object"), ("strict", "a bool")]
    {
        let value = fields.get(field).unwrap_or(&Value::Null);
        if !value.is_null() && !wanted.ends_with(go_kind(value)) {
            return wrong(
                field,
                format!("{place}: {field} is a JSON {}, not {wanted}", go_kind(value)),
            );
        }
    }
    Ok(())
}

/// Whether a byte may stand in a name of OpenAI's and in an id of a call.
pub(super) fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-')
}
