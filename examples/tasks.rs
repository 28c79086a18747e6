//! Two stories at once, read in a task: the engine needs no thread per reply.
//!
//! Any executor will do. `pollster` is the smallest; with tokio the only difference is
//! `#[tokio::main]` above `async fn main`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use tramontane::{Engine, EngineOptions, GenerateOptions};

/// Continues two texts at the same time, in one task.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example tasks
  cargo run --release --example tasks -- -m model.gguf 'In Provence,' 'In Brittany,'")]
struct Args {
    /// The text that is shown as it grows
    #[arg(default_value = "Once upon a time")]
    first: String,
    /// The text that is shown when it is whole
    #[arg(default_value = "One day")]
    second: String,
    #[command(flatten)]
    model: common::ModelArgs,
    /// Tokens per text at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 60)]
    num_predict: usize,
}

fn main() -> ExitCode {
    common::main(|args| pollster::block_on(run(args)))
}

async fn run(args: Args) -> common::Result {
    let engine = Engine::new(&args.model.open()?, &EngineOptions::default())?;
    let options = GenerateOptions::greedy().with_num_predict(args.num_predict);
    let mut first = engine.generate(&args.first, &options)?;
    let second = engine.generate(&args.second, &options)?;
    let mut out = std::io::stdout().lock();
    write!(out, "{}", args.first)?;
    while let Some(piece) = first.next().await {
        write!(out, "{}", piece?.text)?;
        out.flush()?;
    }
    // The other was computed in the same passes.
    let second = second.await?;
    writeln!(out, "\n\n{}{}", args.second, second.text)?;
    eprintln!("[{:?} and {:?}]", first.summary().finish_reason, second.summary.finish_reason);
    Ok(())
}
