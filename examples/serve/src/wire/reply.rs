//! Replies: one JSON object, NDJSON, server-sent events.

use std::convert::Infallible;

use axum::body::{Body, Bytes};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use futures_util::stream::{self, Stream, StreamExt};
use serde::Serialize;

use super::json::go_json;

/// One JSON object.
pub fn json(value: &impl Serialize) -> Response {
    json_with(StatusCode::OK, value)
}

/// One JSON object, with a status.
pub fn json_with(status: StatusCode, value: &impl Serialize) -> Response {
    (status, [("content-type", "application/json; charset=utf-8")], go_json(value)).into_response()
}

/// A stream of JSON objects, one per line.
pub fn ndjson<S>(lines: S) -> Response
where
    S: Stream<Item = serde_json::Value> + Send + 'static,
{
    let bytes = lines.map(|line| Bytes::from(go_json(&line) + "\n"));
    streamed("application/x-ndjson", bytes)
}

/// One event of a server-sent stream: a name, where the API has names, and data.
pub struct Event {
    /// The line `event:`, if any.
    pub name: Option<&'static str>,
    /// The line `data:`; JSON has no line feeds.
    pub data: String,
    /// Whether it is a comment, which clients pass over.
    pub is_comment: bool,
}

impl Event {
    /// Data without a name, as OpenAI's chat has it.
    pub fn data(value: &impl Serialize) -> Self {
        Event { name: None, data: go_json(value), is_comment: false }
    }

    /// Data with a name.
    pub fn named(name: &'static str, value: &impl Serialize) -> Self {
        Event { name: Some(name), data: go_json(value), is_comment: false }
    }

    /// OpenAI's last line.
    pub fn done() -> Self {
        Event { name: None, data: "[DONE]".into(), is_comment: false }
    }

    /// A line that says nothing to clients but that the server lives; `text` is one line.
    pub fn comment(text: String) -> Self {
        Event { name: None, data: text, is_comment: true }
    }
}

/// A stream of server-sent events.
pub fn sse<S>(events: S) -> Response
where
    S: Stream<Item = Event> + Send + 'static,
{
    let bytes = events.map(|event| {
        if event.is_comment {
            return Bytes::from(format!(": {}\n\n", event.data));
        }
        let name = event.name.map(|name| format!("event: {name}\n")).unwrap_or_default();
        Bytes::from(format!("{name}data: {}\n\n", event.data))
    });
    let mut response = streamed("text/event-stream", bytes);
    let headers = response.headers_mut();
    headers.insert("cache-control", axum::http::HeaderValue::from_static("no-cache"));
    response
}

/// A body that comes as it is made; a client that goes away drops the stream.
fn streamed<S>(kind: &'static str, bytes: S) -> Response
where
    S: Stream<Item = Bytes> + Send + 'static,
{
    let body = Body::from_stream(bytes.map(Ok::<_, Infallible>));
    ([("content-type", kind)], body).into_response()
}

/// A stream from a state and a step, which gives nothing more after its last item.
pub fn unfold<T, F, Fut, I>(state: T, step: F) -> impl Stream<Item = I>
where
    F: FnMut(T) -> Fut,
    Fut: Future<Output = Option<(I, T)>>,
{
    stream::unfold(state, step).fuse()
}
