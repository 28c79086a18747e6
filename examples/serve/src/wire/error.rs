//! What a client is told when something cannot be done.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::json;

use crate::task::Panicked;

use super::json::go_json;

/// An answer that is an error: a status and one sentence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct ApiError {
    /// The status, if nothing was sent yet.
    pub status: StatusCode,
    /// Ollama's text where it has one: clients compare it.
    pub message: String,
    /// The field that is wrong, for APIs that name it.
    pub param: Option<String>,
    /// What programs know the error by, for APIs that have such a word for it.
    pub code: Option<&'static str>,
}

/// The result of a handler.
pub type Result<T, E = ApiError> = std::result::Result<T, E>;

impl ApiError {
    /// An error of any status.
    pub fn new(status: StatusCode, message: impl Into<String>) -> Self {
        ApiError { status, message: message.into(), param: None, code: None }
    }

    /// 400: the client's mistake.
    pub fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, message)
    }

    /// The same error, of the field `param`.
    #[must_use]
    pub fn with_param(mut self, param: impl Into<String>) -> Self {
        self.param = Some(param.into());
        self
    }

    /// The same error with a word that programs know it by.
    #[must_use]
    pub fn with_code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    /// 404.
    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, message)
    }

    /// 500: ours.
    pub fn internal(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::INTERNAL_SERVER_ERROR, message)
    }

    /// 503: later it may be possible.
    pub fn busy(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::SERVICE_UNAVAILABLE, message)
    }

    /// The body, `{"error": …}`.
    pub fn json(&self) -> serde_json::Value {
        json!({"error": self.message})
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let kind = [("content-type", "application/json; charset=utf-8")];
        (self.status, kind, go_json(&self.json())).into_response()
    }
}

impl From<tramontane::Error> for ApiError {
    /// What the library refuses is the request's fault, unless it is the file's.
    fn from(error: tramontane::Error) -> Self {
        use tramontane::Error;
        let status = match &error {
            Error::Misuse(_) | Error::Limit { .. } | Error::Template(_) => StatusCode::BAD_REQUEST,
            Error::QueueFull { .. } => return ApiError::busy(BUSY),
            Error::Closed => return ApiError::internal(STOPPED),
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        };
        ApiError::new(status, error.to_string())
    }
}

impl From<Panicked> for ApiError {
    fn from(panicked: Panicked) -> Self {
        ApiError::internal(panicked.to_string())
    }
}

/// The queue is full.
pub const BUSY: &str = "server busy, please try again.  maximum pending requests exceeded";
/// The engine ended under a request.
pub const STOPPED: &str = "model runner has unexpectedly stopped, this may be due to resource \
    limitations or an internal error, check ollama server logs for details";
