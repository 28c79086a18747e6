//! The measurement: repetitions of a row, the machine's limits between them.

use std::time::Instant;

use indicatif::ProgressBar;
use tramontane::internal::{feed_together, machine};
use tramontane::{KvType, Model, Session, SessionOptions};

use super::common::Result;
use super::cost::Cost;

/// Tokens per forward pass of a prompt.
const NUM_BATCH: usize = 512;

/// What one row measures.
#[derive(Clone, Copy)]
pub struct Test {
    /// A prompt, else one token after the other.
    pub prompt: bool,
    pub tokens: usize,
    /// Sequences together.
    pub batch: usize,
}

/// One row of the result.
pub struct Row {
    pub test: String,
    pub batch: usize,
    pub depth: usize,
    pub threads: usize,
    /// The median of the repetitions, and largest − smallest.
    pub tok_s: f64,
    pub tok_s_spread: f64,
    pub gb_s: f64,
    pub bandwidth_pct: f64,
    pub gmac_s: f64,
    pub peak_pct: f64,
}

/// A model at a depth.
pub struct Bench<'a> {
    pub model: &'a Model,
    pub kv_type: KvType,
    pub window: Option<usize>,
    pub depth: usize,
    pub repetitions: usize,
}

/// Random tokens of the vocabulary, the same in every run (xorshift).
struct Tokens {
    state: u64,
    n_vocab: usize,
}

impl Tokens {
    fn new(model: &Model) -> Self {
        Tokens { state: 0x9e37_79b9_7f4a_7c15, n_vocab: model.n_vocab() }
    }

    fn take(&mut self, n: usize) -> Vec<u32> {
        let mut next = || {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            ((self.state >> 32) as usize % self.n_vocab) as u32
        };
        (0..n).map(|_| next()).collect()
    }
}

/// Computes a prompt of random tokens: the first token could be sampled now.
pub fn first_token(model: &Model, tokens: usize) -> Result {
    let tokens = Tokens::new(model).take(tokens);
    let mut session = model.session(&SessionOptions::default())?;
    std::hint::black_box(session.feed(&tokens)?);
    Ok(())
}

