//! Reads JSON requests as Go does: field names in any case, unknown fields and what
//! comes after the first value ignored, and its error texts, which clients show.

use axum::body::Bytes;
use serde_json::{Map, Value};

use super::error::{ApiError, Result};
use super::json::{go_kind, number_in};
use super::text;

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

    /// A whole number, also one in quotes or with a zero behind the point: clients send both.
    ///
    /// # Errors
    /// 400 for another type, or a number that is not whole.
    pub fn integer(&mut self, name: &str) -> Result<Option<i64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = number_in(&value).and_then(|number| {
            let whole = || number.as_f64().filter(|number| number.fract() == 0.0);
            number.as_i64().or_else(|| Some(whole()? as i64))
        });
        number.map(Some).ok_or_else(|| self.wrong(&value, name, "int"))
    }

    /// A number, also one in quotes.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn number(&mut self, name: &str) -> Result<Option<f64>> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let number = number_in(&value).and_then(|number| number.as_f64());
        number.map(Some).ok_or_else(|| self.wrong(&value, name, "float64"))
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

    /// A list of texts, or one text.
    ///
    /// # Errors
    /// 400 for another type, of the list or of one in it.
    pub fn texts(&mut self, name: &str) -> Result<Option<Vec<String>>> {
        let list = match self.take(name) {
            None => return Ok(None),
            Some(Value::String(text)) => return Ok(Some(vec![text])),
            Some(Value::Array(list)) => list,
            Some(other) => return Err(self.wrong(&other, name, "string or []string")),
        };
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

    /// Refuses what nobody took, for routes whose fields are this server's own: a field that
    /// is not known is a mistake there. `known` are those that are.
    ///
    /// # Errors
    /// 400 with the name of the first one.
    pub fn end(self, known: &[&str]) -> Result<()> {
        match self.fields.keys().next() {
            None => Ok(()),
            Some(name) => Err(ApiError::bad_request(format!(
                "unknown field {name:?}; known are {}",
                known.join(", ")
            ))),
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
    let text = text::json(bytes);
    match serde_json::Deserializer::from_str(&text).into_iter::<Value>().next() {
        Some(Ok(value)) => Ok(value),
        Some(Err(error)) => Err(ApiError::bad_request(syntax(&text, &error))),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn odd_characters_become_replacement_characters() {
        for (body, expected) in [
            (r#""a \ud83d b""#, "a \u{fffd} b"),
            (r#""\ude00""#, "\u{fffd}"),
            (r#""\ud83d\ud83d\ude00""#, "\u{fffd}\u{1f600}"),
            (r#""\uD83D\uDE00""#, "\u{1f600}"),
            (r#""\ud83d\n\ude00""#, "\u{fffd}\n\u{fffd}"),
            (r#""\\ud83d""#, r"\ud83d"),
            (r#""\\\ud83dx""#, "\\\u{fffd}x"),
            (r#""é\u00e9\ud83d""#, "éé\u{fffd}"),
        ] {
            assert_eq!(first_value(body.as_bytes()).unwrap(), expected, "{body}");
        }
        assert_eq!(first_value(b"\"caf\xe9 \xf0\x9f\"").unwrap(), "caf\u{fffd} \u{fffd}");
        for broken in [r#""\ud83"#, r#""\ud83""#, r#""\u+123""#, "\"\\"] {
            assert!(first_value(broken.as_bytes()).is_err(), "{broken}");
        }
    }

    #[test]
    fn numbers_are_read_in_every_form_that_clients_send() {
        let read = |value: Value| {
            Body::from_value("T", serde_json::json!({"n": value})).unwrap().integer("n").ok()
        };
        for value in [100.into(), 100.0.into(), "100".into(), " 100.0 ".into()] {
            assert_eq!(read(value), Some(Some(100)));
        }
        assert_eq!(read(Value::Null), Some(None));
        for value in [100.5.into(), "x".into(), "".into(), "inf".into(), true.into()] {
            assert_eq!(read(value), None);
        }
    }
}
