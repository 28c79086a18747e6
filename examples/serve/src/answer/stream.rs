//! A running answer: from the engine's pieces to the steps that clients are told.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tramontane::tokenizer::DecodeStream;
use tramontane::{FinishReason, Piece, PromptProgress, Reply, Summary, Tokenizer};

use crate::app::Shared;
use crate::metrics::{Stopwatch, Tokens};
use crate::record::Record;
use crate::schedule::Lease;
use crate::wire::ApiError;

use super::output::Output;
use super::request::{Asked, Prompt};
use super::step::{Done, DoneReason, Logprob, Step, TopLogprob};

/// Between two lines of the log about one prompt.
const REPORTS: Duration = Duration::from_secs(10);

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
    /// When the log is told again how far the prompt is.
    next_report: tokio::time::Instant,
    /// Turns true when the server ends and cannot wait.
    cut_off: watch::Receiver<bool>,
    prompt_tokens: usize,
    /// Prompt and then answer: for the native API's `context`.
    tokens: Vec<u32>,
    /// What the conversation had lost before it became tokens.
    dropped_messages: usize,
    /// What was done so that the template takes the conversation.
    folds: Vec<&'static str>,
    logprobs: bool,
    /// The text of the tokens so far, to tell where each begins.
    written: Written,
    /// Tells thoughts, text and calls apart.
    output: Output,
    /// Steps that are known and were not told yet.
    steps: VecDeque<Step>,
    ended: bool,
}

/// How the pieces of an answer are read.
pub(super) struct Reading {
    /// Whether control tokens are shown as their text.
    pub special: bool,
    /// Tells thoughts, text and calls apart.
    pub output: Output,
}

/// Counts the characters of an answer's text, token by token.
struct Written {
    decoder: DecodeStream,
    characters: usize,
}

impl Answer {
    pub(super) fn new(
        app: &Shared,
        asked: &Asked,
        lease: Lease,
        reply: Reply,
        prompt: Prompt,
        reading: Reading,
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
            next_report: tokio::time::Instant::now() + REPORTS,
            cut_off: app.scheduler.cut_off(),
            prompt_tokens: prompt.tokens.len(),
            tokens: prompt.tokens,
            dropped_messages: prompt.dropped_messages,
            folds: prompt.folds,
            logprobs: asked.logprobs,
            written: Written::new(prompt.own_text, reading.special),
            output: reading.output,
            steps: VecDeque::new(),
            ended: false,
        }
    }

    /// Tokens of the prompt.
    pub fn prompt_tokens(&self) -> usize {
        self.prompt_tokens
    }

    /// How much of the prompt is computed.
    pub fn progress(&self) -> PromptProgress {
        self.reply.progress()
    }

    /// What happens next; nothing after the end. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Step> {
        loop {
            if self.ended || !self.steps.is_empty() {
                return self.steps.pop_front();
            }
            let deadline = self.deadline;
            let late = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline.into()).await,
                    None => std::future::pending().await,
                }
            };
            let cut_off = &mut self.cut_off;
            let cut = async { drop(cut_off.wait_for(|cut| *cut).await) };
            let report = self.next_report;
            let next = tokio::select! {
                biased;
                item = self.reply.next() => Ok(item),
                () = tokio::time::sleep_until(report) => {
                    self.report();
                    continue;
                }
                () = late => Err(too_long()),
                () = cut => Err(ending()),
            };
            let item = match next {
                Ok(item) => item,
                Err(error) => {
                    self.fail(error);
                    continue;
                }
            };
            match item {
                Some(Ok(piece)) => self.piece(piece),
                Some(Err(error)) => {
                    self.lease.note(&error);
                    self.fail(error.into());
                }
                None => self.done(self.reply.summary()),
            }
        }
    }

    /// A token came; often its text is not certain yet.
    fn piece(&mut self, piece: Piece) {
        self.stopwatch.token();
        self.record.made_one();
        self.tokens.push(piece.token);
        let logprobs = match &piece.logprob {
            Some(own) if self.logprobs => vec![self.logprob(own, &piece.top_logprobs)],
            _ => Vec::new(),
        };
        self.steps.extend(self.output.push(piece.text, logprobs));
    }

    /// Tells the log how far a long prompt is.
    fn report(&mut self) {
        let PromptProgress { computed, total, .. } = self.reply.progress();
        self.next_report = tokio::time::Instant::now() + REPORTS;
        if computed < total {
            let seconds = self.arrived.elapsed().as_secs();
            tracing::info!(model = self.model, computed, total, seconds, "computing the prompt");
        }
    }

    fn done(&mut self, summary: Summary) {
        let reason = match summary.finish_reason {
            Some(FinishReason::EndOfText) => DoneReason::Stop,
            Some(FinishReason::StopString) => DoneReason::StopString,
            Some(FinishReason::Cancelled) | None => {
                return self.fail(ending());
            }
            Some(_) => DoneReason::Length,
        };
        self.ended = true;
        self.steps.extend(self.output.finish(reason == DoneReason::Length));
        let timings = summary.timings;
        // Clients divide by these.
        let lasting = |time: Duration| time.max(Duration::from_nanos(1));
        let done = Done {
            reason,
            prompt_tokens: timings.prompt_tokens + timings.reused_tokens,
            reused_tokens: timings.reused_tokens,
            generated_tokens: timings.generated_tokens,
            thinking_tokens: self.output.thinking_tokens(),
            loose_functions: self.output.loose_functions(),
            dead_end: summary.finish_reason == Some(FinishReason::Constraint),
            total: lasting(self.arrived.elapsed()),
            load: lasting(self.lease.load_duration()),
            prompt: lasting(timings.prompt),
            generation: lasting(timings.generation),
            dropped_tokens: summary.dropped_tokens,
            dropped_messages: self.dropped_messages,
            folds: std::mem::take(&mut self.folds),
            context: std::mem::take(&mut self.tokens),
        };
        self.app.metrics.done(Tokens {
            computed: timings.prompt_tokens,
            reused: timings.reused_tokens,
            generated: timings.generated_tokens,
            dropped: summary.dropped_tokens,
        });
        self.steps.push_back(Step::Done(Box::new(done)));
    }

    /// Nothing that the model said before is lost.
    fn fail(&mut self, error: ApiError) {
        self.ended = true;
        self.reply.cancel();
        self.steps.extend(self.output.finish(true));
        self.steps.push_back(Step::Failed(error));
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

impl Answer {
    /// A token and those that could have been chosen in its place.
    fn logprob(&mut self, own: &tramontane::Logprob, top: &[tramontane::Logprob]) -> Logprob {
        let tokenizer = self.lease.model().tokenizer();
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
            offset: self.written.next(tokenizer, own.token),
        }
    }
}

