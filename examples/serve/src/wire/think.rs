//! Whether a model is to think before it answers.

use serde_json::Value;

use super::body::Body;
use super::error::{ApiError, Result};

/// The field `think`, or an effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    /// `false`, or the effort `none`.
    No,
    /// `true`, or any other effort.
    Yes,
}

impl Think {
    /// Takes the field `think` out of a request: `true`, `false` or a level.
    ///
    /// # Errors
    /// 400 with Ollama's texts.
    pub fn take(body: &mut Body) -> Result<Option<Self>> {
        let expected = r#""high", "medium", "low", "max", true, or false"#;
        match body.take("think") {
            None => Ok(None),
            Some(Value::Bool(false)) => Ok(Some(Think::No)),
            Some(Value::Bool(true)) => Ok(Some(Think::Yes)),
            Some(Value::String(level)) => match level.as_str() {
                "high" | "medium" | "low" | "max" => Ok(Some(Think::Yes)),
                _ => Err(ApiError::bad_request(format!(
                    "invalid think value: {level:?} (must be {expected})"
                ))),
            },
            Some(_) => Err(ApiError::bad_request(format!(
                "think must be a boolean or string ({expected})"
            ))),
        }
    }

    /// OpenAI's word for how much a model is to think.
    ///
    /// # Errors
    /// 400 with Ollama's text.
    pub fn from_effort(effort: &str) -> Result<Self> {
        match effort {
            "none" => Ok(Think::No),
            "minimal" | "low" | "medium" | "high" | "xhigh" | "ultra" | "max" => Ok(Think::Yes),
            _ => Err(ApiError::bad_request(format!(
                "invalid reasoning value: '{effort}' (must be \"high\", \"medium\", \"low\", \
                 \"max\", or \"none\")"
            ))),
        }
    }
}
