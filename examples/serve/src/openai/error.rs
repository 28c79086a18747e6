//! Errors in the envelopes of OpenAI and Anthropic.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use crate::wire::{ApiError, json_with};

use super::id;

/// An error in OpenAI's envelope.
#[derive(Debug, PartialEq, Eq)]
pub struct OpenAiError(pub ApiError);

/// An error in Anthropic's envelope.
#[derive(Debug, PartialEq, Eq)]
pub struct AnthropicError(pub ApiError);

impl OpenAiError {
    /// The body.
    pub fn json(&self) -> Value {
        let ApiError { status, message, param, code } = &self.0;
        let kind = match *status {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            _ => "api_error",
        };
        json!({"error": {"message": message, "type": kind, "param": param, "code": code}})
    }
}

impl AnthropicError {
    /// The body.
    pub fn json(&self) -> Value {
        let ApiError { status, message, param, code } = &self.0;
        let kind = match *status {
            StatusCode::BAD_REQUEST => "invalid_request_error",
            StatusCode::UNAUTHORIZED => "authentication_error",
            StatusCode::FORBIDDEN => "permission_error",
            StatusCode::NOT_FOUND => "not_found_error",
            StatusCode::PAYLOAD_TOO_LARGE => "request_too_large",
            StatusCode::TOO_MANY_REQUESTS => "rate_limit_error",
            StatusCode::SERVICE_UNAVAILABLE => "overloaded_error",
            _ => "api_error",
        };
        let mut error = json!({"type": kind, "message": message});
        if let Some(code) = code {
            let unsupported: Vec<&String> = param.iter().collect();
            error["details"] = json!({"error_code": code, "unsupported": unsupported});
        }
        json!({"type": "error", "error": error, "request_id": id::random("req_")})
    }
}

/// An error that the guards found before a handler of `route` ran, in the envelope of
/// that route's API; none for routes of other APIs.
pub fn refusal(route: &str, error: &ApiError) -> Option<Response> {
    match route {
        route if route.starts_with("/v1/messages") => {
            Some(AnthropicError(error.clone()).into_response())
        }
        route if route.starts_with("/v1/") => Some(OpenAiError(error.clone()).into_response()),
        _ => None,
    }
}

impl IntoResponse for OpenAiError {
    fn into_response(self) -> Response {
        json_with(self.0.status, &self.json())
    }
}

impl IntoResponse for AnthropicError {
    fn into_response(self) -> Response {
        json_with(self.0.status, &self.json())
    }
}

impl From<ApiError> for OpenAiError {
    fn from(error: ApiError) -> Self {
        OpenAiError(error)
    }
}

impl From<ApiError> for AnthropicError {
    fn from(error: ApiError) -> Self {
        AnthropicError(error)
    }
}
