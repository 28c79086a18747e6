//! Writes a GGUF of random weights in the exact shape of a published model: for
//! measuring speed and memory without its weights. What it says is noise.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

#[path = "../common/mod.rs"]
mod common;
mod mix;
mod shape;
mod tensors;
mod vocabulary;
mod weights;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tramontane::Gguf;
use tramontane::gguf::{TensorSpec, Writer};

use mix::Mix;
use shape::Shape;

/// Writes a random-weight GGUF file in the shape of a real model.
#[derive(Parser)]
#[command(after_help = "Shapes: tiny, llama-1b, llama-8b, mistral-7b, mistral-nemo
Types:  f32 f16 bf16 q4_0 q4_1 q5_0 q5_1 q8_0 q2_k q3_k_m q4_k_s q4_k_m q5_k_s q5_k_m q6_k iq4_nl iq4_xs

Examples:
  cargo run --release --example synthesize -- --shape mistral-7b --out mistral-7b.gguf
  cargo run --release --example synthesize -- --shape mistral-7b --type q8_0 --layers 4 --out short.gguf
  cargo run --release --example synthesize -- --shape llama-1b --vocab llama-vocab.gguf --out 1b.gguf")]
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
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
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
    let mut shape = args.shape;
    shape.layers = args.layers.unwrap_or(shape.layers);
    let mut metadata = shape.metadata(&args.mix)?;
    match &args.vocab {
        Some(path) => vocabulary::copy(&Gguf::open(path)?, shape.vocab, &mut metadata)?,
        None => vocabulary::generate(shape.vocab, &mut metadata)?,
    }
    let specs = shape.tensors(&args.mix);
    let sizes = specs.iter().map(TensorSpec::byte_len).collect::<Result<Vec<_>, _>>()?;
    let bytes = sizes.iter().sum::<usize>() as u64;
    let parameters: u64 = specs.iter().map(|tensor| tensor.dims.iter().product::<u64>()).sum();

    let start = Instant::now();
    let bar = ProgressBar::new(bytes).with_style(ProgressStyle::with_template(
        "{wide_bar} {bytes}/{total_bytes} {bytes_per_sec}, {eta} left",
    )?);
    let part = args.out.with_added_extension("part");
    let io = |error| format!("{}: {error}", part.display());
    let mut writer = Writer::new(File::create(&part).map_err(io)?, &metadata, &specs)?;
    for tensor in &specs {
        tensors::write(&mut writer, &shape, args.seed, tensor, |n| bar.inc(n as u64))?;
    }
    writer.finish()?;
    std::fs::rename(&part, &args.out).map_err(io)?;
    bar.finish_and_clear();
    println!(
        "{}: {} tensors, {parameters} parameters, {bytes} bytes of weights in {:.1} s",
        args.out.display(),
        specs.len(),
        start.elapsed().as_secs_f64(),
    );
    Ok(())
}
