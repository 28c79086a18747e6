//! Every route.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{from_fn_with_state, map_request};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, head, post};

use crate::app::Shared;
use crate::{ollama, openai};

use super::access::Access;
use super::guard::{self, Guard};
use super::path;

/// What the server answers to, and who may ask it.
#[rustfmt::skip]
fn table() -> Vec<(&'static str, Access, MethodRouter<Shared>)> {
    use Access::{Change, Open, Use};
    vec![
        ("/",                      Open,   get(|| async { "Ollama is running" })),
        ("/healthz",               Open,   get(|| async { "ok" })),
        ("/readyz",                Open,   get(ready)),
        ("/metrics",               Use,    get(metrics)),

        ("/api/version",           Use,    get(ollama::version)),
        ("/api/status",            Use,    get(ollama::status)),
        ("/api/tags",              Use,    get(ollama::tags)),
        ("/api/ps",                Use,    get(ollama::ps)),
        ("/api/show",              Use,    post(ollama::show)),
        ("/api/generate",          Use,    post(ollama::generate)),
        ("/api/chat",              Use,    post(ollama::chat)),
        ("/api/embed",             Use,    post(ollama::embed)),
        ("/api/embeddings",        Use,    post(ollama::embeddings)),
        ("/api/rerank",            Use,    post(openai::api_rerank)),
        ("/api/tokenize",          Use,    post(ollama::tokenize)),
        ("/api/detokenize",        Use,    post(ollama::detokenize)),

        ("/api/pull",              Change, post(ollama::pull)),
        ("/api/push",              Change, post(ollama::push)),
        ("/api/create",            Change, post(ollama::create)),
        ("/api/copy",              Change, post(ollama::copy)),
        ("/api/delete",            Change, delete(ollama::delete)),
        ("/api/blobs/{digest}",    Change, head(ollama::has_blob).merge(
                                           post(ollama::put_blob).layer(DefaultBodyLimit::disable()))),

        ("/v1/chat/completions",   Use,    post(openai::chat_completions)),
        ("/v1/completions",        Use,    post(openai::completions)),
        ("/v1/embeddings",         Use,    post(openai::embeddings)),
        ("/v1/rerank",             Use,    post(openai::rerank)),
        ("/v1/reranking",          Use,    post(openai::rerank)),
        ("/v2/rerank",             Use,    post(openai::rerank)),
        ("/rerank",                Use,    post(openai::rerank)),
        ("/reranking",             Use,    post(openai::rerank)),
        ("/v1/models",             Use,    get(openai::models)),
        ("/v1/models/{*model}",    Use,    get(openai::model)),
        ("/v1/responses",          Use,    post(openai::responses)),
        ("/v1/messages",           Use,    post(openai::messages)),
        ("/v1/messages/count_tokens", Use, post(openai::count_tokens)),
    ]
}

/// The whole server, without a socket.
pub fn router(app: Shared) -> Router {
    let mut router = Router::new();
    let mut access = HashMap::new();
    for (path, needs, methods) in table() {
        router = router.route(path, methods);
        access.insert(path, needs);
    }
    let guard = Arc::new(Guard { app: app.clone(), access });
    let router = router
        .fallback(unknown)
        .method_not_allowed_fallback(|| async {
            (StatusCode::METHOD_NOT_ALLOWED, "405 method not allowed")
        })
        .layer(DefaultBodyLimit::max(app.config.limits.body))
        .layer(from_fn_with_state(guard, guard::guard))
        .with_state(app);
    // Outside, as routes are found by the path that was cleaned.
    let clean = map_request(|request: Request| async { path::cleaned(request) });
    Router::new().fallback_service(router).layer(clean)
}

/// A path with a slash at its end is sent where it belongs; one with something in front of
/// it gets a hint.
async fn unknown(method: axum::http::Method, uri: Uri) -> Response {
    let path = uri.path().trim_end_matches('/');
    if path.len() < uri.path().len() && table().iter().any(|(known, ..)| *known == path) {
        let status = match method {
            axum::http::Method::GET => StatusCode::MOVED_PERMANENTLY,
            _ => StatusCode::TEMPORARY_REDIRECT,
        };
        return (status, [(header::LOCATION, path)]).into_response();
    }
    let hint = table().iter().find_map(|(known, ..)| {
        let prefix = path::prefix(path, known)?;
        Some(format!(
            ": here is {known}; take {prefix} out of the address, or have the proxy do so"
        ))
    });
    let text = format!("404 page not found{}", hint.unwrap_or_default());
    (StatusCode::NOT_FOUND, text).into_response()
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
    ([(header::CONTENT_TYPE, kind)], app.metrics.render()).into_response()
}
