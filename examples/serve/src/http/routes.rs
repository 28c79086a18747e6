//! Every route.

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, head, post};

use crate::app::Shared;
use crate::{ollama, openai};

use super::guard;

/// What the server answers to.
#[rustfmt::skip]
fn table() -> Vec<(&'static str, MethodRouter<Shared>)> {
    vec![
        ("/",                      get(|| async { "Ollama is running" })),
        ("/healthz",               get(|| async { "ok" })),
        ("/readyz",                get(ready)),
        ("/metrics",               get(metrics)),

        ("/api/version",           get(ollama::version)),
        ("/api/status",            get(ollama::status)),
        ("/api/tags",              get(ollama::tags)),
        ("/api/ps",                get(ollama::ps)),
        ("/api/show",              post(ollama::show)),
        ("/api/generate",          post(ollama::generate)),
        ("/api/chat",              post(ollama::chat)),
        ("/api/embed",             post(ollama::embed)),
        ("/api/embeddings",        post(ollama::embeddings)),
        ("/api/tokenize",          post(ollama::tokenize)),
        ("/api/detokenize",        post(ollama::detokenize)),

        ("/api/pull",              post(ollama::pull)),
        ("/api/push",              post(ollama::push)),
        ("/api/create",            post(ollama::create)),
        ("/api/copy",              post(ollama::copy)),
        ("/api/delete",            delete(ollama::delete)),
        ("/api/blobs/{digest}",    head(ollama::has_blob).merge(
                                   post(ollama::put_blob).layer(DefaultBodyLimit::disable()))),

        ("/v1/chat/completions",   post(openai::chat_completions)),
        ("/v1/completions",        post(openai::completions)),
        ("/v1/embeddings",         post(openai::embeddings)),
        ("/v1/models",             get(openai::models)),
        ("/v1/models/{*model}",    get(openai::model)),
        ("/v1/responses",          post(openai::responses)),
        ("/v1/messages",           post(openai::messages)),
    ]
}

/// The routes that change the store: a read-only server refuses them.
pub const CHANGING: [&str; 6] =
    ["/api/pull", "/api/push", "/api/create", "/api/copy", "/api/delete", "/api/blobs/{digest}"];

/// The whole server, without a socket.
pub fn router(app: Shared) -> Router {
    let mut router = Router::new();
    for (path, methods) in table() {
        router = router.route(path, methods);
    }
    router
        .fallback(unknown)
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed")
        })
        .layer(DefaultBodyLimit::max(app.config.limits.body))
        .layer(from_fn_with_state(app.clone(), guard::guard))
        .with_state(app)
}

/// A path with a slash too many is sent where it belongs.
async fn unknown(method: axum::http::Method, uri: Uri) -> Response {
    let path = uri.path().trim_end_matches('/');
    if path.len() < uri.path().len() && table().iter().any(|(known, _)| *known == path) {
        let status = match method {
            axum::http::Method::GET => StatusCode::MOVED_PERMANENTLY,
            _ => StatusCode::TEMPORARY_REDIRECT,
        };
        return (status, [(header::LOCATION, path)]).into_response();
    }
    (StatusCode::NOT_FOUND, "404 page not found").into_response()
}

/// Whether requests are taken: not while the server is ending.
async fn ready(State(app): State<Shared>) -> Response {
    match app.scheduler.is_draining() {
        false => "ok".into_response(),
        true => (StatusCode::SERVICE_UNAVAILABLE, "server is shutting down").into_response(),
    }
}

async fn metrics(State(app): State<Shared>) -> Response {
    let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, kind)], app.metrics.render(&app.scheduler)).into_response()
}