impl Written {
    /// With the text of control tokens if `special`.
    fn new(own_text: bool, special: bool) -> Self {
        let decoder = if own_text { DecodeStream::new() } else { DecodeStream::continuing() };
        let decoder = if special { decoder.with_special() } else { decoder };
        Written { decoder, characters: 0 }
    }

    /// Where the next token begins. A space that is stripped from the answer counts
    /// nothing, and a part of a character begins where that does.
    fn next(&mut self, tokenizer: &Tokenizer, token: u32) -> usize {
        let begins = self.characters;
        self.characters += self.decoder.push(tokenizer, token).chars().count();
        begins
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Generate, generate};
    use super::*;

    #[test]
    fn tokens_are_found_in_the_text_where_they_say() {
        let model = crate::builtin::model(&Default::default()).unwrap();
        let tokenizer = model.tokenizer();
        let text = "Once upon a 🦊, née day.";
        let tokens = tokenizer.encode(text, tramontane::EncodeOptions::default().with_bos(false));
        for own_text in [true, false] {
            let mut written = Written::new(own_text, false);
            // In the middle of a text the leading space is text.
            let text = if own_text { text.to_owned() } else { format!(" {text}") };
            let mut ends = Vec::new();
            for &token in &tokens {
                let begins = written.next(tokenizer, token);
                let rest: String = text.chars().skip(begins).collect();
                let piece = String::from_utf8(tokenizer.token_bytes(token)).unwrap_or_default();
                let piece = if begins == 0 && own_text { piece.trim_start() } else { &piece };
                assert!(rest.starts_with(piece), "{piece:?} at {begins} of {text:?}");
                ends.push(begins);
            }
            assert!(ends.is_sorted() && written.characters == text.chars().count());
        }
    }

    /// A log in memory.
    #[derive(Clone, Default)]
    struct Memory(Arc<std::sync::Mutex<Vec<u8>>>);

    impl std::io::Write for Memory {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    #[tokio::test]
    async fn the_log_tells_how_far_a_prompt_is() {
        let folder = tempfile::tempdir().unwrap();
        let args = crate::config::ServeArgs {
            models: Some(folder.path().join("models")),
            num_threads: Some("1".into()),
            ..Default::default()
        };
        let app = crate::app::App::start(crate::config::Config::new(&args).unwrap()).await.unwrap();
        let app = Arc::new(app);
        let log = Memory::default();
        let writer = log.clone();
        let filter = tracing_subscriber::EnvFilter::new("info");
        let format = crate::config::LogFormat::Text;
        let subscriber = crate::log::subscriber(filter, format, false, move || writer.clone());
        let _guard = tracing::subscriber::set_default(subscriber);
        // The engine may be done with a prompt before this thread looks.
        for round in 0..50 {
            let prompt = format!("{round} {}", "once upon a time ".repeat(50));
            let mut answer = generate(app.clone(), Generate::of(Asked::of("storyteller"), prompt))
                .await
                .unwrap();
            answer.next_report = tokio::time::Instant::now();
            answer.next().await;
            let text = String::from_utf8(log.0.lock().unwrap().clone()).unwrap();
            if text.contains("computing the prompt") {
                let (_, total) = text.split_once("total=").unwrap();
                assert!(total.starts_with(&answer.prompt_tokens.to_string()), "{text}");
                return;
            }
        }
        panic!("nothing in the log");
    }
}
