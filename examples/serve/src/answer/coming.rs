//! An answer for a client that streams: it has the headers after a moment, whatever the
//! answer still waits for. Loading a model or computing a prompt may take minutes, and
//! clients give up where nothing comes for one.

use std::pin::Pin;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};
use tramontane::PromptProgress;

use crate::app::Shared;
use crate::record::Record;
use crate::wire::{ApiError, Result, STOPPED};

use super::step::Step;
use super::stream::Answer;

/// So long an error may come with a status of its own; then the headers are sent.
const MOMENT: Duration = Duration::from_secs(1);

type Work = Pin<Box<dyn Future<Output = Result<Answer>> + Send>>;

/// An answer that is on its way.
pub struct Coming {
    phase: Phase,
    /// What a client hears while there is nothing else: every so often.
    heartbeat: Option<Duration>,
}

enum Phase {
    /// Not asked for yet: the model loads, or others are before it.
    Preparing(Work),
    /// There is an answer, of which nothing was told yet; maybe with its first step.
    Ready(Box<Answer>, Option<Step>),
    /// That it began was told; maybe there is a step to be told next.
    Running(Box<Answer>, Option<Step>),
    Ended,
}

/// What a client is told next.
#[derive(Debug, Clone)]
pub enum News {
    /// The model has the prompt, of so many tokens.
    Begun(usize),
    /// What the answer brings.
    Step(Step),
    /// Nothing but that it is being worked on; how far the prompt is, if that is known.
    Quiet(Option<PromptProgress>),
}

impl Coming {
    /// Begins with `work`, and waits a moment for its first step.
    ///
    /// # Errors
    /// Those of `work` that come within the moment; later ones are steps.
    pub async fn of(
        app: &Shared,
        work: impl Future<Output = Result<Answer>> + Send + 'static,
    ) -> Result<Self> {
        let heartbeat = app.config.limits.heartbeat;
        // The handler's scope ends with the headers.
        let mut work: Work = Box::pin(Record::current().scope(work));
        let late = Instant::now() + MOMENT;
        let mut answer = match timeout_at(late, &mut work).await {
            Ok(answer) => Box::new(answer?),
            Err(_) => return Ok(Coming { phase: Phase::Preparing(work), heartbeat }),
        };
        let phase = match timeout_at(late, answer.next()).await {
            Ok(Some(Step::Failed(error))) => return Err(error),
            Ok(None) => return Err(ApiError::internal(STOPPED)),
            Ok(first) => Phase::Ready(answer, first),
            Err(_) => Phase::Ready(answer, None),
        };
        Ok(Coming { phase, heartbeat })
    }

    /// What happens next; nothing after the end.
    pub async fn next(&mut self) -> Option<News> {
        match std::mem::replace(&mut self.phase, Phase::Ended) {
            Phase::Preparing(mut work) => match before(self.heartbeat, &mut work).await {
                None => {
                    self.phase = Phase::Preparing(work);
                    Some(News::Quiet(None))
                }
                Some(Ok(answer)) => Some(self.begun(Box::new(answer), None)),
                Some(Err(error)) => Some(News::Step(Step::Failed(error))),
            },
            Phase::Ready(answer, first) => Some(self.begun(answer, first)),
            Phase::Running(mut answer, first) => {
                let step = match first {
                    None => before(self.heartbeat, answer.next()).await,
                    first => Some(first),
                };
                let progress = answer.progress();
                self.phase = Phase::Running(answer, None);
                match step {
                    None => Some(News::Quiet(Some(progress))),
                    Some(step) => step.map(News::Step),
                }
            }
            Phase::Ended => None,
        }
    }

    fn begun(&mut self, answer: Box<Answer>, first: Option<Step>) -> News {
        let tokens = answer.prompt_tokens();
        self.phase = Phase::Running(answer, first);
        News::Begun(tokens)
    }
}

/// What `work` gives, if that is before the next sign of life is due.
async fn before<T>(heartbeat: Option<Duration>, work: impl Future<Output = T>) -> Option<T> {
    match heartbeat {
        Some(time) => timeout_at(Instant::now() + time, work).await.ok(),
        None => Some(work.await),
    }
}
