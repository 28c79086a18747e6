//! Writes a GGUF of random weights in the exact shape of a published model: for
//! measuring speed and memory without its weights. What it says is noise.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

#[path = "common/mod.rs"]
mod common;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tramontane::Gguf;
use tramontane::internal::synthesize::{Mix, Shape, Synthesis};

/// Writes a random-weight GGUF file in the shape of a real model.
#[derive(Parser)]
#[command(
    after_help = "Shapes: tiny, llama-1b, llama-8b, mistral-7b, mistral-nemo, qwen3-30b-a3b, phi-4-mini, gemma-3-4b,
        gemma-4-e2b, gemma-4-26b-a4b, gpt-oss-20b, qwen3.5-4b, lfm2-1.2b, all-minilm, bge-m3
Types:  f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k_m q4_k_s q4_k_m q5_k_s q5_k_m q6_k iq4_nl iq4_xs mxfp4_moe

Examples:
  cargo run --release --example synthesize -- --shape mistral-7b --out mistral-7b.gguf
  cargo run --release --example synthesize -- --shape mistral-7b --type q8_0 --layers 4 --out short.gguf
  cargo run --release --example synthesize -- --shape llama-1b --vocab llama-vocab.gguf --out 1b.gguf"
)]
struct Args {
    /// Whose shape
    #[arg(long, value_parser = Shape::find)]
    shape: Shape,
    /// How weights are stored: a mix of llama.cpp's quantizer
    #[arg(long = "type", default_value = "q4_k_m", value_parser = Mix::find)]
    mix: Mix,
    /// Where to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Fewer (or more) layers than the real model
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    layers: Option<u16>,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take the vocabulary from this GGUF; without it one is made up
    #[arg(long, value_name = "FILE")]
    vocab: Option<PathBuf>,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let Args { mut shape, mix, out, layers, seed, vocab } = args;
    shape.layers = layers.map_or(shape.layers, usize::from);
    let open = |path: PathBuf| Gguf::open(&path).map_err(common::in_file(&path));
    let vocab = vocab.map(open).transpose()?;
    let specs = shape.tensors(&mix);
    let parameters: u64 = specs.iter().map(|tensor| tensor.dims.iter().product::<u64>()).sum();
    let file = Synthesis { shape, mix, seed };
    let bytes = file.bytes()?;

    let start = Instant::now();
    let bar = progress_bar(bytes)?;
    file.create(&out, vocab.as_ref(), |n| bar.inc(n))?;
    bar.finish_and_clear();
    println!(
        "{}: {} tensors, {parameters} parameters, {bytes} bytes of weights in {:.1} s",
        out.display(),
        specs.len(),
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}

/// On stderr, and only if that is a terminal.
fn progress_bar(bytes: u64) -> common::Result<ProgressBar> {
    let style = "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left";
    Ok(ProgressBar::new(bytes).with_style(ProgressStyle::with_template(style)?))
}
