//! The events of an answer, and its figures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tramontane::{FinishReason, Piece, Reply, Summary};

use crate::app::Shared;
use crate::metrics::{Stopwatch, Tokens};
use crate::record::Record;
use crate::schedule::Lease;
use crate::wire::{ApiError, STOPPED};

use super::request::{Asked, Prompt};

/// A running answer. Dropping it cancels the work.
pub struct Answer {
    /// The model's name, as the client wrote it.
    pub model: String,
    app: Shared,
    reply: Reply,
    lease: Lease,
    stopwatch: Stopwatch,
    arrived: Instant,
    /// Of the request, for its line in the log.
    record: Arc<Record>,
    deadline: Option<Instant>,
    /// Turns true when the server ends and cannot wait.
    cut_off: watch::Receiver<bool>,
    /// Prompt and then answer: for the native API's `context`.
    tokens: Vec<u32>,
    /// What the conversation had lost before it became tokens.
    dropped_messages: usize,
    logprobs: bool,
    ended: bool,
}

/// What happens next.
#[derive(Debug, Clone)]
pub enum Step {
    /// Text, maybe empty; with log probabilities if they were asked for.
    Text(String, Vec<Logprob>),
    /// It ended well.
    Done(Box<Done>),
    /// It ended with an error.
    Failed(ApiError),
}

/// A token's natural log probability.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct Logprob {
    /// The token's text.
    pub token: String,
    /// Its natural log probability.
    pub logprob: f64,
    /// The bytes of its text.
    pub bytes: Vec<u8>,
    /// The most likely tokens at this place.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub top_logprobs: Vec<TopLogprob>,
}

/// A token that could have been chosen.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
pub struct TopLogprob {
    /// The token's text.
    pub token: String,
    /// Its natural log probability.
    pub logprob: f64,
    /// The bytes of its text.
    pub bytes: Vec<u8>,
}

/// Why it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DoneReason {
    /// End of text.
    Stop,
    /// A stop string.
    StopString,
    /// A limit of tokens, or the context.
    Length,
}

impl DoneReason {
    /// Ollama's word.
    pub fn as_str(self) -> &'static str {
        match self {
            DoneReason::Stop | DoneReason::StopString => "stop",
            DoneReason::Length => "length",
        }
    }
}

/// The figures of an answer.
#[derive(Debug, Clone)]
pub struct Done {
    /// Why it ended.
    pub reason: DoneReason,
    /// Tokens of the prompt, found ones included.
    pub prompt_tokens: usize,
    /// How many of them had been computed before.
    pub reused_tokens: usize,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// From the request's arrival to the end.
    pub total: Duration,
    /// Until the model was ready.
    pub load: Duration,
    /// For the prompt.
    pub prompt: Duration,
    /// For the answer.
    pub generation: Duration,
    /// Tokens that were dropped because the context was full.
    pub dropped_tokens: usize,
    /// Messages that were left out because they did not fit.
    pub dropped_messages: usize,
    /// Prompt and answer as tokens.
    pub context: Vec<u32>,
}

impl Answer {
    pub(super) fn new(
        app: &Shared,
        asked: &Asked,
        lease: Lease,
        reply: Reply,
        prompt: Prompt,
        arrived: Instant,
    ) -> Self {
        let record = Record::current();
        record.read(prompt.tokens.len());
        Answer {
            model: asked.model.clone(),
            record,
            app: app.clone(),
            reply,
            lease,
            stopwatch: app.metrics.answer(arrived),
            arrived,
            deadline: app.config.limits.time.map(|time| arrived + time),
            cut_off: app.scheduler.cut_off(),
            tokens: prompt.tokens,
            dropped_messages: prompt.dropped_messages,
            logprobs: asked.logprobs,
            ended: false,
        }
    }

    /// Tokens of the prompt, before anything was generated.
    pub fn prompt_tokens(&self) -> usize {
        self.tokens.len()
    }

