//! `POST /v1/embeddings`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Serialize;
use serde_json::{Value, json};

use crate::answer::{self, Embed, Embedded};
use crate::app::Shared;
use crate::wire::{self, ApiError, Body, Result};

use super::error::OpenAiError;
use super::options;

/// What a client asks for.
#[derive(Debug)]
pub struct Request {
    /// The texts.
    pub embed: Embed,
    /// Whether vectors are base64 of their bytes, not lists of numbers.
    pub base64: bool,
}

/// Vectors of one text or several.
///
/// # Errors
/// In OpenAI's envelope.
pub async fn embeddings(State(app): State<Shared>, bytes: Bytes) -> Result<Response, OpenAiError> {
    let Request { embed, base64 } = read(&bytes)?;
    let done = answer::embed(&app, embed).await?;
    Ok(wire::json(&list(done, base64)))
}

/// Reads a request.
///
/// # Errors
/// 400: a mistake, or what this server cannot do.
pub fn read(bytes: &Bytes) -> Result<Request> {
    let mut body = Body::parse("EmbedRequest", bytes)?;
    let asked = options::asked(&mut body, &[])?;
    let dimensions = body.integer("dimensions")?.unwrap_or(0);
    let dimensions = usize::try_from(dimensions)
        .map_err(|_| ApiError::bad_request("dimensions must not be negative"))?;
    let embed = Embed {
        model: asked.model,
        inputs: inputs(body.take("input"))?,
        truncate: asked.truncate,
        dimensions,
        keep_alive: asked.keep_alive,
        options: asked.options,
    };
    Ok(Request { embed, base64: is_base64(&mut body)? })
}

fn inputs(input: Option<Value>) -> Result<Vec<String>> {
    let invalid = || ApiError::bad_request("invalid input");
    let list = match input {
        Some(Value::String(text)) => vec![text.into()],
        Some(Value::Array(list)) => list,
        _ => return Err(invalid()),
    };
    if list.is_empty() || list == [""] {
        return Err(invalid());
    }
    let text = |value| match value {
        Value::String(text) => Ok(text),
        Value::Number(_) | Value::Array(_) => {
            Err(ApiError::bad_request("input: tokens are not supported; send texts"))
        }
        _ => Err(invalid()),
    };
    list.into_iter().map(text).collect()
}

fn is_base64(body: &mut Body) -> Result<bool> {
    match body.text("encoding_format")?.unwrap_or_default().to_lowercase().as_str() {
        "" | "float" => Ok(false),
        "base64" => Ok(true),
        other => Err(ApiError::bad_request(format!(
            "Invalid value for 'encoding_format' = {other}. Supported values: ['float', 'base64']."
        ))),
    }
}

/// The reply. Not a `Value`: there the numbers would be written with twice the digits.
#[derive(Debug, Serialize)]
pub struct List {
    object: &'static str,
    data: Vec<Item>,
    model: String,
    usage: Value,
}

#[derive(Debug, Serialize)]
struct Item {
    object: &'static str,
    embedding: Vector,
    index: usize,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
enum Vector {
    Floats(Vec<f32>),
    Base64(String),
}

/// The whole reply.
pub fn list(done: Embedded, base64: bool) -> List {
    let vector = |vector: Vec<f32>| match base64 {
        false => Vector::Floats(vector),
        true => {
            let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
            Vector::Base64(STANDARD.encode(bytes))
        }
    };
    let item = |(index, one)| Item { object: "embedding", embedding: vector(one), index };
    List {
        object: "list",
        data: done.embeddings.into_iter().enumerate().map(item).collect(),
        model: done.model,
        usage: json!({"prompt_tokens": done.prompt_tokens, "total_tokens": done.prompt_tokens}),
    }
}
