//! `POST /api/copy`, `DELETE /api/delete`

use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;

use crate::app::Shared;
use crate::catalog;
use crate::name::ModelName;
use crate::task::blocking;
use crate::wire::{ApiError, Body, Result};

use super::fields;

/// A second name for a model.
///
/// # Errors
/// 400 for a name that is none, 404.
pub async fn copy(State(app): State<Shared>, bytes: Bytes) -> Result<StatusCode> {
    let mut body = Body::parse("CopyRequest", &bytes)?;
    let source = body.text("source")?.unwrap_or_default();
    let destination = body.text("destination")?.unwrap_or_default();
    let name = |what: &str, text: &str| {
        let name = ModelName::parse(text);
        name.map_err(|_| ApiError::bad_request(format!("{what} {text:?} is invalid")))
    };
    let (from, to) = (name("source", &source)?, name("destination", &destination)?);
    blocking(move || {
        let found = app.store.find(&from).map_err(store_error)?;
        if found.is_none() && catalog::is_builtin(&from) {
            let base = Some(catalog::LocalModel::builtin());
            let recipe = catalog::Recipe { base, ..catalog::Recipe::default() };
            recipe.make(&app.store, &to, app.config.no_prune, &|_| ())?;
            return Ok(StatusCode::OK);
        }
        if found.is_none() {
            return Err(ApiError::not_found(format!("model {source:?} not found")));
        }
        app.store.copy(&from, &to).map_err(store_error)?;
        Ok(StatusCode::OK)
    })
    .await
}

/// Removes a model, and the files that no other needs.
///
/// # Errors
/// 400 for a name that is none, 404.
pub async fn delete(State(app): State<Shared>, bytes: Bytes) -> Result<StatusCode> {
    let mut body = Body::parse("DeleteRequest", &bytes)?;
    let model = fields::model(&mut body)?;
    let name = ModelName::parse(&model)
        .map_err(|_| ApiError::bad_request(format!("name {model:?} is invalid")))?;
    blocking(move || match app.store.delete(&name).map_err(store_error)? {
        true => Ok(StatusCode::OK),
        false if catalog::is_builtin(&name) => Err(ApiError::bad_request(format!(
            "{model} is part of the program and cannot be removed"
        ))),
        false => Err(ApiError::not_found(format!("model '{model}' not found"))),
    })
    .await
}

/// What the store says.
pub fn store_error(error: crate::store::StoreError) -> ApiError {
    ApiError::internal(error.to_string())
}
