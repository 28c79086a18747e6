//! What the text of an answer must be: `response_format` and its kin.

use serde_json::Value;

use crate::answer::{Format, FormatKind};
use crate::wire::{ApiError, Body, Result};

/// Takes the format of a request: the field of its API, of which the value is `value`, or
/// one of this server's own.
///
/// # Errors
/// 400 for a format that is none, and for more than one.
pub fn take(body: &mut Body, field: &'static str, value: Option<Value>) -> Result<Option<Format>> {
    let of_api = match value {
        None => None,
        Some(value) => kind(field, value)?.map(|kind| Format { field, kind }),
    };
    Format::take(body, of_api)
}

fn kind(field: &str, value: Value) -> Result<Option<FormatKind>> {
    let wrong = |what: &str| Err(ApiError::bad_request(format!("{field}{what}")).with_param(field));
    let Value::Object(mut fields) = value else {
        return match value {
            Value::Null => Ok(None),
            _ => wrong(" must be an object with a type"),
        };
    };
    if fields.is_empty() {
        return Ok(None);
    }
    let kind = fields.get("type").and_then(Value::as_str).unwrap_or_default();
    match kind {
        "text" => Ok(None),
        // The schema is llama.cpp's.
        "json_object" => Ok(Some(match fields.shift_remove("schema") {
            Some(schema @ Value::Object(_)) => FormatKind::Schema(schema),
            None | Some(Value::Null) => FormatKind::Json,
            Some(_) => return wrong(": schema must be an object"),
        })),
        "json_schema" => {
            let nested = fields.shift_remove("json_schema");
            let schema = match nested {
                Some(Value::Object(mut nested)) => nested.shift_remove("schema"),
                Some(_) => return wrong(": json_schema must be an object"),
                None => fields.shift_remove("schema"),
            };
            match schema {
                Some(schema @ Value::Object(_)) => Ok(Some(FormatKind::Schema(schema))),
                _ => wrong(": json_schema needs schema, an object"),
            }
        }
        _ => wrong(".type must be \"text\", \"json_object\" or \"json_schema\""),
    }
}
