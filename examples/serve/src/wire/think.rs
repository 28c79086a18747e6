//! Whether, and how much, a model is to think before it answers.

use serde_json::Value;

use super::body::Body;
use super::error::{ApiError, Result};

/// The field `think`, or an effort.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Think {
    /// `false`, or the effort `none`.
    No,
    /// `true`.
    Yes,
    /// A little.
    Low,
    /// Moderately.
    Medium,
    /// Much.
    High,
    /// As much as the model can.
    Max,
}

/// What Ollama's texts name.
const EXPECTED: &str = r#""high", "medium", "low", "max", true, or false"#;

impl Think {
    /// Takes the field `think` out of a request: `true`, `false` or a level.
    ///
    /// # Errors
    /// 400 with Ollama's texts.
    pub fn take(body: &mut Body) -> Result<Option<Self>> {
        match body.take("think") {
            None => Ok(None),
            Some(Value::Bool(false)) => Ok(Some(Think::No)),
            Some(Value::Bool(true)) => Ok(Some(Think::Yes)),
            Some(Value::String(level)) => match Think::level(&level) {
                Some(think) => Ok(Some(think)),
                None => Err(ApiError::bad_request(format!(
                    "invalid think value: {level:?} (must be {EXPECTED})"
                ))),
            },
            Some(_) => Err(ApiError::bad_request(format!(
                "think must be a boolean or string ({EXPECTED})"
            ))),
        }
    }

    fn level(name: &str) -> Option<Self> {
        match name {
            "low" => Some(Think::Low),
            "medium" => Some(Think::Medium),
            "high" => Some(Think::High),
            "max" => Some(Think::Max),
            _ => None,
        }
    }

    /// OpenAI's word for how much a model is to think.
    ///
    /// # Errors
    /// 400 with Ollama's text.
    pub fn from_effort(effort: &str) -> Result<Self> {
        match effort {
            "none" => Ok(Think::No),
            "minimal" => Ok(Think::Low),
            "xhigh" | "ultra" => Ok(Think::Max),
            effort => Think::level(effort).ok_or_else(|| {
                ApiError::bad_request(format!(
                    "invalid reasoning value: '{effort}' (must be \"high\", \"medium\", \"low\", \
                     \"max\", or \"none\")"
                ))
            }),
        }
    }
}
