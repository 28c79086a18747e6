//! The options of a model: which there are, and of what type. Every door to a new model
//! checks them here: Modelfiles, `POST /api/create`, a conversation's `/set` and `/save`.

use serde_json::{Map, Value};
use tramontane::GenerateOptions;

/// Options that Ollama once had; they are left out.
pub const DEPRECATED: [&str; 9] = [
    "penalize_newline",
    "low_vram",
    "f16_kv",
    "logits_all",
    "vocab_only",
    "use_mlock",
    "mirostat",
    "mirostat_tau",
    "mirostat_eta",
];

/// The type of an option's value.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Int,
    Float,
    Bool,
    /// Texts.
    Stop,
}

fn kind(key: &str) -> Option<Kind> {
    match key {
        "num_ctx" | "num_batch" | "num_gpu" | "main_gpu" | "num_thread" | "draft_num_predict"
        | "num_keep" | "seed" | "num_predict" | "top_k" | "repeat_last_n" => Some(Kind::Int),
        "top_p" | "min_p" | "typical_p" | "temperature" | "repeat_penalty" | "presence_penalty"
        | "frequency_penalty" => Some(Kind::Float),
        "use_mmap" => Some(Kind::Bool),
        "stop" => Some(Kind::Stop),
        _ => None,
    }
}

/// The value of an option from its text, of the option's type.
///
/// # Errors
/// An option that is none, a value of another type: Ollama's sentences.
pub fn typed(key: &str, text: &str) -> Result<Value, String> {
    let bad = |kind: &str| format!("invalid {kind} value [{text}]");
    match kind(key) {
        None => Err(format!("unknown parameter '{key}'")),
        Some(Kind::Int) => text.parse::<i64>().map(Value::from).map_err(|_| bad("int")),
        Some(Kind::Float) => {
            let value = text.parse::<f32>().ok().filter(|value| value.is_finite());
            // The shortest text of the 32-bit number, as a 64-bit one.
            let value = value.and_then(|value| value.to_string().parse::<f64>().ok());
            value.map(Value::from).ok_or_else(|| bad("float"))
        }
        Some(Kind::Bool) => match crate::config::go_bool(text) {
            Some(on) => Ok(Value::Bool(on)),
            None => Err(bad("bool")),
        },
        Some(Kind::Stop) => Ok(Value::Array(vec![Value::from(text)])),
    }
}

/// A value as JSON has it, of the option's type: numbers as text are taken, and one stop
/// text for a list of one. None for what says nothing.
///
/// # Errors
/// An option that is none, a value that no request could use.
pub fn checked(key: &str, value: &Value) -> Result<Option<Value>, String> {
    if value.is_null() || DEPRECATED.contains(&key) {
        return Ok(None);
    }
    let kind = kind(key).ok_or_else(|| format!("unknown parameter '{key}'"))?;
    let whole = |number: f64| number.fract() == 0.0 && number.abs() < 9e15;
    let value = match (kind, value) {
        (_, Value::String(text)) => typed(key, text.trim_matches(blank(kind)))?,
        (Kind::Int, Value::Number(number)) => match (number.as_i64(), number.as_f64()) {
            (Some(number), _) => number.into(),
            (None, Some(number)) if whole(number) => (number as i64).into(),
            _ => return Err(wrong(key, value, "a whole number")),
        },
        (Kind::Float, Value::Number(_)) | (Kind::Bool, Value::Bool(_)) => value.clone(),
        (Kind::Stop, Value::Array(list)) if list.is_empty() => return Ok(None),
        (Kind::Stop, Value::Array(list)) if list.iter().all(Value::is_string) => value.clone(),
        (Kind::Int, _) => return Err(wrong(key, value, "a whole number")),
        (Kind::Float, _) => return Err(wrong(key, value, "a number")),
        (Kind::Bool, _) => return Err(wrong(key, value, "true or false")),
        (Kind::Stop, _) => return Err(wrong(key, value, "a text or a list of texts")),
    };
    // What every request would fail on.
    GenerateOptions::default().set(key, &value).map_err(|error| error.to_string())?;
    Ok(Some(value))
}

/// Blanks around a number mean nothing, around a stop text they do.
fn blank(kind: Kind) -> fn(char) -> bool {
    if kind == Kind::Stop { |_| false } else { char::is_whitespace }
}

fn wrong(key: &str, value: &Value, wanted: &str) -> String {
    format!("parameter '{key}' must be {wanted}, not {value}")
}

/// All options of a new model.
///
/// # Errors
/// The first that cannot be used.
pub fn all_checked(params: Map<String, Value>) -> Result<Map<String, Value>, String> {
    let mut good = Map::new();
    for (key, value) in params {
        if let Some(value) = checked(&key, &value)? {
            good.insert(key, value);
        }
    }
    Ok(good)
}

/// The options of a model that is here already: what cannot be used is left out, so that
/// the model still answers.
pub(super) fn usable(params: Map<String, Value>) -> Map<String, Value> {
    let one = |(key, value): (String, Value)| match checked(&key, &value) {
        Ok(Some(good)) => Some((key, good)),
        // Unknown and old ones are shown; requests pass over them.
        _ if kind(&key).is_none() => Some((key, value)),
        Ok(None) => None,
        Err(error) => {
            tracing::warn!(error, "an option of the model is left out");
            None
        }
    };
    params.into_iter().filter_map(one).collect()
}
