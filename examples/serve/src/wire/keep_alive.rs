//! How long a model stays in memory, as Ollama writes it.

use std::time::Duration;

use serde_json::Value;

use super::body::Body;
use super::error::ApiError;
use super::json::go_type;

/// How long a model stays after its last request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeepAlive {
    /// So long; zero: it goes at once.
    For(Duration),
    /// Until the server ends.
    Forever,
}

impl KeepAlive {
    /// A field of a request: seconds, or a duration of Go. Negative is for ever.
    ///
    /// # Errors
    /// Go's text.
    pub fn from_json(value: &Value) -> Result<Self, String> {
        match value {
            Value::Number(number) => Ok(Self::from_seconds(number.as_f64().unwrap_or_default())),
            Value::String(text) => Self::from_text(text),
            other => Err(format!("Unsupported type: '{}'", go_type(other))),
        }
    }

    /// Takes the field `keep_alive` out of a request.
    ///
    /// # Errors
    /// 400 with Go's text.
    pub fn take(body: &mut Body) -> super::error::Result<Option<Self>> {
        let value = body.take("keep_alive");
        value.map(|value| Self::from_json(&value)).transpose().map_err(ApiError::bad_request)
    }

    /// A duration of Go: `5m`, `1h30m`, `-1s`; or seconds.
    ///
    /// # Errors
    /// Go's text.
    pub fn from_text(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let seconds = text.parse::<f64>().ok().filter(|seconds| seconds.is_finite());
        seconds.map_or_else(|| parse(text), Ok).map(Self::from_seconds)
    }

    fn from_seconds(seconds: f64) -> Self {
        if seconds < 0.0 {
            return KeepAlive::Forever;
        }
        // Longer than Go can say, or than a clock can add: for ever.
        match Duration::try_from_secs_f64(seconds) {
            Ok(time) if time.as_secs() < 290 * 365 * 24 * 3600 => KeepAlive::For(time),
            _ => KeepAlive::Forever,
        }
    }
}

/// Seconds of a duration of Go.
fn parse(text: &str) -> Result<f64, String> {
    let invalid = || format!("time: invalid duration {text:?}");
    let (sign, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (-1.0, rest),
        None => (1.0, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Ok(0.0);
    }
    if rest.is_empty() {
        return Err(invalid());
    }
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (digits, after) = rest.split_at(end);
        let number: f64 = digits.parse().map_err(|_| invalid())?;
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let factor = match unit {
            "" => return Err(format!("time: missing unit in duration {text:?}")),
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(format!("time: unknown unit {unit:?} in duration {text:?}")),
        };
        seconds += number * factor;
        rest = after;
    }
    Ok(sign * seconds)
}
