//! Measures prompt and generation speed beside what the machine can do.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

#[path = "../common/mod.rs"]
mod common;
mod cost;
mod measure;
mod report;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tramontane::Isa;
use tramontane::{KvType, Model, ModelOptions};

/// Measures a model: pp = tokens of a prompt, tg = tokens generated one by one.
#[derive(Parser)]
#[command(after_help = "Lists are separated by commas; every combination is measured.

Examples:
  cargo run --release --example bench -- -m model.gguf
  cargo run --release --example bench -- -m model.gguf -p 512 -n 64 -d 0,8192 -b 1,4 -t 1,2 -r 3
  cargo run --release --example bench -- -m model.gguf -p 0 -n 32 --json
  TRAMONTANE_ISA=avx2 cargo run --release --example bench -- -m model.gguf

Figures: tok/s is the median of the repetitions, ± half of largest − smallest. GB/s counts
weights and keys and values read, GMAC/s the multiplications of the shape; the per cents are of
read bandwidth and int8 multiply peak, measured between the repetitions.")]
struct Args {
    /// A GGUF file. Default: the built-in storyteller
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Prompt lengths; 0 for none
    #[arg(short, long, value_name = "TOKENS", value_delimiter = ',', default_value = "512")]
    prompt: Vec<usize>,
    /// Tokens to generate; 0 for none
    #[arg(short = 'n', long, value_name = "TOKENS", value_delimiter = ',', default_value = "64")]
    generate: Vec<usize>,
    /// Positions already computed before the measurement
    #[arg(short, long, value_name = "POSITIONS", value_delimiter = ',', default_value = "0")]
    depth: Vec<usize>,
    /// Sequences that generate together; at a depth they share their past
    #[arg(short, long, value_name = "N", value_delimiter = ',', default_value = "1",
          value_parser = positive)]
    batch: Vec<usize>,
    /// Threads. Default: the physical cores that this process may use
    #[arg(short, long, value_name = "N", value_delimiter = ',', value_parser = positive)]
    threads: Vec<usize>,
    /// Repetitions of each row
    #[arg(short, long, value_name = "N", default_value = "3", value_parser = positive)]
    repetitions: usize,
    /// How keys and values are stored: i16 (or f16), q8_0 or f32
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv: KvType,
    /// Sliding window for files that name none (Mistral 7B v0.1: 4096)
    #[arg(short, long, value_name = "POSITIONS")]
    window: Option<usize>,
    /// The instruction set: portable, avx2, avxvnni, avx512, amx. Default: the CPU's best
    #[arg(long, value_name = "NAME")]
    isa: Option<String>,
    /// One JSON array instead of the table
    #[arg(long)]
    json: bool,
    /// Only opens the model, computes a prompt of as many tokens, says how long it took
    #[arg(long, value_name = "TOKENS", conflicts_with = "json", value_parser = positive)]
    first_token: Option<usize>,
}

/// A number of at least 1.
fn positive(text: &str) -> std::result::Result<usize, String> {
    match text.parse() {
        Ok(0) | Err(_) => Err("a number of at least 1 is expected".into()),
        Ok(n) => Ok(n),
    }
}

impl Args {
    fn open(&self, threads: Option<usize>) -> common::Result<Model> {
        let isa = self.isa.as_deref().map(Isa::named).transpose()?;
        let options = ModelOptions::default()
            .with_threads(threads)
            .with_isa(isa)
            .with_sliding_window(self.window);
        let model = match &self.model {
            Some(path) => Model::open_with(path, &options).map_err(common::in_file(path))?,
            None => common::builtin(&options)?,
        };
        common::warn(model.warnings());
        Ok(model)
    }

    fn thread_counts(&self) -> Vec<Option<usize>> {
        match &*self.threads {
            [] => vec![None],
            counts => counts.iter().copied().map(Some).collect(),
        }
    }

    /// The tests at each depth: prompts, then every generation with every batch.
    fn tests(&self) -> Vec<measure::Test> {
        let test = |prompt, tokens, batch| measure::Test { prompt, tokens, batch };
        let prompts = self.prompt.iter().map(|&n| test(true, n, 1));
        let generations =
            self.generate.iter().flat_map(|&n| self.batch.iter().map(move |&b| test(false, n, b)));
        prompts.chain(generations).filter(|test| test.tokens > 0).collect()
    }
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let counts = args.thread_counts();
    if let Some(tokens) = args.first_token {
        let start = std::time::Instant::now();
        let model = args.open(counts[0])?;
        measure::first_token(&model, tokens)?;
        println!("{:.4}", start.elapsed().as_secs_f64());
        return Ok(());
    }
    let tests = args.tests();
    if tests.is_empty() {
        return Err("nothing to measure: give -p or -n a number above 0".into());
    }
    let steps = counts.len() * args.depth.len() * tests.len() * args.repetitions;
    let style = "{wide_bar} {pos}/{len} {msg}";
    let bar = ProgressBar::new(steps as u64).with_style(ProgressStyle::with_template(style)?);
    let mut rows = Vec::new();
    let mut isa = None;
    for threads in counts {
        let model = args.open(threads)?;
        isa = Some(model.isa());
        for &depth in &args.depth {
            let bench = measure::Bench {
                model: &model,
                kv_type: args.kv,
                window: args.window,
                depth,
                repetitions: args.repetitions,
            };
            rows.extend(bench.run(&tests, &bar)?);
        }
    }
    bar.finish_and_clear();
    if args.json {
        println!("{}", report::json(&rows));
    } else {
        report::table(&rows, isa.map_or("", Isa::name));
    }
    Ok(())
}
