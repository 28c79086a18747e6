//! A grammar that is being written, and what its parts have in common.
//!
//! A marker that is a control token of the vocabulary is matched by its id, any other by its
//! bytes. Free text is one lexeme up to a marker, so that it costs little per token.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use serde_json::{Value as Json, json};

use super::AnswerShape;
use super::form::Form;
use super::syntax::Syntax;
use crate::constrain::Constraint;
use crate::error::Result;
use crate::template::Tool;

/// Free text. Control tokens are no text.
pub(super) const TEXT: &str = "/(.|\\n)*/";
/// White space between the parts of a call.
pub(super) const SPACE: &str = "/(\\r?\\n){0,2}[ \\t]{0,8}/";
/// Schemas of which it is known whether they can be enforced, and the longest of them.
const KEPT: usize = 256;
const KEPT_LENGTH: usize = 1 << 14;

/// A grammar that is being written.
#[derive(Debug)]
pub(super) struct Grammar<'a> {
    pub(super) syntax: &'a Syntax,
    pub(super) form: Form,
    /// The functions that may be called.
    pub(super) tools: Vec<&'a Tool>,
    pub(super) shape: &'a AnswerShape<'a>,
    pub(super) rules: String,
    /// Functions whose schemas are not followed: any object is allowed.
    pub(super) loose: Vec<String>,
}

/// A string of the grammar.
pub(super) fn literal(text: &str) -> String {
    if text.is_empty() {
        return "\"\"".into();
    }
    Json::from(text).to_string().replace('\u{7f}', "\\u007f")
}

impl Grammar<'_> {
    pub(super) fn rule(&mut self, name: &str, expression: &str) {
        self.rules.push_str(&format!("{name}: {expression}\n"));
    }

    /// Rules that are written already.
    pub(super) fn raw(&mut self, rules: &str) {
        self.rules.push_str(rules);
    }

    /// A marker: its token, or its bytes. One that ends the answer is the end itself.
    pub(super) fn mark(&self, text: &str) -> String {
        match self.syntax.control(text) {
            Some(control) if control.ends => "\"\"".into(),
            Some(control) => format!("<[{}]>", control.id),
            None => literal(text),
        }
    }

    /// A rule for text up to a marker and with it; gives its name.
    pub(super) fn until(&mut self, name: &str, mark: &str) -> String {
        match self.syntax.control(mark) {
            Some(_) => {
                let mark = self.mark(mark);
                self.rule(name, &format!("text {mark}"));
            }
            None => self.rule(&format!("{name}[lazy]"), &format!("{TEXT} {}", literal(mark))),
        }
        name.to_owned()
    }

    /// The rule of a function's arguments.
    pub(super) fn arguments(&mut self, index: usize, tool: &Tool) -> Result<()> {
        let schema = arguments_schema(tool);
        let name = format!("arguments_{index}");
        let constraint = if supported(&schema) {
            Constraint::json_schema(schema)
        } else {
            self.loose.push(tool.name().to_owned());
            Constraint::json()
        };
        let rule = constraint.rules(&name)?;
        self.rules.push_str(&rule);
        Ok(())
    }

    /// The alternatives of all functions.
    pub(super) fn each(&self, one: impl Fn(usize, &str) -> String) -> String {
        let all = self.tools.iter().enumerate().map(|(index, tool)| one(index, tool.name()));
        format!("({})", all.collect::<Vec<_>>().join(" | "))
    }

    /// The marker as a part that is sure to come.
    pub(super) fn opening(&self) -> String {
        if self.form.mark.is_empty() { String::new() } else { self.mark(&self.form.mark) }
    }
}

/// Whether values of a schema can be enforced. Clients send the same functions with every
/// request, so what was found out is kept.
pub(super) fn supported(schema: &Json) -> bool {
    static KNOWN: Mutex<BTreeMap<String, bool>> = Mutex::new(BTreeMap::new());
    if !cfg!(feature = "constrain") {
        return true;
    }
    let text = schema.to_string();
    let known = || KNOWN.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(supported) = known().get(&text) {
        return *supported;
    }
    let supported = Constraint::json_schema(schema.clone()).check().is_ok();
    if text.len() <= KEPT_LENGTH {
        let mut known = known();
        if known.len() >= KEPT {
            known.clear();
        }
        known.insert(text, supported);
    }
    supported
}

/// The schema of a function's arguments: an object, of nothing but what it names.
pub(super) fn arguments_schema(tool: &Tool) -> Json {
    let function = tool.as_json().get("function");
    let parameters = function.and_then(|function| function.get("parameters"));
    let mut schema = parameters.cloned().filter(Json::is_object).unwrap_or_else(|| json!({}));
    if let Some(fields) = schema.as_object_mut() {
        // A function without parameters has none.
        if fields.is_empty() {
            fields.insert("properties".into(), json!({}));
        }
        if !matches!(fields.get("type"), Some(Json::String(name)) if name == "object") {
            fields.insert("type".into(), "object".into());
        }
        if fields.get("properties").is_some_and(Json::is_object)
            && [
                "additionalProperties",
                "patternProperties",
                "unevaluatedProperties",
                "anyOf",
                "oneOf",
                "allOf",
                "$ref",
            ]
            .iter()
            .all(|key| !fields.contains_key(*key))
        {
            fields.insert("additionalProperties".into(), false.into());
        }
    }
    schema
}
