//! Answers as server-sent events.

use axum::response::Response;
use futures_util::stream::{self, StreamExt};

use crate::answer::{Answer, Coming, News, Step};
use crate::app::Shared;
use crate::wire::{self, Event, Result};

/// How an API writes an answer.
pub trait Writer: Send + 'static {
    /// What comes before the answer to a prompt of so many tokens.
    fn begin(&mut self, _prompt_tokens: usize) -> Vec<Event> {
        Vec::new()
    }

    /// What one step of the answer is; the last one is `Done` or `Failed`.
    fn step(&mut self, step: Step) -> Vec<Event>;
}

/// Sends an answer as it comes; the headers do not wait for it.
///
/// # Errors
/// Those of the answer that come at once.
pub async fn send(
    app: &Shared,
    answer: impl Future<Output = Result<Answer>> + Send + 'static,
    writer: impl Writer,
) -> Result<Response> {
    let coming = Coming::of(app, answer).await?;
    let events = wire::unfold((coming, writer), |(mut coming, mut writer)| async move {
        let events = match coming.next().await? {
            News::Begun(prompt_tokens) => writer.begin(prompt_tokens),
            News::Step(step) => writer.step(step),
            News::Quiet(progress) => vec![Event::comment(match progress {
                Some(prompt) if prompt.computed < prompt.total => {
                    format!("{} of {} tokens of the prompt", prompt.computed, prompt.total)
                }
                Some(_) => "working".into(),
                None => "waiting for the model".into(),
            })],
        };
        Some((events, (coming, writer)))
    });
    Ok(wire::sse(events.flat_map(stream::iter)))
}