    /// What happens next; nothing after the end.
    pub async fn next(&mut self) -> Option<Step> {
        while !self.ended {
            let deadline = self.deadline;
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let cut_off = &mut self.cut_off;
            let cut = async { drop(cut_off.wait_for(|cut| *cut).await) };
            let next = tokio::select! {
                biased;
                item = self.reply.next() => Ok(item),
                () = late => Err(too_long()),
                () = cut => Err(ending()),
            };
            let item = match next {
                Ok(item) => item,
                Err(error) => return Some(self.fail(error)),
            };
            match item {
                Some(Ok(piece)) => {
                    if let Some(step) = self.piece(piece) {
                        return Some(step);
                    }
                }
                Some(Err(error)) => {
                    self.lease.note(&error);
                    return Some(self.fail(error.into()));
                }
                None => return Some(self.done(self.reply.summary())),
            }
        }
        None
    }

    /// The whole text, for those who do not stream.
    ///
    /// # Errors
    /// That of the last step.
    pub async fn whole(mut self) -> Result<(String, Vec<Logprob>, Done), ApiError> {
        let (mut text, mut logprobs) = (String::new(), Vec::new());
        loop {
            match self.next().await {
                Some(Step::Text(more, some)) => {
                    text += &more;
                    logprobs.extend(some);
                }
                Some(Step::Done(done)) => return Ok((text, logprobs, *done)),
                Some(Step::Failed(error)) => return Err(error),
                None => return Err(ApiError::internal(STOPPED)),
            }
        }
    }

    /// A token came; often its text is not certain yet.
    fn piece(&mut self, piece: Piece) -> Option<Step> {
        self.stopwatch.token();
        self.record.made_one();
        self.tokens.push(piece.token);
        let logprobs = match &piece.logprob {
            Some(own) if self.logprobs => vec![logprob(own, &piece.top_logprobs)],
            _ => Vec::new(),
        };
        (!piece.text.is_empty() || !logprobs.is_empty()).then_some(Step::Text(piece.text, logprobs))
    }

    fn done(&mut self, summary: Summary) -> Step {
        let reason = match summary.finish_reason {
            Some(FinishReason::EndOfText) => DoneReason::Stop,
            Some(FinishReason::StopString) => DoneReason::StopString,
            Some(FinishReason::Cancelled) | None => {
                return self.fail(ending());
            }
            Some(_) => DoneReason::Length,
        };
        self.ended = true;
        let timings = summary.timings;
        // Clients divide by these.
        let lasting = |time: Duration| time.max(Duration::from_nanos(1));
        let done = Done {
            reason,
            prompt_tokens: timings.prompt_tokens + timings.reused_tokens,
            reused_tokens: timings.reused_tokens,
            generated_tokens: timings.generated_tokens,
            total: lasting(self.arrived.elapsed()),
            load: lasting(self.lease.load_duration()),
            prompt: lasting(timings.prompt),
            generation: lasting(timings.generation),
            dropped_tokens: summary.dropped_tokens,
            dropped_messages: self.dropped_messages,
            context: std::mem::take(&mut self.tokens),
        };
        self.app.metrics.done(Tokens {
            computed: timings.prompt_tokens,
            reused: timings.reused_tokens,
            generated: timings.generated_tokens,
            dropped: summary.dropped_tokens,
        });
        Step::Done(Box::new(done))
    }

    fn fail(&mut self, error: ApiError) -> Step {
        self.ended = true;
        self.reply.cancel();
        Step::Failed(error)
    }
}

fn ending() -> ApiError {
    ApiError::busy("server is shutting down")
}

fn too_long() -> ApiError {
    ApiError::new(
        axum::http::StatusCode::GATEWAY_TIMEOUT,
        "the request took longer than this server allows (--max-time)",
    )
}

/// A token and those that could have been chosen in its place.
fn logprob(own: &tramontane::Logprob, top: &[tramontane::Logprob]) -> Logprob {
    let top = top.iter().map(|top| TopLogprob {
        token: top.text().into_owned(),
        logprob: top.logprob.into(),
        bytes: top.bytes.clone(),
    });
    Logprob {
        token: own.text().into_owned(),
        logprob: own.logprob.into(),
        bytes: own.bytes.clone(),
        top_logprobs: top.collect(),
    }
}
