//! `GET /v1/models` and `GET /v1/models/{model}`

use axum::extract::{Path, State};
use axum::response::Response;
use serde_json::{Value, json};

use crate::answer;
use crate::app::Shared;
use crate::catalog::{self, LocalModel};
use crate::wire::{self, Result};

use super::error::OpenAiError;
use super::id;

/// All models.
///
/// # Errors
/// In OpenAI's envelope.
pub async fn models(State(app): State<Shared>) -> Result<Response, OpenAiError> {
    let models = catalog::list(&app).await?;
    let data: Vec<_> = models.iter().map(|model| object(model, &model.name)).collect();
    Ok(wire::json(&json!({"object": "list", "data": data})))
}

/// One model. The name is the rest of the path: names have slashes.
///
/// # Errors
/// In OpenAI's envelope.
pub async fn model(
    State(app): State<Shared>,
    Path(name): Path<String>,
) -> Result<Response, OpenAiError> {
    let model = answer::find(&app, &name).await?;
    Ok(wire::json(&object(&model, &name)))
}

fn object(model: &LocalModel, name: &str) -> Value {
    json!({
        "id": name,
        "object": "model",
        "created": id::seconds(model.modified),
        "owned_by": model.namespace(),
    })
}
