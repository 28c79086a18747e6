//! What every request passes: origin, host, key, read-only mode; and what every answer
//! gets: CORS headers, a count.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use subtle::ConstantTimeEq;

use crate::app::Shared;
use crate::config::Bind;
use crate::store::Digest;
use crate::wire::{ApiError, is_loopback};

use super::access::Access;
use super::origin;
use super::request_log::Line;

/// What it takes to decide.
pub struct Guard {
    /// The server.
    pub app: Shared,
    /// The route table's column.
    pub access: HashMap<&'static str, Access>,
}

/// Lets a request pass, or answers it.
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>();
    // The table's text, not the client's: labels must not grow with requests.
    let route = route.map_or("", MatchedPath::as_str).to_owned();
    let origin = foreign_origin(request.headers());
    let line = Line::begin(&request);
    let mut response = match guard.refuse(&route, origin.as_deref(), &request) {
        Some(refusal) => refusal,
        None => line.record().scope(run(&guard.app, &route, request, next)).await,
    };
    if let Some(origin) = origin {
        allow_origin(&guard.app, &origin, response.headers_mut());
    }
    guard.app.metrics.request(&route, response.status().as_u16());
    line.until_sent(response)
}

/// The handler's answer; 500 if it panicked.
async fn run(app: &Shared, route: &str, request: Request, next: Next) -> Response {
    match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) if response.status() == StatusCode::PAYLOAD_TOO_LARGE => {
            let most = app.config.limits.body;
            let text = format!("the request body is too large: this server takes {most} bytes");
            error(route, StatusCode::PAYLOAD_TOO_LARGE, text)
        }
        Ok(response) => response,
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

impl Guard {
    fn refuse(&self, route: &str, origin: Option<&str>, request: &Request) -> Option<Response> {
        let config = &self.app.config;
        let access = self.access.get(route).copied().unwrap_or(Access::Use);
        if let Some(origin) = origin {
            if !origin::allowed(origin, &config.origins) {
                return Some(StatusCode::FORBIDDEN.into_response());
            }
            if request.method() == Method::OPTIONS {
                return Some(preflight(request.headers()));
            }
        }
        let local = match &config.bind {
            Bind::Tcp(host, _) => is_loopback(host),
            Bind::Unix(_) => false,
        };
        if local && !origin::host_allowed(host(request)) {
            return Some(StatusCode::FORBIDDEN.into_response());
        }
        if request.method() == Method::OPTIONS {
            return Some(StatusCode::NO_CONTENT.into_response());
        }
        if access != Access::Open
            && !config.api_keys.is_empty()
            && !has_key(request.headers(), &config.api_keys)
        {
            let text = "a valid API key is needed: Authorization: Bearer KEY; the command line \
                takes it from OLLAMA_API_KEY";
            return Some(error(route, StatusCode::UNAUTHORIZED, text));
        }
        if config.read_only && access == Access::Change && request.method() != Method::HEAD {
            let text = "this server is read-only; models cannot be changed through it";
            return Some(error(route, StatusCode::FORBIDDEN, text));
        }
        let encoding = request.headers().get(header::CONTENT_ENCODING);
        if encoding.is_some_and(|encoding| encoding != "identity") {
            let text = "compressed request bodies are not supported; send the body as it is";
            return Some(error(route, StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
        }
        None
    }
}

/// An error in the form of the route's API.
fn error(route: &str, status: StatusCode, text: impl Into<String>) -> Response {
    let error = ApiError::new(status, text);
    crate::openai::refusal(route, &error).unwrap_or_else(|| error.into_response())
}

/// The origin of a page that is not this server's own.
fn foreign_origin(headers: &HeaderMap) -> Option<String> {
    let origin = headers.get(header::ORIGIN)?;
    // What is no text is nobody's origin: it is refused like a foreign one.
    let origin = origin.to_str().unwrap_or("invalid");
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let own = ["http://", "https://"].iter().any(|s| origin.strip_prefix(s) == Some(host));
    (!own && !origin.is_empty()).then(|| origin.to_owned())
}

fn host(request: &Request) -> &str {
    let header = request.headers().get(header::HOST).map(|host| host.to_str().unwrap_or("?"));
    header.or_else(|| request.uri().authority().map(|a| a.as_str())).unwrap_or_default()
}

fn preflight(asked: &HeaderMap) -> Response {
    let headers = [
        (header::ACCESS_CONTROL_ALLOW_METHODS, "GET,POST,PUT,PATCH,DELETE,HEAD,OPTIONS"),
        (header::ACCESS_CONTROL_MAX_AGE, "43200"),
        (header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOWED_HEADERS),
    ];
    let mut response = (StatusCode::NO_CONTENT, headers).into_response();
    // Browsers ask so before a public page may reach a private address.
    if asked.get("access-control-request-private-network").is_some_and(|value| value == "true") {
        let yes = HeaderValue::from_static("true");
        response.headers_mut().insert("access-control-allow-private-network", yes);
    }
    response
}

/// What OpenAI's and Anthropic's libraries send from browsers.
const ALLOWED_HEADERS: &str = "Authorization,Content-Type,User-Agent,Accept,X-Requested-With,\
    OpenAI-Beta,anthropic-version,anthropic-dangerous-direct-browser-access,x-api-key,\
    x-stainless-arch,x-stainless-async,x-stainless-custom-poll-interval,\
    x-stainless-helper-method,x-stainless-lang,x-stainless-os,x-stainless-package-version,\
    x-stainless-poll-helper,x-stainless-retry-count,x-stainless-runtime,\
    x-stainless-runtime-version,x-stainless-timeout";

fn allow_origin(app: &Shared, origin: &str, headers: &mut HeaderMap) {
    let extra = &app.config.origins;
    if !origin::allowed(origin, extra) {
        return;
    }
    let all = extra.iter().any(|pattern| pattern == "*");
    let value = if all { Ok(HeaderValue::from_static("*")) } else { HeaderValue::from_str(origin) };
    if let Ok(value) = value {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, value);
        headers.append(header::VARY, HeaderValue::from_static("Origin"));
    }
}

/// Compares hashes, all of them, in constant time: neither where a key differs nor its
/// length shows in the time.
fn has_key(headers: &HeaderMap, keys: &[String]) -> bool {
    let bearer = headers.get(header::AUTHORIZATION).and_then(|value| {
        let (scheme, key) = value.to_str().ok()?.split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then(|| key.trim())
    });
    let other = || headers.get("x-api-key").and_then(|value| value.to_str().ok());
    let Some(key) = bearer.or_else(other) else { return false };
    let given = Digest::of(key.as_bytes());
    keys.iter()
        .fold(subtle::Choice::from(0), |found, key| {
            found | Digest::of(key.as_bytes()).bytes().ct_eq(given.bytes())
        })
        .into()
}
