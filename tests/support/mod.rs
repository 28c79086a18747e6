//! What the engine's tests share: data files, distances, instruction sets.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

pub mod exact;
mod files;
pub mod templates;

use std::io::Write;
use std::sync::Once;

pub use files::data;

use tramontane::Isa;
use tramontane::{KvType, Model, ModelOptions, SessionOptions};

/// Little-endian f32.
pub fn floats(name: &str) -> Vec<f32> {
    let bytes = std::fs::read(data(name)).expect(name);
    bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

pub fn json(name: &str) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(data(name)).expect(name)).expect(name)
}

/// A JSON array of token ids.
pub fn ids(value: &serde_json::Value) -> Vec<u32> {
    value.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

/// The instruction sets of this machine, said aloud. `TRAMONTANE_ISA` names one
/// that must be among them: a test told to run a set it cannot run fails.
pub fn instruction_sets() -> Vec<Isa> {
    Isa::from_env().expect("TRAMONTANE_ISA names a set that this CPU lacks");
    let sets = Isa::available();
    let names = sets.iter().map(|set| set.name()).collect::<Vec<_>>().join(", ");
    static SAID: Once = Once::new();
    // Not `println!`: the harness would hide it when tests pass.
    SAID.call_once(|| _ = writeln!(std::io::stderr(), "instruction sets exercised: {names}"));
    sets
}

/// How a text is computed. None of it may matter.
#[derive(Debug, Clone, Copy)]
pub struct Way {
    pub isa: Isa,
    pub threads: usize,
    pub chunk: usize,
    pub window: Option<usize>,
}

impl Way {
    pub fn whole() -> Way {
        Way { isa: Isa::detect(), threads: 2, chunk: usize::MAX, window: None }
    }

    pub fn model(&self, name: &str) -> Model {
        Model::open_with(data(name), &self.options()).expect(name)
    }

    pub fn options(&self) -> ModelOptions {
        ModelOptions::default()
            .with_threads(self.threads)
            .with_isa(self.isa)
            .with_sliding_window(self.window)
    }

    /// Logits of every position, `[ids, n_vocab]`, with f32 keys and values.
    pub fn logits(&self, model: &Model, ids: &[u32]) -> Vec<f32> {
        let options = SessionOptions::default().with_num_ctx(ids.len()).with_kv_type(KvType::F32);
        let mut session = model.session(&options).unwrap();
        let chunks = ids.chunks(self.chunk.min(ids.len()));
        chunks.flat_map(|chunk| session.evaluate(chunk).unwrap().to_vec()).collect()
    }
}

/// Every combination of instruction set, 1 and 2 threads, and chunk length.
pub fn ways(chunks: &[usize], window: Option<usize>) -> Vec<Way> {
    let mut all = Vec::new();
    for isa in instruction_sets() {
        for threads in [1, 2] {
            all.extend(chunks.iter().map(|&chunk| Way { isa, threads, chunk, window }));
        }
    }
    all
}

/// The bits, so that `==` means the same bits.
pub fn bits(x: &[f32]) -> Vec<u32> {
    x.iter().map(|x| x.to_bits()).collect()
}

/// How far logits are from the exact ones.
#[derive(Debug)]
pub struct Distance {
    pub max: f64,
    pub rms: f64,
    /// Mean KL(exact ‖ ours) over positions.
    pub kl: f64,
}

pub fn distance(exact: &[f32], ours: &[f32], n_vocab: usize) -> Distance {
    assert_eq!(exact.len(), ours.len());
    let (mut max, mut squares, mut kl) = (0f64, 0f64, 0f64);
    for (exact, ours) in exact.chunks(n_vocab).zip(ours.chunks(n_vocab)) {
        let (p, q) = (log_softmax(exact), log_softmax(ours));
        kl += p.iter().zip(&q).map(|(p, q)| p.exp() * (p - q)).sum::<f64>();
        for (a, b) in exact.iter().zip(ours) {
            let d = f64::from(*a) - f64::from(*b);
            max = max.max(d.abs());
            squares += d * d;
        }
    }
    let (n, positions) = (exact.len() as f64, (exact.len() / n_vocab) as f64);
    Distance { max, rms: (squares / n).sqrt(), kl: kl / positions }
}

pub fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from(x - max).exp()).sum();
    logits.iter().map(|x| f64::from(x - max) - sum.ln()).collect()
}

/// The most likely token.
pub fn argmax(logits: &[f32]) -> u32 {
    let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
    best.unwrap().0 as u32
}