impl Bench<'_> {
    /// Measures every test; the depth is computed once and forked.
    pub fn run(&self, tests: &[Test], bar: &ProgressBar) -> Result<Vec<Row>> {
        let longest = tests.iter().map(|test| test.tokens).max().unwrap_or(0);
        let num_ctx = self.depth + longest + 1;
        if num_ctx > self.model.context_length() {
            let trained = self.model.context_length();
            return Err(format!(
                "{num_ctx} positions are needed, but the model was trained for {trained}; \
                 lower -d, -p or -n"
            )
            .into());
        }
        let options = SessionOptions::default()
            .with_num_ctx(num_ctx)
            .with_num_batch(NUM_BATCH)
            .with_kv_type(self.kv_type);
        let mut tokens = Tokens::new(self.model);
        let mut base = self.model.session(&options)?;
        if self.depth > 0 {
            bar.set_message(format!("computing {} positions", self.depth));
            base.feed(&tokens.take(self.depth))?;
        }
        tests.iter().map(|test| self.row(test, &base, &mut tokens, bar)).collect()
    }

    fn row(
        &self,
        test: &Test,
        base: &Session,
        tokens: &mut Tokens,
        bar: &ProgressBar,
    ) -> Result<Row> {
        let (mut seconds, mut bytes) = (Vec::new(), 0);
        let (mut bandwidths, mut peaks) = (Vec::new(), Vec::new());
        let cost = Cost::new(self.model, self.window);
        let kind = if test.prompt { "pp" } else { "tg" };
        let name = format!("{kind}{}", test.tokens);
        bar.set_message(name.clone());
        for _ in 0..self.repetitions {
            self.limits(&mut bandwidths, &mut peaks)?;
            let (time, read) = match test.prompt {
                true => self.prompt(test, base, tokens, &cost)?,
                false => self.generation(test, base, tokens, &cost)?,
            };
            seconds.push(time);
            bytes = read;
            bar.inc(1);
        }
        self.limits(&mut bandwidths, &mut peaks)?;
        let rows = if test.prompt { 1 } else { test.tokens };
        let mac = cost.multiplications(self.depth, test.tokens, rows) * test.batch as u64;
        let computed = (test.tokens * test.batch) as f64;
        let rates: Vec<f64> = seconds.iter().map(|seconds| computed / seconds).collect();
        let spread = rates.iter().copied().fold(f64::MIN, f64::max)
            - rates.iter().copied().fold(f64::MAX, f64::min);
        let time = median(&mut seconds);
        let (read_s, mac_s) = (bytes as f64 / time, mac as f64 / time);
        Ok(Row {
            test: name,
            batch: test.batch,
            depth: self.depth,
            threads: self.model.threads(),
            tok_s: computed / time,
            tok_s_spread: spread,
            gb_s: read_s / 1e9,
            bandwidth_pct: 100.0 * read_s / median(&mut bandwidths),
            gmac_s: mac_s / 1e9,
            peak_pct: 100.0 * mac_s / median(&mut peaks),
        })
    }

    /// Seconds of one prompt, and the bytes that it read.
    fn prompt(
        &self,
        test: &Test,
        base: &Session,
        tokens: &mut Tokens,
        cost: &Cost,
    ) -> Result<(f64, u64)> {
        let mut session = base.fork();
        let prompt = tokens.take(test.tokens);
        let start = Instant::now();
        std::hint::black_box(session.feed(&prompt)?);
        let seconds = start.elapsed().as_secs_f64();
        let passes = test.tokens.div_ceil(NUM_BATCH) as u64;
        Ok((seconds, passes * (cost.weight_bytes + session.cache_bytes() as u64)))
    }

    /// Seconds of `test.tokens` steps, and the bytes that they read.
    fn generation(
        &self,
        test: &Test,
        base: &Session,
        tokens: &mut Tokens,
        cost: &Cost,
    ) -> Result<(f64, u64)> {
        let mut sessions: Vec<Session> = (0..test.batch).map(|_| base.fork()).collect();
        // The first step has new buffers and is not measured.
        step(&mut sessions, tokens)?;
        let start = Instant::now();
        for _ in 0..test.tokens {
            step(&mut sessions, tokens)?;
        }
        let seconds = start.elapsed().as_secs_f64();
        // The past is shared and counts once; of what is new, half on average.
        let shared = base.cache_bytes();
        let own = sessions[0].cache_bytes().saturating_sub(shared) / 2 * test.batch;
        Ok((seconds, test.tokens as u64 * (cost.weight_bytes + (shared + own) as u64)))
    }

    /// Bytes and multiply-adds per second of this machine now.
    fn limits(&self, bandwidths: &mut Vec<f64>, peaks: &mut Vec<f64>) -> Result {
        let (threads, isa) = (self.model.threads(), self.model.isa());
        let mut weights: Vec<&[u8]> =
            self.model.file().tensors().iter().map(|tensor| tensor.bytes()).collect();
        // A small model lies in the caches, which are no limit of memory.
        let buffer;
        if weights.iter().map(|bytes| bytes.len()).sum::<usize>() < 256 << 20 {
            buffer = machine::buffer(256 << 20)?;
            weights = vec![&buffer];
        }
        bandwidths.push(machine::read_bandwidth(&weights, threads, isa)?);
        peaks.push(machine::multiply_peak(threads, isa)?);
        Ok(())
    }
}

/// One token for every session.
fn step(sessions: &mut [Session], tokens: &mut Tokens) -> Result {
    let next = tokens.take(sessions.len());
    let mut feeds: Vec<(&mut Session, &[u32])> = sessions.iter_mut().zip(next.chunks(1)).collect();
    std::hint::black_box(feed_together(&mut feeds)?);
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
