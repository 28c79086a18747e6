//! Writes a random-weight model of a real model's exact shape: speed and memory can be
//! measured where the real weights cannot be had.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod blocks;
#[path = "../common/mod.rs"]
mod common;
mod shape;
mod vocabulary;

use std::fs::File;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tramontane::Gguf;
use tramontane::gguf::{Metadata, TensorSpec, Value, Writer};
use tramontane::quant::Format;

use blocks::Random;
use shape::{MIXES, Mix, SHAPES, Shape};

/// Bytes made at a time.
const CHUNK: usize = 4 << 20;

/// Writes a random-weight GGUF of a real model's exact shape.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example synthesize -- --shape mistral-7b --type q4_k_m --out 7b.gguf
  cargo run --release --example synthesize -- --shape llama-1b --type q8_0 --out 1b.gguf --layers 4
  cargo run --release --example generate -- -m 7b.gguf -n 20 hello")]
struct Args {
    /// mistral-7b, llama-1b or tiny
    #[arg(long)]
    shape: String,
    /// q4_k_m q5_k_m q6_k q8_0 q4_0 q2_k f16 bf16 f32
    #[arg(long = "type", default_value = "q4_k_m", value_name = "TYPE")]
    kind: String,
    /// Where to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Layers, if not the shape's own number
    #[arg(long, value_name = "N")]
    layers: Option<usize>,
    /// The same seed gives the same file
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Take the vocabulary of this GGUF file
    #[arg(long, value_name = "FILE")]
    vocab: Option<PathBuf>,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let start = Instant::now();
    let mut shape = SHAPES
        .into_iter()
        .find(|shape| shape.name == args.shape)
        .ok_or("--shape: mistral-7b, llama-1b and tiny are possible")?;
    let kinds = MIXES.map(|mix| mix.name).join(", ");
    let mix = MIXES
        .into_iter()
        .find(|mix| mix.name == args.kind.to_lowercase())
        .ok_or_else(|| format!("--type: {kinds} are possible"))?;
    shape.layers = args.layers.unwrap_or(shape.layers);
    if !(1..=1024).contains(&shape.layers) {
        return Err("--layers must be between 1 and 1024".into());
    }
    let metadata = metadata(&shape, &mix, &args)?;
    let tensors = shape::tensors(&shape, &mix);
    let io = |error| format!("{}: {error}", args.out.display());
    let mut writer = Writer::new(File::create(&args.out).map_err(io)?, &metadata, &tensors)?;
    let total: u64 = tensors.iter().map(|t| t.byte_len().unwrap_or(0) as u64).sum();
    let bar = ProgressBar::new(total);
    bar.set_style(ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes}, eta {eta}")?);
    let mut random = Random(args.seed);
    for tensor in &tensors {
        write(&mut writer, tensor, &mut random, &bar)?;
    }
    writer.finish()?;
    bar.finish_and_clear();
    let seconds = start.elapsed().as_secs_f64();
    println!("{} tensors, {total} bytes in {seconds:.1} s → {}", tensors.len(), args.out.display());
    Ok(())
}

fn write(
    writer: &mut Writer<File>,
    tensor: &TensorSpec,
    random: &mut Random,
    bar: &ProgressBar,
) -> common::Result {
    if tensor.dims.len() == 1 {
        // Norms and rotary factors: ones.
        for _ in 0..tensor.dims[0] {
            writer.write(&1f32.to_le_bytes())?;
        }
        return Ok(());
    }
    let format: Format = tensor.format;
    // A row of inputs of size 1 then gives an output of size 1.
    let sigma = 1.0 / (tensor.dims[0] as f32).sqrt();
    let mut left = tensor.byte_len()?;
    let mut chunk = vec![0; CHUNK / format.block_bytes() * format.block_bytes()];
    while left > 0 {
        let part = left.min(chunk.len());
        blocks::fill(format, sigma, random, &mut chunk[..part]);
        writer.write(&chunk[..part])?;
        left -= part;
        bar.inc(part as u64);
    }
    Ok(())
}

fn metadata(shape: &Shape, mix: &Mix, args: &Args) -> common::Result<Metadata> {
    let mut all = Metadata::new();
    let text = |text: &str| Value::String(text.into());
    let count = |n: usize| Value::U32(n as u32);
    all.push("general.architecture", text("llama"))?;
    all.push("general.name", text(&format!("random {}", shape.name)))?;
    all.push("general.file_type", Value::U32(mix.file_type))?;
    all.push("llama.block_count", count(shape.layers))?;
    all.push("llama.context_length", Value::U32(shape.context))?;
    all.push("llama.embedding_length", count(shape.dim))?;
    all.push("llama.feed_forward_length", count(shape.ffn))?;
    all.push("llama.attention.head_count", count(shape.heads))?;
    all.push("llama.attention.head_count_kv", count(shape.kv_heads))?;
    all.push("llama.attention.key_length", count(shape.head_dim))?;
    all.push("llama.attention.value_length", count(shape.head_dim))?;
    all.push("llama.attention.layer_norm_rms_epsilon", Value::F32(1e-5))?;
    all.push("llama.rope.freq_base", Value::F32(shape.rope_base))?;
    all.push("llama.rope.dimension_count", count(shape.head_dim))?;
    all.push("llama.vocab_size", count(shape.n_vocab))?;
    match &args.vocab {
        Some(path) => vocabulary::copy(Gguf::open(path)?.metadata(), &mut all)?,
        None => vocabulary::generate(shape.n_vocab, &mut all)?,
    }
    Ok(all)
}
