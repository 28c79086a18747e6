//! `POST /api/embed` and its old form, `POST /api/embeddings`

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::answer::{self, Asked, Embed};
use crate::app::Shared;
use crate::metrics::nanos;
use crate::wire::{self, ApiError, Body, KeepAlive, Result};

/// Vectors of one text or several.
///
/// # Errors
/// Ollama's.
pub async fn embed(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("EmbedRequest", &bytes)?;
    let embed = Embed {
        inputs: inputs(body.take("input"))?,
        truncate: body.flag("truncate")?.unwrap_or(true),
        dimensions: usize::try_from(body.integer("dimensions")?.unwrap_or(0)).unwrap_or(0),
        ..read(&mut body)?
    };
    if embed.inputs.is_empty() {
        load(&app, &embed).await?;
        return Ok(wire::json(&json!({"model": embed.model, "embeddings": []})));
    }
    let done = answer::embed(&app, embed).await.map_err(not_found)?;
    Ok(wire::json(&json!({
        "model": done.model,
        "embeddings": done.embeddings,
        "total_duration": nanos(done.total),
        "load_duration": nanos(done.load),
        "prompt_eval_count": done.prompt_tokens,
    })))
}

/// The vector of one text.
///
/// # Errors
/// Ollama's.
pub async fn embeddings(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("EmbeddingRequest", &bytes)?;
    let prompt = body.text("prompt")?.unwrap_or_default();
    let embed = read(&mut body)?;
    if embed.model.is_empty() {
        return Err(ApiError::bad_request("model is required"));
    }
    if prompt.is_empty() {
        load(&app, &embed).await?;
        return Ok(wire::json(&json!({"embedding": []})));
    }
    let done = answer::embed(&app, Embed { inputs: vec![prompt], ..embed }).await;
    let mut done = done.map_err(not_found)?;
    Ok(wire::json(&json!({"embedding": done.embeddings.pop().unwrap_or_default()})))
}

fn read(body: &mut Body) -> Result<Embed> {
    Ok(Embed {
        model: body.text("model")?.unwrap_or_default(),
        inputs: Vec::new(),
        truncate: true,
        dimensions: 0,
        keep_alive: KeepAlive::take(body)?,
        options: body.object("options")?.unwrap_or_default(),
    })
}

fn inputs(input: Option<Value>) -> Result<Vec<String>> {
    let wrong = || ApiError::bad_request("invalid input type");
    match input {
        None => Ok(Vec::new()),
        Some(Value::String(text)) if text.is_empty() => Ok(Vec::new()),
        Some(Value::String(text)) => Ok(vec![text]),
        Some(Value::Array(list)) => {
            let text = |value| match value {
                Value::String(text) => Ok(text),
                _ => Err(wrong()),
            };
            list.into_iter().map(text).collect()
        }
        Some(_) => Err(wrong()),
    }
}

async fn load(app: &Shared, embed: &Embed) -> Result<()> {
    let asked = Asked { keep_alive: embed.keep_alive, ..Asked::of(embed.model.clone()) };
    answer::load(app, &asked).await.map_err(not_found)
}

/// These two routes say it in other words.
fn not_found(error: ApiError) -> ApiError {
    let name = error.message.strip_prefix("model '").and_then(|m| m.strip_suffix("' not found"));
    match name {
        Some(name) if error.status == StatusCode::NOT_FOUND && !name.is_empty() => {
            ApiError::not_found(format!("model {name:?} not found, try pulling it first"))
        }
        _ => error,
    }
}
