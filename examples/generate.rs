//! Continues a text. Without arguments: a story by the built-in model.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tramontane::{FinishReason, GenerateOptions, SessionOptions};

/// Continues a text with a GGUF model on the CPU.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example generate
  cargo run --release --example generate -- 'The cat and the moon' --temperature 0.8
  cargo run --release --example generate -- -m mistral-7b-v0.3.Q4_K_M.gguf -n 100 'In Provence,'
  cargo run --release --example generate -- --file notes.txt -m model.gguf --ctx 8192")]
struct Args {
    /// The text to continue
    #[arg(default_value = "Once upon a time")]
    prompt: String,
    /// Read the text from a file instead ("-": stdin)
    #[arg(short, long, value_name = "FILE", conflicts_with = "prompt")]
    file: Option<PathBuf>,
    #[command(flatten)]
    model: common::ModelArgs,
    /// Tokens to generate at most. Default: until the model ends or the context is full
    #[arg(short = 'n', long, value_name = "N")]
    num_predict: Option<usize>,
    /// Context length. Default: 4096, or what the model was trained for if less
    #[arg(short, long, value_name = "POSITIONS")]
    ctx: Option<usize>,
    /// 0 gives the same text every time; 0.8 is lively
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Repeats a lively text exactly
    #[arg(long)]
    seed: Option<u64>,
    /// End before this text (may be given several times)
    #[arg(long, value_name = "TEXT")]
    stop: Vec<String>,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let model = args.model.open()?;
    let prompt = match &args.file {
        Some(path) if path.as_os_str() == "-" => common::read_text(None)?,
        Some(path) => common::read_text(Some(path))?,
        None => args.prompt,
    };
    let options = GenerateOptions::default()
        .with_sampler(
            model.sampler_options().clone().with_temperature(args.temperature).with_seed(args.seed),
        )
        .with_num_predict(args.num_predict)
        .with_stop(args.stop);
    let session_options = SessionOptions::default().with_num_ctx(args.ctx);
    let mut session = model.session(&session_options)?;
    let mut out = std::io::stdout().lock();
    let mut generation = session.generate(&prompt, &options)?;
    write!(out, "{prompt}")?;
    for piece in generation.by_ref() {
        write!(out, "{}", piece?.text)?;
        out.flush()?;
    }
    writeln!(out)?;
    let summary = generation.summary();
    if summary.finish_reason == Some(FinishReason::ContextFull) {
        eprintln!("[the context is full; --ctx gives more]");
    }
    eprintln!("{}", common::figures(&model, &summary.timings));
    Ok(())
}
