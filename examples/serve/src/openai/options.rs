//! Fields of the request → what it asks of the model. One table per API says which
//! field is which of Ollama's options.

use serde_json::{Map, Value};

use crate::answer::Asked;
use crate::wire::{ApiError, Body, KeepAlive, Result, Think};

/// What a field holds.
#[derive(Clone, Copy)]
pub enum Kind {
    /// A number.
    Number,
    /// A whole number.
    Integer,
    /// A text, or a list of them.
    Texts,
    /// An object: token id → what is added to its logit.
    Biases,
}

/// A field of an API, the option that it is, and its type.
pub type Field = (&'static str, &'static str, Kind);

/// `/v1/chat/completions` and `/v1/completions`. Of two fields for one option the later
/// one counts.
pub const CHAT: &[Field] = &[
    ("max_tokens", "num_predict", Kind::Integer),
    ("max_completion_tokens", "num_predict", Kind::Integer),
    ("temperature", "temperature", Kind::Number),
    ("top_p", "top_p", Kind::Number),
    ("frequency_penalty", "frequency_penalty", Kind::Number),
    ("presence_penalty", "presence_penalty", Kind::Number),
    ("seed", "seed", Kind::Integer),
    ("stop", "stop", Kind::Texts),
    ("logit_bias", "logit_bias", Kind::Biases),
];

/// `/v1/responses`
pub const RESPONSES: &[Field] = &[
    ("max_output_tokens", "num_predict", Kind::Integer),
    ("temperature", "temperature", Kind::Number),
    ("top_p", "top_p", Kind::Number),
];

/// `/v1/messages`
pub const MESSAGES: &[Field] = &[
    ("max_tokens", "num_predict", Kind::Integer),
    ("temperature", "temperature", Kind::Number),
    ("top_p", "top_p", Kind::Number),
    ("stop_sequences", "stop", Kind::Texts),
];

/// Options that these APIs do not have and that all routes take under Ollama's names:
/// users of OpenAI's libraries send them as `extra_body`.
const EXTRA: &[Field] = &[
    ("num_ctx", "num_ctx", Kind::Integer),
    ("top_k", "top_k", Kind::Integer),
    ("min_p", "min_p", Kind::Number),
    ("repeat_penalty", "repeat_penalty", Kind::Number),
];

/// Reads the fields of one of the tables, and those that all routes have. What is
/// absent is left to the model.
///
/// # Errors
/// 400 for a value of the wrong type.
pub fn asked(body: &mut Body, fields: &[Field]) -> Result<Asked> {
    let model = body.text("model")?.filter(|name| !name.trim().is_empty());
    let model = model.ok_or_else(|| ApiError::bad_request("model is required"))?;
    let mut options = body.object("options")?.unwrap_or_default();
    for &(name, option, kind) in EXTRA.iter().chain(fields) {
        if let Some(value) = value(body, name, kind)? {
            options.insert(option.into(), value);
        }
    }
    let think = think(body)?;
    Ok(Asked {
        options,
        keep_alive: KeepAlive::take(body)?,
        truncate: body.flag("truncate")?.unwrap_or(true),
        shift: body.flag("shift")?.unwrap_or(true),
        think,
        ..Asked::of(model)
    })
}

fn value(body: &mut Body, name: &str, kind: Kind) -> Result<Option<Value>> {
    Ok(match kind {
        Kind::Number => body.number(name)?.map(Value::from),
        Kind::Integer => body.integer(name)?.map(Value::from),
        // None is as good as an empty one.
        Kind::Texts => {
            let texts = body.texts(name)?.unwrap_or_default();
            let texts: Vec<_> = texts.into_iter().filter(|text| !text.is_empty()).collect();
            Some(texts).filter(|texts| !texts.is_empty()).map(Value::from)
        }
        Kind::Biases => body.object(name)?.filter(|map| !map.is_empty()).map(Value::from),
    })
}

/// `think` as in Ollama's API, or an effort: `none` or more.
fn think(body: &mut Body) -> Result<Option<Think>> {
    let flag = Think::take(body)?;
    let nested = body.object("reasoning")?.and_then(|mut map| map.shift_remove("effort"));
    let level = match body.take("reasoning_effort").or(nested) {
        None | Some(Value::Null) => return Ok(flag),
        Some(Value::String(level)) => level,
        Some(other) => return Err(body.wrong(&other, "reasoning_effort", "string")),
    };
    Think::from_effort(&level).map(Some)
}

/// How many alternatives of each token; 0 to 20.
///
/// # Errors
/// 400 for any other number.
pub fn alternatives(body: &mut Body, name: &str) -> Result<Option<usize>> {
    let Some(count) = body.integer(name)? else { return Ok(None) };
    match usize::try_from(count) {
        Ok(count) if count <= 20 => Ok(Some(count)),
        _ => Err(ApiError::bad_request(format!("{name} must be between 0 and 20"))),
    }
}

/// Whether the stream is to end with the usage.
///
/// # Errors
/// 400 for a value of the wrong type.
pub fn include_usage(body: &mut Body) -> Result<bool> {
    let options: Map<String, Value> = body.object("stream_options")?.unwrap_or_default();
    let mut options = Body::from_value("StreamOptions", options.into())?;
    Ok(options.flag("include_usage")?.unwrap_or(false))
}
