//! `POST /api/pull`, `POST /api/push`

use axum::body::Bytes;
use axum::extract::State;
use axum::response::Response;
use futures_util::FutureExt;
use serde_json::{Value, json};
use tokio::sync::mpsc;

use crate::app::Shared;
use crate::error::{ApiError, Result};
use crate::http::{self, Body};
use crate::name::ModelName;
use crate::registry::Progress;

use super::fields;

/// Fetches a model from its registry.
///
/// # Errors
/// 400 for a name that is none; what happens later is a line.
pub async fn pull(State(app): State<Shared>, bytes: Bytes) -> Result<Response> {
    let mut body = Body::parse("PullRequest", &bytes)?;
    let model = fields::model(&mut body).map_err(|_| ApiError::bad_request("invalid model name"))?;
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
        return Ok(http::json(&last));
    }
    let work = work.boxed();
    let state = (Some(work), lines);
    Ok(http::ndjson(http::unfold(state, |(mut work, mut lines)| async move {
        loop {
            let Some(running) = work.as_mut() else {
                // Lines that were told before the work ended.
                let line = lines.recv().await?;
                return Some((line, (work, lines)));
            };
            tokio::select! {
                biased;
                line = lines.recv() => {
                    let line = line?;
                    return Some((line, (work, lines)));
                }
                ended = running => {
                    work = None;
                    if let Err(error) = ended {
                        lines.close();
                        return Some((json!({"error": error}), (work, lines)));
                    }
                }
            }
        }
    })))
}
