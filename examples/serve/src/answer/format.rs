//! What the text of an answer must be, as requests say it.

use serde_json::Value;
use tramontane::Constraint;

use crate::wire::{ApiError, Body, Result};

use super::closed::closed;

/// What the text of an answer must be.
#[derive(Debug, Clone, PartialEq)]
pub struct Format {
    /// The field of the request that says so, for errors about it.
    pub field: &'static str,
    /// What it says.
    pub kind: FormatKind,
}

/// The forms of a format.
#[derive(Debug, Clone, PartialEq)]
pub enum FormatKind {
    /// Any JSON object.
    Json,
    /// A value of a JSON schema.
    Schema(Value),
    /// A text of a grammar in llama.cpp's notation.
    Grammar(String),
    /// A text that a regular expression matches as a whole.
    Regex(String),
    /// One of these texts.
    Choices(Vec<String>),
}

impl Format {
    /// Reads `format` as Ollama's API has it: `"json"`, or a schema.
    ///
    /// # Errors
    /// 400 with Ollama's text.
    pub fn take_format(body: &mut Body) -> Result<Option<Self>> {
        let kind = match body.take("format") {
            None => return Ok(None),
            Some(Value::String(text)) if text.is_empty() => return Ok(None),
            Some(Value::String(text)) if text == "json" => FormatKind::Json,
            Some(Value::Object(schema)) => FormatKind::Schema(schema.into()),
            Some(other) => {
                let quoted = crate::prompt::quote(&other.to_string());
                return Err(ApiError::bad_request(format!(
                    "invalid format: {quoted}; expected \"json\" or a valid JSON Schema object"
                )));
            }
        };
        Ok(Some(Format { field: "format", kind }))
    }

    /// Reads the fields that are this server's own, on every route that makes text:
    /// `grammar`, `regex` and `choices`.
    ///
    /// # Errors
    /// 400 for a value of another type.
    fn take_own(body: &mut Body) -> Result<Vec<Self>> {
        let mut found = Vec::new();
        let mut add = |field, kind| found.push(Format { field, kind });
        if let Some(grammar) = body.text("grammar")?.filter(|text| !text.trim().is_empty()) {
            add("grammar", FormatKind::Grammar(grammar));
        }
        if let Some(pattern) = body.text("regex")?.filter(|text| !text.is_empty()) {
            add("regex", FormatKind::Regex(pattern));
        }
        let choices = body.list("choices", "string")?.unwrap_or_default();
        let text = |value: Value| match value {
            Value::String(text) if !text.is_empty() => Ok(text),
            _ => Err(ApiError::bad_request("choices must be a list of texts that are not empty")
                .with_param("choices")),
        };
        let choices = choices.into_iter().map(text).collect::<Result<Vec<_>>>()?;
        if !choices.is_empty() {
            add("choices", FormatKind::Choices(choices));
        }
        Ok(found)
    }

    /// The format of a request: `of_api`, which its API has a field for, or one of this
    /// server's own fields.
    ///
    /// # Errors
    /// 400 for more than one, or a value of another type.
    pub fn take(body: &mut Body, of_api: Option<Self>) -> Result<Option<Self>> {
        let mut found = of_api.into_iter().chain(Format::take_own(body)?);
        let first = found.next();
        match (&first, found.next()) {
            (Some(first), Some(second)) => Err(ApiError::bad_request(format!(
                "{} and {} both say what the answer must be; send one of them",
                first.field, second.field
            ))
            .with_param(second.field)),
            _ => Ok(first),
        }
    }

    /// What the library is told.
    ///
    /// # Errors
    /// 400 for a grammar that is none.
    pub(super) fn constraint(&self) -> Result<Constraint> {
        Ok(match &self.kind {
            FormatKind::Json => Constraint::json(),
            FormatKind::Schema(schema) => Constraint::json_schema(closed(schema.clone())),
            FormatKind::Grammar(text) => {
                Constraint::gbnf(text).map_err(|error| refused(self.field, &error))?
            }
            FormatKind::Regex(pattern) => Constraint::regex(pattern),
            FormatKind::Choices(choices) => Constraint::choices(choices),
        })
    }
}

/// What the library says against the constraint that `field` asks for: always the
/// request's fault.
pub(super) fn refused(field: &str, error: &tramontane::Error) -> ApiError {
    ApiError::bad_request(format!("{field}: {error}")).with_param(field)
}
