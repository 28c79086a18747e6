//! Writes the logits of given tokens: the tool for comparing engines.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tramontane::{KvType, Session, SessionOptions};

/// Writes logits as little-endian f32, positions × vocabulary.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example logits -- --ids 1,441,455,263,409 --out story.f32
  cargo run --release --example logits -- -m tiny-f32.gguf --ids 1,416,48 --out w32.f32 --window 32 --chunk 1 --kv f32")]
struct Args {
    #[command(flatten)]
    model: common::ModelArgs,
    /// Token ids, separated by commas
    #[arg(long, value_delimiter = ',', required = true, value_name = "IDS")]
    ids: Vec<u32>,
    /// Where to write
    #[arg(short, long, value_name = "FILE")]
    out: PathBuf,
    /// Tokens per forward pass; the result does not depend on it
    #[arg(long, default_value_t = 128, value_name = "N")]
    chunk: usize,
    /// How keys and values are stored
    #[arg(long, default_value = "f16")]
    kv: KvType,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    if args.chunk == 0 {
        return Err("--chunk must be at least 1".into());
    }
    let model = args.model.open()?;
    let options = SessionOptions::default().with_num_ctx(args.ids.len()).with_kv_type(args.kv);
    let mut session = model.session(&options)?;
    if let Err(error) = write(&mut session, &args) {
        // Nobody should take a part for the whole.
        let _ = std::fs::remove_file(&args.out);
        return Err(error);
    }
    println!("{} positions × {} logits → {}", args.ids.len(), model.n_vocab(), args.out.display());
    Ok(())
}

fn write(session: &mut Session, args: &Args) -> common::Result {
    let io = |error| format!("{}: {error}", args.out.display());
    let mut out = BufWriter::new(File::create(&args.out).map_err(io)?);
    for chunk in args.ids.chunks(args.chunk) {
        for logit in session.evaluate(chunk)? {
            out.write_all(&logit.to_le_bytes()).map_err(io)?;
        }
    }
    out.flush().map_err(io)?;
    Ok(())
}
