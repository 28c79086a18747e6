//! `POST /api/generate`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;

use crate::answer::{self, Asked, Generate};
use crate::app::Shared;
use crate::wire::{ApiError, Body, Result};

use super::fields;
use super::lines::{self, Form};

/// Completes a prompt; without one loads the model, or lets it go.
///
/// # Errors
/// Ollama's.
pub async fn generate(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("GenerateRequest", &bytes)?;
    let (asked, stream) = fields::asked(&mut body)?;
    let prompt = body.text("prompt")?.unwrap_or_default();
    let form = Form::Generate { context: true };
    if prompt.is_empty() && fields::at_once(asked.keep_alive) {
        answer::unload(&app, &asked.model).await?;
        return Ok(lines::without_text(&asked.model, form, "unload"));
    }
    let generate = read(&mut body, asked, prompt)?;
    if generate.prompt.is_empty() {
        answer::load(&app, &generate.asked).await?;
        return Ok(lines::without_text(&generate.asked.model, form, "load"));
    }
    let form = Form::Generate { context: !generate.raw };
    let model = generate.asked.model.clone();
    let answer = answer::generate(app.clone(), generate);
    lines::send(&app, model, answer, form, stream).await
}

fn read(body: &mut Body, asked: Asked, prompt: String) -> Result<Generate> {
    let model = asked.model.clone();
    let mut generate = Generate::of(asked, prompt);
    generate.suffix = body.text("suffix")?.unwrap_or_default();
    generate.system = body.text("system")?.filter(|text| !text.is_empty());
    generate.template = body.text("template")?.filter(|text| !text.is_empty());
    generate.raw = body.flag("raw")?.unwrap_or(false);
    generate.context = context(body)?;
    fields::refuse_images(body.list("images", "api.ImageData")?, &model)?;
    let formed = generate.template.is_some() || generate.system.is_some();
    if generate.raw && (formed || !generate.context.is_empty()) {
        let text = "raw mode does not support template, system, or context";
        return Err(ApiError::bad_request(text));
    }
    Ok(generate)
}

fn context(body: &mut Body) -> Result<Vec<u32>> {
    let Some(list) = body.list("context", "int")? else { return Ok(Vec::new()) };
    let token = |value: &serde_json::Value| {
        let token = value.as_u64().and_then(|token| u32::try_from(token).ok());
        token.ok_or_else(|| match value.is_number() {
            true => ApiError::bad_request(format!("context: {value} is no token")),
            false => body.wrong(value, "context", "int"),
        })
    };
    list.iter().map(token).collect()
}
