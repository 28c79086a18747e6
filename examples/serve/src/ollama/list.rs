//! `GET /api/version`, `/api/status`, `/api/tags`, `/api/ps`

use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::Response;
use serde_json::{Value, json};
use tramontane::Model;

use crate::app::Shared;
use crate::catalog;
use crate::task::compute;
use crate::wire::{self, Result};

/// Ollama's version as far as clients care, and our own.
pub async fn version() -> Response {
    let own = env!("CARGO_PKG_VERSION");
    wire::json(&json!({"version": wire::OLLAMA_VERSION, "tramontane": own}))
}

/// There is no cloud.
pub async fn status() -> Response {
    wire::json(&json!({"cloud": {"disabled": true, "source": "config"}}))
}

/// The models on disk.
///
/// # Errors
/// 500 if the store cannot be read.
pub async fn tags(State(app): State<Shared>) -> Result<Response> {
    let models = catalog::list(&app).await?;
    let shared = app.clone();
    let models = compute(move || {
        let one = |model: &catalog::LocalModel| {
            let details = model.details(&shared.store);
            let encoder = Model::is_encoder(&details.family);
            let mut entry = json!({
                "name": model.name,
                "model": model.name,
                "modified_at": local_time(model.modified),
                "size": model.size,
                "digest": model.digest,
                "details": details,
            });
            // Other capabilities need the file's keys; a list opens no files.
            if encoder {
                entry["capabilities"] = json!(["embedding"]);
            }
            entry
        };
        models.iter().map(one).collect::<Vec<Value>>()
    });
    Ok(wire::json(&json!({"models": models.await?})))
}

/// The models in memory, those that stay longest first.
pub async fn ps(State(app): State<Shared>) -> Response {
    let mut loaded = app.scheduler.loaded();
    loaded.sort_by_key(|model| std::cmp::Reverse(model.expires_at.unwrap_or(never())));
    let one = |model: &crate::schedule::Loaded| {
        json!({
            "name": model.name,
            "model": model.name,
            "size": model.size,
            "digest": model.info.get("digest").cloned().unwrap_or_default(),
            "details": model.info.get("details").cloned().unwrap_or_default(),
            "expires_at": local_time(model.expires_at.unwrap_or(never())),
            "size_vram": 0,
            "context_length": model.num_ctx,
        })
    };
    wire::json(&json!({"models": loaded.iter().map(one).collect::<Vec<_>>()}))
}

/// What clients show as "Forever": about 292 years, as Ollama's.
fn never() -> SystemTime {
    SystemTime::now() + Duration::from_secs(292 * 365 * 24 * 3600)
}

/// RFC 3339 with the offset of this machine's time zone.
pub fn local_time(time: SystemTime) -> String {
    let Ok(time) = jiff::Timestamp::try_from(time) else { return String::new() };
    let zoned = time.to_zoned(jiff::tz::TimeZone::system());
    zoned.strftime("%Y-%m-%dT%H:%M:%S%.9f%:z").to_string()
}
