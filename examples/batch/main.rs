//! Answers a file of questions, many at a time: JSON lines in, JSON lines out.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

#[path = "../common/mod.rs"]
mod common;
mod ledger;
mod lines;
mod pump;
mod question;

use std::fs::File;
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::Parser;
use indicatif::{ProgressBar, ProgressStyle};
use tramontane::engine::{Engine, EngineOptions};
use tramontane::{GenerateOptions, KvType, Model, SamplerOptions};

use ledger::Ledger;
use pump::{Plan, Progress};
use question::Options;

/// Answers many questions, several at a time. Each line of the input is a JSON object
/// with a "prompt" (a text to continue), "messages" (a chat) or "embed" (a text to make a
/// vector of); with an "id" of any kind, if you like, that its answer repeats; and with
/// Ollama's options: num_predict, num_ctx, stop, seed, temperature, top_k, top_p, min_p, …
///
/// Each answer is a line too: "index" (the line's number, from 1), "hash" (of the line),
/// "id", "response" or "embedding", "done_reason", "prompt_tokens" (of which
/// "reused_tokens" had been computed for another line), "generated_tokens". A line that
/// cannot be answered gets an "error" instead; the others go on.
///
/// With -o, a second run goes on where the first was stopped (Ctrl-C, kill, power):
/// lines whose answer is in the file are skipped, whatever the other options say.
#[derive(Parser)]
#[command(after_help = "Examples:
  echo '{\"prompt\": \"Once upon a time\"}' | cargo run --release --example batch -- -n 40
  cargo run --release --example batch -- -m model.gguf questions.jsonl -o answers.jsonl -n 256
  cargo run --release --example batch -- -m model.gguf questions.jsonl --ordered --kv-gib 4 > a.jsonl
