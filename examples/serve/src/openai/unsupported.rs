//! What this server cannot do, refused by name: an answer that passes over half of the
//! request is worse than none.

use serde_json::Value;

use crate::wire::{ApiError, Body, Result};

/// Of answers that somebody wants to be judged.
pub const MODERATES_NOTHING: &str = "this server does not judge texts";

/// Fields and what is said when one is set. `null`, `false` and what is empty pass.
pub type Refused = (&'static str, &'static str);

/// Refuses those of `fields` that are set.
///
/// # Errors
/// 400.
pub fn set(body: &mut Body, fields: &[Refused]) -> Result<()> {
    for (name, why) in fields {
        if body.take(name).is_some_and(|value| is_set(&value)) {
            return Err(ApiError::bad_request(format!("{name}: {why}")));
        }
    }
    Ok(())
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(false) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(map) => !map.is_empty(),
        Value::Bool(true) | Value::Number(_) => true,
    }
}

/// Refuses more than one answer to one request.
///
/// # Errors
/// 400.
pub fn several(body: &mut Body, name: &str) -> Result<()> {
    match body.integer(name)? {
        None | Some(1) => Ok(()),
        Some(_) => Err(ApiError::bad_request(format!(
            "{name} must be 1: this server gives one answer to a request; send several requests"
        ))),
    }
}
