//! Keeps the engine busy: a window of lines is handed in, whatever ends is written and
//! makes room for the next.

use std::collections::BTreeMap;
use std::future::Future;
use std::io::BufRead;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::mpsc::{Sender, channel};
use std::task::{Context, Poll, Wake, Waker};

use serde_json::{Map, Value, json};
use tramontane::{Embedding, Engine, Error, FinishReason, Pending, Reply, Summary};

use super::common::Result;
use super::ledger::{self, Ledger};
use super::lines::{Line, Lines};
use super::question::{Options, Question};

/// How to go through the input.
pub struct Plan {
    pub defaults: Options,
    /// Lines that are handed in or wait to be written, at most.
    pub window: usize,
    /// Answers in the order of the lines.
    pub ordered: bool,
    /// Line `n` draws from seed `seed + n`, if it names no seed.
    pub seed: u64,
}

/// How far it is.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Bytes of input that were read.
    pub bytes: u64,
    /// Lines answered, errors among them.
    pub answered: u64,
    pub errors: u64,
    /// Lines that an earlier run had answered.
    pub skipped: u64,
    pub generated_tokens: u64,
}

/// A line that the engine works on.
struct Running {
    answer: Map<String, Value>,
    work: Work,
    waker: Waker,
}

/// What the engine computes for a line.
pub enum Work {
    Text { reply: Reply, response: String },
    Vector(Pending<Embedding>),
}

/// What became of it.
enum Outcome {
    Text(String, Summary),
    Vector(Embedding),
}

/// Tells the pump which line has news.
struct Ring {
    index: u64,
    rung: Sender<u64>,
}

impl Wake for Ring {
    fn wake(self: Arc<Self>) {
        // When nobody listens the work is over.
        let _ = self.rung.send(self.index);
    }
}

/// Answers every line of `input` that `ledger` does not have; `show` is told after each
/// step.
pub fn run(
    engine: &Engine,
    plan: &Plan,
    input: impl BufRead,
    ledger: &mut Ledger,
    mut show: impl FnMut(&Progress),
) -> Result<Progress> {
    let (rung, news) = channel();
    let mut lines = Lines::new(input);
    let mut running = BTreeMap::<u64, Running>::new();
    let mut finished = BTreeMap::<u64, String>::new();
    let mut progress = Progress::default();
    let mut rest = true;
    loop {
        while rest && running.len() + finished.len() < plan.window.max(1) {
            let Some(line) = lines.next()? else {
                rest = false;
                break;
            };
            progress.bytes = lines.bytes;
            if ledger.has(line.index, line.hash) {
                progress.skipped += 1;
                show(&progress);
                continue;
            }
            let index = line.index;
            match begin(engine, plan, line, &rung)? {
                Ok(work) => {
                    running.insert(index, work);
                    // The first look asks to be woken.
                    rung.send(index)?;
                }
                Err(answer) => {
                    progress.errors += 1;
                    finished.insert(index, answer);
                }
            }
        }
        // All before the first that runs, or simply all.
        let first = running.keys().next().filter(|_| plan.ordered).copied();
        while let Some(entry) = finished.first_entry() {
            if first.is_some_and(|first| first < *entry.key()) {
                break;
            }
            ledger.write(&entry.remove())?;
            progress.answered += 1;
        }
        show(&progress);
        if running.is_empty() {
            if !rest {
                return Ok(progress);
            }
            continue;
        }
        let index = news.recv()?;
        let Some(work) = running.get_mut(&index) else { continue };
        if let Some(outcome) = work.advance(&mut progress)
            && let Some(work) = running.remove(&index)
        {
            finished.insert(index, work.end(outcome, &mut progress)?);
        }
    }
}

