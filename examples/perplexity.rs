//! How well a model predicts a text: perplexity, by llama.cpp's method.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tramontane::{EncodeOptions, KvType, SessionOptions};

/// Measures perplexity as llama.cpp's `llama-perplexity` does: the text in chunks of
/// the context length, BOS in front of each, the second half of every chunk counts.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example perplexity -- --file tests/data/corpora/tinystories-val.txt -c 128 --chunks 40
  cargo run --release --example perplexity -- -m model.gguf --file wiki.test.raw -c 512")]
struct Args {
    #[command(flatten)]
    model: common::ModelArgs,
    /// The text
    #[arg(short, long, value_name = "FILE")]
    file: PathBuf,
    /// Tokens per chunk
    #[arg(short, long, default_value_t = 512, value_name = "TOKENS")]
    ctx: usize,
    /// Chunks at most. Default: the whole text
    #[arg(long, value_name = "N")]
    chunks: Option<usize>,
    /// How keys and values are stored
    #[arg(long, default_value = "f16")]
    kv: KvType,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let model = args.model.open()?;
    let text = common::read_text(Some(&args.file))?;
    let mut tokens = model.tokenizer().encode(&text, EncodeOptions::default());
    if args.ctx < 4 || tokens.len() < args.ctx {
        let (ctx, found) = (args.ctx, tokens.len());
        return Err(format!(
            "chunks of {ctx} tokens from a text of {found}: give -c from 4 up, and a longer text"
        )
        .into());
    }
    let chunks = (tokens.len() / args.ctx).min(args.chunks.unwrap_or(usize::MAX));
    let options = SessionOptions::default().with_num_ctx(args.ctx).with_kv_type(args.kv);
    let mut session = model.session(&options)?;
    let bar = ProgressBar::new(chunks as u64);
    bar.set_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} chunks, ppl {msg}, eta {eta}",
    )?);
    let start = Instant::now();
    let mut total = Sums::default();
    for chunk in tokens.chunks_exact_mut(args.ctx).take(chunks) {
        if let (true, Some(bos)) = (model.tokenizer().adds_bos(), model.tokenizer().bos()) {
            chunk[0] = bos;
        }
        session.clear();
        let mut logits = Vec::new();
        for part in chunk.chunks(512) {
            logits.extend_from_slice(session.evaluate(part)?);
        }
        let rows = logits.chunks_exact(model.n_vocab());
        for (row, &next) in rows.zip(&chunk[1..]).skip(args.ctx / 2) {
            total.add(negative_log_likelihood(row, next));
        }
        bar.inc(1);
        bar.set_message(format!("{:.4}", total.perplexity().0));
    }
    bar.finish_and_clear();
    let (perplexity, error) = total.perplexity();
    if !perplexity.is_finite() {
        return Err(
            "the perplexity is not finite: the model finds a token of the text impossible; \
                    its file is probably damaged"
                .into(),
        );
    }
    println!(
        "perplexity = {perplexity:.4} ± {error:.5} ({} tokens, {chunks} chunks of {})",
        total.count, args.ctx
    );
    let rate = (chunks * args.ctx) as f64 / start.elapsed().as_secs_f64();
    eprintln!("[{rate:.1} tok/s · {} threads, {}]", model.threads(), model.isa());
    Ok(())
}

/// Sums of negative log likelihoods.
#[derive(Default)]
struct Sums {
    count: usize,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn add(&mut self, nll: f64) {
        self.count += 1;
        self.sum += nll;
        self.squares += nll * nll;
    }

    /// `e^mean`, and its standard error.
    fn perplexity(&self) -> (f64, f64) {
        let n = self.count as f64;
        let mean = self.sum / n;
        let variance = (self.squares / n - mean * mean) / (n - 1.0);
        (mean.exp(), mean.exp() * variance.max(0.0).sqrt())
    }
}

/// `−ln softmax(logits)[token]`
fn negative_log_likelihood(logits: &[f32], token: u32) -> f64 {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - max).exp()).sum();
    sum.ln() - f64::from(logits[token as usize] - max)
}
