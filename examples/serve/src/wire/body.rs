//! Reads JSON requests as Go does: field names in any case, unknown fields and what
//! comes after the first value ignored, and its error texts, which clients show.

use axum::body::Bytes;
use serde_json::{Map, Value};

use super::error::{ApiError, Result};
use super::json::go_kind;

/// A request's JSON object, for reading field by field.
#[derive(Debug, Clone)]
pub struct Body {
    /// Go's name of the type, for error texts.
    kind: &'static str,
    fields: Map<String, Value>,
}

impl Body {
    /// Parses the first JSON value of `bytes`, which must be an object; `kind` is the
    /// name of the type in Ollama, such as `ChatRequest`.
    ///
    /// # Errors
    /// 400 with Go's text.
    pub fn parse(kind: &'static str, bytes: &Bytes) -> Result<Self> {
        let value = first_value(bytes)?;
        Body::from_value(kind, value)
    }

    /// The same for a value inside another.
    ///
    /// # Errors
    /// 400 with Go's text.
    pub fn from_value(kind: &'static str, value: Value) -> Result<Self> {
        match value {
            Value::Object(fields) => Ok(Body { kind, fields }),
            Value::Null => Ok(Body { kind, fields: Map::new() }),
            other => Err(ApiError::bad_request(format!(
                "json: cannot unmarshal {} into Go value of type api.{kind}",
                go_kind(&other)
            ))),
        }
    }

    /// Takes a field out: the one of this very name, else one that differs only in
    /// case. `null` is as if it were not there.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        let exact = self.fields.shift_remove(name);
        let value = exact.or_else(|| {
            let other = self.fields.keys().find(|key| key.eq_ignore_ascii_case(name))?.clone();
            self.fields.shift_remove(&other)
        });
        value.filter(|value| !value.is_null())
    }

    /// A text.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn text(&mut self, name: &str) -> Result<Option<String>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(self.wrong(&other, name, "string")),
        }
    }

    /// A truth value.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn flag(&mut self, name: &str) -> Result<Option<bool>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => Err(self.wrong(&other, name, "bool")),
        }
    }

    /// A whole number.
    ///
    /// # Errors
    /// 400 for another type, or a number that is not whole.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_i64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(&value, name, "int")),
            },
        }
    }

    /// A number.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>> {
        match self.take(name) {
            None => Ok(None),
            Some(value) => match value.as_f64() {
                Some(number) => Ok(Some(number)),
                None => Err(self.wrong(&value, name, "float64")),
            },
        }
    }

    /// A list of values of the Go type `of`.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn list(&mut self, name: &str, of: &str) -> Result<Option<Vec<Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Array(list)) => Ok(Some(list)),
            Some(other) => Err(self.wrong(&other, name, &format!("[]{of}"))),
        }
    }

    /// A list of texts.
    ///
    /// # Errors
    /// 400 for another type, of the list or of one in it.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        let Some(list) = self.list(name, "string")? else { return Ok(None) };
        let text = |value| match value {
            Value::String(text) => Ok(text),
            other => Err(self.wrong(&other, name, "string")),
        };
        list.into_iter().map(text).collect::<Result<_>>().map(Some)
    }

    /// An object.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn object(&mut self, name: &str) -> Result<Option<Map<String, Value>>> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(map)) => Ok(Some(map)),
            Some(other) => Err(self.wrong(&other, name, "map[string]interface {}")),
        }
    }

    /// Go's sentence for a field of the wrong type.
    pub fn wrong(&self, value: &Value, name: &str, wanted: &str) -> ApiError {
        ApiError::bad_request(format!(
            "json: cannot unmarshal {} into Go struct field {}.{name} of type {wanted}",
            go_kind(value),
            self.kind
        ))
    }
}

/// The first JSON value.
fn first_value(bytes: &[u8]) -> Result<Value> {
    if bytes.is_empty() {
        return Err(ApiError::bad_request("missing request body"));
    }
    let text = std::str::from_utf8(bytes).map_err(|error| {
        let at = error.valid_up_to();
        ApiError::bad_request(format!("the request body is not UTF-8 (byte {at})"))
    })?;
    match serde_json::Deserializer::from_str(text).into_iter::<Value>().next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(ApiError::bad_request(syntax(text, &error))),
        None => Err(ApiError::bad_request("unexpected EOF")),
    }
}

/// What Go's decoder says of the same mistake.
fn syntax(text: &str, error: &serde_json::Error) -> String {
    let said = error.to_string();
    if error.is_eof() {
        return "unexpected EOF".into();
    }
    if said.starts_with("recursion limit exceeded") {
        return "exceeded max depth".into();
    }
    if said.starts_with("number out of range") {
        return "json: cannot unmarshal number into Go value of type float64".into();
    }
    let context = [
        ("expected value", "looking for beginning of value"),
        ("key must be a string", "looking for beginning of object key string"),
        ("expected `:`", "after object key"),
        ("expected `,` or `}`", "after object key:value pair"),
        ("expected `,` or `]`", "after array element"),
        ("trailing comma", "looking for beginning of object key string"),
        ("invalid number", "in numeric literal"),
        ("control character", "in string literal"),
        ("invalid escape", "in string escape code"),
        ("expected ident", "in literal"),
    ];
    let found = context.iter().find(|(ours, _)| said.starts_with(ours));
    match (character(text, error.line(), error.column()), found) {
        (Some(c), Some((_, place))) => format!("invalid character {} {place}", go_char(c)),
        _ => said,
    }
}

/// The character that a syntax error points at.
fn character(text: &str, line: usize, column: usize) -> Option<char> {
    let line = text.split('\n').nth(line.checked_sub(1)?)?;
    // Columns count bytes from 1; 0 is the line feed before.
    let Some(column) = column.checked_sub(1) else { return Some('\n') };
    line.get(column..).map_or(Some('\u{FFFD}'), |rest| rest.chars().next().or(Some('\n')))
}

/// A character in Go's quotes.
fn go_char(c: char) -> String {
    match c {
        '\'' => r"'\''".into(),
        '"' => "'\"'".into(),
        '\n' => r"'\n'".into(),
        '\r' => r"'\r'".into(),
        '\t' => r"'\t'".into(),
        c if c.is_control() => format!("'\\x{:02x}'", u32::from(c)),
        c => format!("'{c}'"),
    }
}