/// Hands a line in. `Ok(Err(answer))`: the line is at fault.
fn begin(
    engine: &Engine,
    plan: &Plan,
    line: Line,
    rung: &Sender<u64>,
) -> Result<std::result::Result<Running, String>> {
    let Line { index, text, hash } = line;
    let mut answer = ledger::answer(index, hash);
    let work = match text {
        None => Err("the line is too long".into()),
        Some(text) => match serde_json::from_slice(&text) {
            Ok(Value::Object(fields)) => {
                if let Some(id) = fields.get("id") {
                    answer.insert("id".into(), id.clone());
                }
                let question = Question::new(&fields, &plan.defaults);
                let ask = |question: Question| question.ask(engine, plan.seed.wrapping_add(index));
                match question.map(ask) {
                    Ok(Err(error @ (Error::Closed | Error::QueueFull { .. }))) => {
                        return Err(error.into());
                    }
                    Ok(work) => work.map_err(|error| error.to_string()),
                    Err(error) => Err(error),
                }
            }
            Ok(_) => Err("the line is no JSON object".into()),
            Err(error) => Err(format!("the line is no JSON object: {error}")),
        },
    };
    Ok(match work {
        Ok(work) => {
            let waker = Waker::from(Arc::new(Ring { index, rung: rung.clone() }));
            Ok(Running { answer, work, waker })
        }
        Err(error) => {
            answer.insert("error".into(), json!(error));
            Err(Value::Object(answer).to_string())
        }
    })
}

impl Running {
    /// Takes what has come; the outcome if that is all.
    fn advance(&mut self, progress: &mut Progress) -> Option<tramontane::Result<Outcome>> {
        let context = &mut Context::from_waker(&self.waker);
        let (reply, response) = match &mut self.work {
            Work::Text { reply, response } => (reply, response),
            Work::Vector(pending) => {
                return match Pin::new(pending).poll(context) {
                    Poll::Ready(vector) => Some(vector.map(Outcome::Vector)),
                    Poll::Pending => None,
                };
            }
        };
        loop {
            match reply.poll_next(context) {
                Poll::Ready(Some(Ok(piece))) => {
                    *response += &piece.text;
                    progress.generated_tokens += 1;
                }
                Poll::Ready(Some(Err(error))) => return Some(Err(error)),
                Poll::Ready(None) => {
                    return Some(Ok(Outcome::Text(std::mem::take(response), reply.summary())));
                }
                Poll::Pending => return None,
            }
        }
    }

    /// The line to be written.
    fn end(self, outcome: tramontane::Result<Outcome>, progress: &mut Progress) -> Result<String> {
        let Running { mut answer, .. } = self;
        let mut insert = |name: &str, value: Value| answer.insert(name.into(), value);
        match outcome {
            // That is no answer: the line is done again the next time.
            Err(error @ Error::Closed) => return Err(error.into()),
            Err(error) => {
                progress.errors += 1;
                insert("error", json!(error.to_string()));
            }
            Ok(Outcome::Text(response, summary)) => {
                insert("response", json!(response));
                insert("done_reason", json!(done_reason(&summary)));
                let timings = &summary.timings;
                let prompt = timings.prompt_tokens + timings.reused_tokens;
                insert("prompt_tokens", json!(prompt));
                insert("reused_tokens", json!(timings.reused_tokens));
                insert("generated_tokens", json!(timings.generated_tokens));
            }
            Ok(Outcome::Vector(embedding)) => {
                insert("embedding", embedding.vector.iter().map(shortest).collect());
                insert("prompt_tokens", json!(embedding.tokens));
                insert("reused_tokens", json!(0));
                insert("generated_tokens", json!(0));
            }
        }
        Ok(Value::Object(answer).to_string())
    }
}

/// As Ollama says it.
fn done_reason(summary: &Summary) -> &'static str {
    match summary.finish_reason {
        Some(FinishReason::Length | FinishReason::ContextFull) => "length",
        Some(FinishReason::Cancelled) => "cancelled",
        _ => "stop",
    }
}

/// With as few digits as tell this f32 from others: half of what its f64 has.
fn shortest(x: &f32) -> Value {
    x.to_string().parse().map_or(Value::Null, |x: f64| json!(x))
}
