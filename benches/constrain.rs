//! Constrained generation beside plain: decode speed, the first token, forced text.
//! `TRAMONTANE_BENCH_MODEL` names a file; default: as for the bench `model`.
//! `cargo bench -p tramontane-benches --bench constrain -- --streams 1,8`
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a bench talks")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench may fail")]

mod common;

use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::{Value, json};
use tramontane::engine::{Engine, EngineOptions, Reply, Request};
use tramontane::{Constraint, EncodeOptions, GenerateOptions, Model, SamplerOptions, Summary};

/// Measures constraints. Random weights write noise: within strings the model is free, and
/// names and punctuation of a schema are forced.
#[derive(Parser)]
struct Args {
    /// Streams together
    #[arg(long, value_name = "N", value_delimiter = ',', default_value = "1,8")]
    streams: Vec<usize>,
    /// Tokens generated per stream
    #[arg(long, value_name = "N", default_value_t = 64)]
    tokens: usize,
    /// Pairs of runs, plain and constrained in alternation
    #[arg(long, value_name = "N", default_value_t = 5)]
    repetitions: usize,
    /// Passed by cargo
    #[arg(long, hide = true)]
    bench: bool,
    /// Run everything once, short, to see that it works
    #[arg(long)]
    test: bool,
}

fn main() {
    let mut args = Args::parse();
    if common::quick() {
        (args.tokens, args.repetitions, args.streams) = (8, 1, vec![1, 2]);
    }
    let model = common::open();
    let (threads, vocabulary) = (model.threads(), model.n_vocab());
    println!(
        "{} · {vocabulary} tokens · {threads} threads, {}",
        model.name().unwrap_or("model"),
        model.isa()
    );
    let options = EngineOptions::default().with_num_ctx(2048).with_kv_bytes(1 << 40);
    let engine = Engine::new(&model, &options).unwrap();
    // The vocabulary's tries are built once per model, before anything is measured.
    let start = Instant::now();
    run(&engine, &request(&model, Some(&Constraint::regex("a")), 1), 1);
    println!("tries of the vocabulary, and a first answer: {:.0?}", start.elapsed());
    for &streams in &args.streams {
        decode(&engine, &model, &args, streams);
    }
    first_token(&engine, &model, &args);
    forced(&engine, &model, &args);
}

/// Objects in which strings are long, so that few tokens are forced.
fn schema(name: &str) -> Value {
    let text = json!({"type": "string", "minLength": 400});
    json!({
        "type": "object",
        "properties": {name: text, "place": text, "count": {"type": "integer", "minimum": 0}},
        "required": [name, "place", "count"],
        "additionalProperties": false,
    })
}

/// Objects in which nearly everything is forced.
fn fixed() -> Value {
    let names: Vec<String> = (0..12).map(|n| format!("measurement_number_{n}")).collect();
    let value = json!({"enum": ["not available"]});
    let properties: serde_json::Map<_, _> =
        names.iter().map(|name| (name.clone(), value.clone())).collect();
    json!({
        "type": "object", "properties": properties, "required": names,
        "additionalProperties": false,
    })
}

fn request(model: &Model, constraint: Option<&Constraint>, tokens: usize) -> Request {
    let text = "Describe a town by the sea as JSON with name, place and count.";
    let prompt = model.tokenizer().encode(text, EncodeOptions::default());
    let sampler = SamplerOptions::default().with_temperature(1.0).with_seed(7);
    let options = GenerateOptions::default()
        .with_sampler(sampler)
        .with_num_predict(tokens)
        .with_ignore_eos(constraint.is_none())
        .with_constraint(constraint.cloned());
    Request::new(prompt, options)
}

/// Runs a request so many times at once. Time from the first token of the last to begin to
/// the end of the first to end is not told apart: all are alike.
fn run(engine: &Engine, request: &Request, streams: usize) -> Vec<Summary> {
    let replies: Vec<Reply> =
        (0..streams).map(|_| engine.submit(request.clone()).unwrap()).collect();
    replies.into_iter().map(|reply| reply.wait().unwrap().summary).collect()
}

fn rate(summaries: &[Summary]) -> f64 {
    summaries.iter().map(|summary| summary.timings.generation_rate()).sum()
}

/// Plain and constrained decode in alternation.
fn decode(engine: &Engine, model: &Model, args: &Args, streams: usize) {
    let constraint = Constraint::json_schema(schema("name"));
    let plain = request(model, None, args.tokens).with_speculate(false);
    let constrained = request(model, Some(&constraint), args.tokens).with_speculate(false);
    let (mut ratios, mut rates) = (Vec::new(), Vec::new());
    for _ in 0..args.repetitions {
        let base = rate(&run(engine, &plain, streams));
        let bound = rate(&run(engine, &constrained, streams));
        ratios.push(bound / base);
        rates.push(base);
    }
    println!(
        "decode, {streams} streams: {:.2} tok/s plain; constrained {} x",
        median(&mut rates),
        spread(&mut ratios)
    );
}

/// How much later the first token comes with a schema that was never seen.
fn first_token(engine: &Engine, model: &Model, args: &Args) {
    let mut later = Vec::new();
    for number in 0..args.repetitions.max(3) {
        let constraint = Constraint::json_schema(schema(&format!("name{number}")));
        let plain = first(engine, &request(model, None, 1));
        let cold = first(engine, &request(model, Some(&constraint), 1));
        later.push(1e3 * (cold.as_secs_f64() - plain.as_secs_f64()));
    }
    println!("first token with a cold schema: {} ms later", spread(&mut later));
}

fn first(engine: &Engine, request: &Request) -> Duration {
    let start = Instant::now();
    run(engine, request, 1);
    start.elapsed()
}

/// Text that the schema leaves no choice about.
fn forced(engine: &Engine, model: &Model, args: &Args) {
    let constraint = Constraint::json_schema(fixed());
    let plain = request(model, None, args.tokens).with_speculate(false);
    let fixed = request(model, Some(&constraint), 400);
    let mut ratios = Vec::new();
    let mut last = Vec::new();
    for _ in 0..args.repetitions {
        let base = rate(&run(engine, &plain, 1));
        last = run(engine, &fixed, 1);
        ratios.push(rate(&last) / base);
    }
    let timings = last[0].timings;
    println!(
        "forced text: {} x plain; {} of {} tokens were forced or drafted",
        spread(&mut ratios),
        timings.accepted_tokens,
        timings.generated_tokens
    );
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// The median, and the smallest and largest.
fn spread(values: &mut [f64]) -> String {
    let median = median(values);
    format!("{median:.3} ({:.3} to {:.3})", values[0], values[values.len() - 1])
}
