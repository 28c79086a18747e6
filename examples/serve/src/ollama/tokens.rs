//! `POST /api/tokenize`, `POST /api/detokenize`: not Ollama's, but asked for.

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use serde_json::json;
use tramontane::EncodeOptions;

use crate::answer::{self, Asked};
use crate::app::Shared;
use crate::task::compute;
use crate::wire::{self, ApiError, Body, KeepAlive, Result};

use super::fields;

/// `{"model", "content"}` → `{"tokens", "count"}`. With `special` texts of control
/// tokens become these; with `add_bos` what the vocabulary puts around a text is there.
///
/// # Errors
/// 400, 404.
pub async fn tokenize(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("TokenizeRequest", &bytes)?;
    let model = fields::model(&mut body)?;
    let (content, prompt) = (body.text("content")?, body.text("prompt")?);
    let content = content.or(prompt).ok_or_else(|| ApiError::bad_request("content is required"))?;
    let encoding = EncodeOptions::default()
        .with_bos(body.flag("add_bos")?.unwrap_or(false))
        .with_special(body.flag("special")?.unwrap_or(false));
    let keep_alive = KeepAlive::take(&mut body)?;
    body.end(&["model", "content", "special", "add_bos", "keep_alive"])?;
    let lease = answer::lease(&app, &Asked { keep_alive, ..Asked::of(model.clone()) }).await?;
    let tokens = compute(move || lease.model().tokenizer().encode(&content, encoding)).await?;
    Ok(wire::json(&json!({"model": model, "tokens": tokens, "count": tokens.len()})))
}

/// `{"model", "tokens"}` → `{"content"}`.
///
/// # Errors
/// 400, 404.
pub async fn detokenize(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("DetokenizeRequest", &bytes)?;
    let model = fields::model(&mut body)?;
    let list = body.list("tokens", "int")?;
    let list = list.ok_or_else(|| ApiError::bad_request("tokens is required"))?;
    let keep_alive = KeepAlive::take(&mut body)?;
    body.end(&["model", "tokens", "keep_alive"])?;
    let lease = answer::lease(&app, &Asked { keep_alive, ..Asked::of(model.clone()) }).await?;
    let n_vocab = lease.model().n_vocab() as u64;
    let token = |value: &serde_json::Value| match value.as_u64().filter(|&id| id < n_vocab) {
        Some(id) => Ok(id as u32),
        None => Err(ApiError::bad_request(format!(
            "tokens: {value} is no token of a vocabulary of {n_vocab}"
        ))),
    };
    let tokens: Vec<u32> = list.iter().map(token).collect::<Result<_>>()?;
    let content = compute(move || lease.model().tokenizer().decode_with_special(&tokens)).await?;
    Ok(wire::json(&json!({"model": model, "content": content})))
}
