//! One line of the log per request, written when its answer has ended.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use axum::body::{Body, Bytes, HttpBody};
use axum::extract::Request;
use axum::http::Method;
use axum::response::Response;
use hyper::body::{Frame, SizeHint};

use crate::record::Record;

/// What a client is told that went away before there was an answer: nothing. The log has
/// nginx's number for it.
const GONE: u16 = 499;

/// A request's line; it is written when this is dropped.
pub struct Line {
    method: Method,
    path: String,
    begun: Instant,
    status: u16,
    record: Arc<Record>,
}

impl Line {
    /// A request has come.
    pub fn begin(request: &Request) -> Self {
        Line {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            begun: Instant::now(),
            status: GONE,
            record: Arc::default(),
        }
    }

    /// Where its handler writes what it knows.
    pub fn record(&self) -> Arc<Record> {
        self.record.clone()
    }

    /// The answer, which takes the line along: it is written when the last byte is sent,
    /// or when the client went away.
    pub fn until_sent(mut self, response: Response) -> Response {
        self.status = response.status().as_u16();
        response.map(|body| Body::new(Logged { body, _line: self }))
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        let tokens = self.record.tokens();
        // More digits say nothing and hide the others.
        let duration_ms = (self.begun.elapsed().as_secs_f64() * 1e6).round() / 1e3;
        tracing::info!(
            method = self.method.as_str(),
            path = self.path,
            status = self.status,
            duration_ms,
            model = self.record.for_model(),
            prompt_tokens = tokens.map(|(prompt, _)| prompt),
            generated_tokens = tokens.map(|(_, generated)| generated),
            "request"
        );
    }
}

/// A body with its line.
struct Logged {
    body: Body,
    _line: Line,
}

impl HttpBody for Logged {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