Lines:
  {\"id\": 7, \"messages\": [{\"role\": \"user\", \"content\": \"Hello\"}], \"num_predict\": 100}
  {\"id\": \"a\", \"prompt\": \"1, 2, 3,\", \"temperature\": 0, \"stop\": [\"\\n\"]}
  {\"embed\": \"A text\"}
Memory is set aside for a line's prompt and its num_predict: more lines run together with a
limit than without.")]
struct Args {
    /// The questions ("-": stdin)
    #[arg(default_value = "-")]
    input: PathBuf,
    /// Where the answers go, and which of them are there already. Default: stdout
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Answers in the order of the lines, not as they are ready
    #[arg(long)]
    ordered: bool,
    #[command(flatten)]
    model: common::ModelArgs,
    /// Tokens per answer at most. Default: until the model ends or the context is full
    #[arg(short = 'n', long, value_name = "N")]
    num_predict: Option<usize>,
    /// Context length of a line. Default: 4096, or what the model was trained for if less
    #[arg(short, long, value_name = "POSITIONS")]
    ctx: Option<usize>,
    /// 0 gives the most likely text; 0.8 is lively
    #[arg(long, default_value_t = 0.0, allow_negative_numbers = true)]
    temperature: f32,
    /// Line n draws with this seed + n: the same answers in every run
    #[arg(long, default_value_t = 0)]
    seed: u64,
    /// Memory for keys and values. Default: four whole contexts
    #[arg(long, value_name = "GIB", value_parser = gib)]
    kv_gib: Option<usize>,
    /// How keys and values are stored
    #[arg(long, value_name = "TYPE", default_value = "f16")]
    kv: KvType,
    /// Lines worked on at the same time at most
    #[arg(long, value_name = "N", default_value_t = 32)]
    max_running: usize,
    /// Tokens per forward pass at most. Default: 512
    #[arg(long, value_name = "TOKENS")]
    num_batch: Option<usize>,
    /// Compute every prompt whole, even if another began with the same text
    #[arg(long)]
    no_reuse: bool,
    /// No speculative decoding (the answers are the same)
    #[arg(long)]
    no_speculation: bool,
}

fn gib(text: &str) -> std::result::Result<usize, String> {
    match text.parse::<f64>() {
        Ok(gib) if gib > 0.0 && gib < 1e6 => Ok((gib * (1u64 << 30) as f64) as usize),
        _ => Err("a number above 0 is expected".into()),
    }
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let (input, bytes) = open(&args.input)?;
    let mut ledger = match &args.output {
        Some(path) => Ledger::resume(path)?,
        None => Ledger::new(Box::new(std::io::stdout())),
    };
    let model = args.model.open()?;
    // What is handed in beyond what runs waits, so that the engine finds work at once.
    let window = args.max_running.clamp(1, 1 << 20) * 2;
    let engine = Engine::new(&model, &args.engine(window))?;
    let plan = Plan { defaults: args.defaults(), window, ordered: args.ordered, seed: args.seed };
    if ledger.len() > 0 {
        eprintln!("{} answers are there already", ledger.len());
    }
    let bar = bar(bytes)?;
    let start = Instant::now();
    let done = pump::run(&engine, &plan, BufReader::new(input), &mut ledger, |progress| {
        show(&bar, progress);
    });
    bar.finish_and_clear();
    eprintln!("{}", figures(&model, &engine, &done?, start.elapsed().as_secs_f64()));
    Ok(())
}

impl Args {
    fn engine(&self, window: usize) -> EngineOptions {
        EngineOptions::default()
            .with_num_ctx(self.ctx)
            .with_kv_bytes(self.kv_gib)
            .with_kv_type(self.kv)
            .with_num_batch(self.num_batch)
            .with_max_running(self.max_running)
            .with_max_queue(window)
            .with_keep_prefixes(!self.no_reuse)
            .with_speculate(!self.no_speculation)
    }

    fn defaults(&self) -> Options {
        let sampler = SamplerOptions::default().with_temperature(self.temperature);
        let (num_predict, num_ctx) = (self.num_predict, self.ctx);
        Options {
            generate: GenerateOptions::default()
                .with_sampler(sampler)
                .with_num_predict(num_predict),
            num_ctx,
        }
    }
}

/// The input, and its length if it has one.
fn open(path: &Path) -> common::Result<(Box<dyn Read>, Option<u64>)> {
    if path.as_os_str() == "-" {
        return Ok((Box::new(std::io::stdin()), None));
    }
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => {
            format!("{}: no such file; check the path", path.display())
        }
        _ => format!("{}: {error}", path.display()),
    })?;
    let data = file.metadata()?;
    let length = data.is_file().then_some(data.len());
    Ok((Box::new(file), length))
}

/// Goes by bytes: how many lines there are is not known before the end.
fn bar(bytes: Option<u64>) -> common::Result<ProgressBar> {
    Ok(match bytes {
        Some(bytes) => ProgressBar::new(bytes)
            .with_style(ProgressStyle::with_template("{bar:30} {percent} % · {msg}")?),
        None => ProgressBar::no_length()
            .with_style(ProgressStyle::with_template("{spinner} {elapsed} · {msg}")?),
    })
}

fn show(bar: &ProgressBar, progress: &Progress) {
    bar.set_position(progress.bytes);
    let Progress { answered, errors, generated_tokens, .. } = progress;
    bar.set_message(format!("{answered} answers, {errors} errors, {generated_tokens} tokens"));
}

/// What was done, and how fast.
fn figures(model: &Model, engine: &Engine, done: &Progress, seconds: f64) -> String {
    let stats = engine.stats();
    let (computed, reused) = (stats.prompt_tokens, stats.reused_tokens);
    format!(
        "[{} lines answered, {} with errors, {} skipped · prompts: {computed} tokens computed, \
         {reused} reused · generated {} tokens, {:.1} tok/s · {seconds:.1} s · {} of {} drafted tokens \
         right · {} threads, {}]",
        done.answered,
        done.errors,
        done.skipped,
        stats.generated_tokens,
        stats.generated_tokens as f64 / seconds,
        stats.accepted_tokens,
        stats.drafted_tokens,
        model.threads(),
        model.isa(),
    )
}
