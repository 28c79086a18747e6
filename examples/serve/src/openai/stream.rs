//! Answers as server-sent events.

use axum::response::Response;
use futures_util::stream::{self, StreamExt};

use crate::answer::{Answer, Step};
use crate::wire::{self, ApiError, Event, Result, STOPPED};

/// How an API writes an answer.
pub trait Writer: Send + 'static {
    /// What comes before the answer.
    fn begin(&mut self) -> Vec<Event> {
        Vec::new()
    }

    /// What one step of the answer is; the last one is `Done` or `Failed`.
    fn step(&mut self, step: Step) -> Vec<Event>;
}

/// Sends an answer as it comes. The first step is waited for, so that an early error has
/// its status.
///
/// # Errors
/// Those of the answer, if nothing was sent yet.
pub async fn send(mut answer: Answer, mut writer: impl Writer) -> Result<Response> {
    let first = match answer.next().await {
        Some(Step::Failed(error)) => return Err(error),
        Some(step) => step,
        None => return Err(ApiError::internal(STOPPED)),
    };
    let mut start = writer.begin();
    start.extend(writer.step(first));
    let rest = wire::unfold((answer, writer), |(mut answer, mut writer)| async move {
        let step = answer.next().await?;
        Some((writer.step(step), (answer, writer)))
    });
    let events = stream::iter([start]).chain(rest).flat_map(stream::iter);
    Ok(wire::sse(events))
}
