//! `POST /api/pull`, `POST /api/push`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::app::Shared;
use crate::name::ModelName;
use crate::registry::Progress;
use crate::wire::{self, ApiError, Body, Result};

use super::fields;

/// Fetches a model from its registry.
///
/// # Errors
/// 400 for a name that is none; what happens later is a line.
pub async fn pull(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("PullRequest", &bytes)?;
    let model =
        fields::model(&mut body).map_err(|_| ApiError::bad_request("invalid model name"))?;
    let name = crate::catalog::parse(&model)?;
    let (insecure, stream) = switches(&mut body)?;
    let work = move |sink: Sink| async move {
        let told = app.registry.pull(&app.store, &name, insecure, |progress| sink.tell(progress));
        told.await.map_err(|error| error.to_string())
    };
    reply(work, stream).await
}

/// Sends a model to its registry.
///
/// # Errors
/// 400 for a name that is none; what happens later is a line.
pub async fn push(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("PushRequest", &bytes)?;
    let model = fields::model(&mut body)?;
    let name = ModelName::parse(&model).map_err(|_| ApiError::bad_request("invalid model name"))?;
    let (insecure, stream) = switches(&mut body)?;
    let work = move |sink: Sink| async move {
        let told = app.registry.push(&app.store, &name, insecure, |progress| sink.tell(progress));
        told.await.map_err(|error| error.to_string())
    };
    reply(work, stream).await
}

fn switches(body: &mut Body) -> Result<(bool, bool)> {
    Ok((body.flag("insecure")?.unwrap_or(false), body.flag("stream")?.unwrap_or(true)))
}

/// Where work tells how far it is. A client that reads slowly holds up nobody: what it
/// has not read is kept, a few lines per second.
#[derive(Clone)]
pub struct Sink(mpsc::UnboundedSender<Value>);

impl Sink {
    /// One line.
    pub fn tell(&self, progress: Progress) {
        self.line(json!(progress));
    }

    /// One line with a status.
    pub fn status(&self, status: impl Into<String>) {
        self.line(json!({"status": status.into()}));
    }

    fn line(&self, line: Value) {
        // Nobody reads any more: the work is about to be dropped.
        let _ = self.0.send(line);
    }
}

/// Runs `work`, which is dropped when the client goes away, and sends what it tells: in
/// lines, or the last one.
///
/// # Errors
/// 500 with the work's sentence, if nothing was streamed.
pub async fn reply<W, F>(work: W, stream: bool) -> Result<Response>
where
    W: FnOnce(Sink) -> F + Send + 'static,
    F: Future<Output = Result<(), String>> + Send + 'static,
{
    let (sender, mut lines) = mpsc::unbounded_channel();
    let work = work(Sink(sender));
    if !stream {
        work.await.map_err(ApiError::internal)?;
        let mut last = json!({"status": "success"});
        while let Ok(line) = lines.try_recv() {
            last = line;
        }
        return Ok(wire::json(&last));
    }
    let state = Told { work: Some(work.boxed()), lines, failure: None };
    Ok(wire::ndjson(wire::unfold(state, |mut told| async move {
        let line = told.next().await?;
        Some((line, told))
    })))
}

/// Work, and what it tells.
struct Told {
    work: Option<BoxFuture<'static, Result<(), String>>>,
    lines: mpsc::UnboundedReceiver<Value>,
    failure: Option<String>,
}

impl Told {
    /// The next line: all that was told, and then the error, if it ended with one.
    async fn next(&mut self) -> Option<Value> {
        while let Some(running) = self.work.as_mut() {
            tokio::select! {
                biased;
                line = self.lines.recv() => match line {
                    Some(line) => return Some(line),
                    // Its sink is gone before its end.
                    None => self.failure = self.work.take()?.await.err(),
                },
                ended = running => {
                    self.failure = ended.err();
                    self.work = None;
                }
            }
        }
        match self.lines.recv().await {
            Some(line) => Some(line),
            None => self.failure.take().map(|error| json!({"error": error})),
        }
    }
}
