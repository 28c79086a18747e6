//! The engine: what rides along, what is found and what is guessed never shows.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod budget;
mod cancelling;
mod company;
mod load;
mod mixes;
mod prefixes;
mod replies;
mod speculation;
#[path = "../support/mod.rs"]
mod support;

use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::{Duration, Instant};

use support::Way;
use tramontane::engine::{Engine, EngineStats, MemoryEstimate, Pending, Reply, Request};
use tramontane::{
    EncodeOptions, EngineOptions, FinishReason, GenerateOptions, KvType, Model, Piece,
    SamplerOptions, SessionOptions,
};

/// Tests that look at the clock or at the memory of the process run alone.
static MACHINE: RwLock<()> = RwLock::new(());

fn shared() -> RwLockReadGuard<'static, ()> {
    MACHINE.read().unwrap_or_else(PoisonError::into_inner)
}

fn exclusive() -> RwLockWriteGuard<'static, ()> {
    MACHINE.write().unwrap_or_else(PoisonError::into_inner)
}

/// One thread per model: many tests and their engines share the machine, and threads
/// of one pool that wait for each other would take it from the others.
fn way() -> Way {
    Way { threads: 1, ..Way::whole() }
}

/// Trained, full attention, 260 thousand weights.
fn stories() -> Model {
    way().model("models/stories260K.gguf")
}

/// Trained, a sliding window of 128.
fn storyteller() -> Model {
    way().model("../../models/storyteller-q4_k_m.gguf")
}

/// Random weights.
fn tiny(kind: &str, window: Option<usize>) -> Model {
    Way { window, ..way() }.model(&format!("tiny-mistral/tiny-{kind}.gguf"))
}

/// Tokens of real text.
fn text(model: &Model, tokens: usize) -> Vec<u32> {
    let story = std::fs::read(support::data("corpora/tinystories-val.txt")).unwrap();
    let story = String::from_utf8_lossy(&story[..(tokens * 8).min(story.len())]).into_owned();
    let mut all = model.tokenizer().encode(&story, EncodeOptions::default());
    assert!(all.len() >= tokens, "{} tokens", all.len());
    all.truncate(tokens);
    all
}

fn greedy(num_predict: usize) -> GenerateOptions {
    GenerateOptions::default()
        .with_sampler(SamplerOptions::greedy())
        .with_num_predict(num_predict)
        .with_ignore_eos(true)
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq)]
enum End {
    /// With so many tokens dropped.
    Done(FinishReason, usize),
    Failed(String),
    /// Before it began.
    Refused(String),
}

/// All of an answer that must not depend on the company it was computed in.
#[derive(Debug, Clone, PartialEq)]
struct Answer {
    pieces: Vec<Piece>,
    end: End,
}

impl Answer {
    fn tokens(&self) -> Vec<u32> {
        self.pieces.iter().map(|piece| piece.token).collect()
    }
}

/// What a session alone answers; `num_ctx`: if the request does not say.
fn alone(model: &Model, request: &Request, kv_type: KvType, num_ctx: usize) -> Answer {
    let num_ctx = Some(request.num_ctx.unwrap_or(num_ctx));
    let options = SessionOptions::default().with_num_ctx(num_ctx).with_kv_type(kv_type);
    let mut session = model.session(&options).unwrap();
    let mut pieces = Vec::new();
    let mut generation = match session.generate_from(&request.prompt, &request.options) {
        Ok(generation) => generation,
        Err(error) => return Answer { pieces, end: End::Refused(error.to_string()) },
    };
    let mut failed = None;
    for piece in generation.by_ref() {
        match piece {
            Ok(piece) => pieces.push(piece),
            Err(error) => failed = Some(error.to_string()),
        }
    }
    let summary = generation.summary();
    let end = match failed {
        Some(error) => End::Failed(error),
        None => End::Done(summary.finish_reason.unwrap(), summary.dropped_tokens),
    };
    Answer { pieces, end }
}

/// The next piece, or the end: an error, or else a reason.
fn next(reply: &mut Reply) -> Result<Piece, End> {
    match reply.blocking_iter().next() {
        Some(Ok(piece)) => Ok(piece),
        Some(Err(error)) => Err(End::Failed(error.to_string())),
        None => {
            let summary = reply.summary();
            Err(End::Done(summary.finish_reason.expect("a reason"), summary.dropped_tokens))
        }
    }
}

/// Reads to the end, which is one and the last.
fn read(reply: &mut Reply) -> Answer {
    let mut pieces = Vec::new();
    let end = loop {
        match next(reply) {
            Ok(piece) => pieces.push(piece),
            Err(end) => break end,
        }
    };
    assert!(reply.blocking_iter().next().is_none(), "the end is the last");
    Answer { pieces, end }
}

/// The next piece; panics at the end.
fn piece(reply: &mut Reply) -> Piece {
    next(reply).expect("a piece")
}

/// The result of a request without a text.
fn result<T>(pending: tramontane::Result<Pending<T>>) -> tramontane::Result<T> {
    pending.unwrap().wait()
}

/// Drops what is kept, and sees that nothing is left.
fn is_empty_after_forgetting(engine: &Engine) {
    result(engine.forget_prefixes()).unwrap();
    let EngineStats { running, waiting, kv_bytes, kv_reserved, prefixes, prefix_tokens, .. } =
        engine.stats();
    let left = [running, waiting, kv_bytes, kv_reserved, prefixes, prefix_tokens];
    assert_eq!(left, [0; 6], "running, waiting, bytes, granted, prefixes and their tokens");
}

/// Bytes that one conversation of `positions` needs.
fn cost(model: &Model, positions: usize, options: &EngineOptions) -> usize {
    let options = options.clone().with_num_ctx(positions);
    MemoryEstimate::of(model, &options).unwrap().kv_per_conversation
}

/// Waits for `done`, no longer than `patience`; how long it took.
fn wait_for(patience: Duration, what: &str, mut done: impl FnMut() -> bool) -> Duration {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < patience, "{what} took over {patience:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    start.elapsed()
}

/// Chance that a seed repeats (SplitMix64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let x = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        x ^ (x >> 31)
    }

    fn below(&mut self, count: usize) -> usize {
        (self.roll() % count as u64) as usize
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.below(count) == 0
    }

    fn pick<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }
}
