//! A model that calls two functions of this program.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tramontane::{
    Chat, GenerateOptions, Message, SessionOptions, ToolChoice, ToolEvent, ToolOptions, ToolSet,
};

/// Answers a question with the help of two functions of this program: a calculator and a
/// counter of words. Shows thoughts, calls and results as they come.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --features constrain --example agent
  cargo run --release --features constrain --example agent -- -m qwen2.5-3b-instruct-q4_k_m.gguf 'What is 17 times 23, plus 4?'
  cargo run --release --features constrain --example agent -- -m model.gguf 'How many words has: to be or not to be?'

The built-in model was not trained to call functions and cannot be told of them: it is made to
call one, with arguments that mean nothing, and then tells a story. A model that was trained for
it decides by itself; --must-call makes it call one first.")]
struct Args {
    /// What to ask
    #[arg(default_value = "What is 17 times 23?")]
    question: String,
    #[command(flatten)]
    model: common::ModelArgs,
    /// The first answer must call a function
    #[arg(long)]
    must_call: bool,
    /// Answers at most
    #[arg(long, value_name = "N", default_value_t = 6)]
    rounds: usize,
    /// Tokens of each answer at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 400)]
    num_predict: usize,
    /// Context length
    #[arg(short, long, value_name = "POSITIONS", default_value_t = 4096)]
    ctx: usize,
}

#[derive(Deserialize, JsonSchema)]
struct Calculation {
    a: f64,
    operation: Operation,
    b: f64,
}

#[derive(Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
enum Operation {
    Plus,
    Minus,
    Times,
    Divided,
}

#[derive(Deserialize, JsonSchema)]
struct Text {
    #[schemars(length(max = 400))]
    text: String,
}

#[derive(Serialize)]
struct Counts {
    words: usize,
    letters: usize,
}

fn functions() -> ToolSet {
    ToolSet::new()
        .with("calculate", "Computes with two numbers", |Calculation { a, operation, b }| {
            match operation {
                Operation::Plus => Ok(a + b),
                Operation::Minus => Ok(a - b),
                Operation::Times => Ok(a * b),
                Operation::Divided if b == 0.0 => Err("division by zero"),
                Operation::Divided => Ok(a / b),
            }
        })
        .with("count_words", "Counts the words and letters of a text", |Text { text }| {
            let letters = text.chars().filter(|c| c.is_alphabetic()).count();
            Ok::<_, String>(Counts { words: text.split_whitespace().count(), letters })
        })
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let model = args.model.open()?;
    let builtin = args.model.model.is_none();
    // A template that does not show functions leaves the model no way to know of them.
    let must_call = args.must_call || !model.output_syntax().calls();
    if builtin {
        eprintln!("[the built-in model is made to call a function; its arguments mean nothing]");
    }
    let generate = GenerateOptions::default()
        .with_sampler(model.sampler_options().clone().with_temperature(0.0))
        .with_num_predict(args.num_predict);
    let options = ToolOptions::default()
        .with_generate(generate)
        .with_first(if must_call { ToolChoice::Required } else { ToolChoice::Auto })
        .with_parallel(!builtin)
        .with_max_rounds(args.rounds);
    let mut session = model.session(&SessionOptions::default().with_num_ctx(args.ctx))?;
    let mut chat = Chat::new([Message::user(args.question)]);
    let run = session.run_tools(&mut chat, &functions(), &options, show)?;
    println!();
    eprintln!("[{} answers, {} calls]", run.rounds, run.calls);
    eprintln!("{}", common::figures(&model, &run.summary.timings));
    Ok(())
}

/// Thoughts and calls go to stderr, the answer to stdout.
fn show(event: ToolEvent<'_>) {
    match event {
        ToolEvent::Thinking(text) => eprint!("{text}"),
        ToolEvent::Text(text) => {
            print!("{text}");
            // A closed pipe ends the program at the next line.
            let _ = std::io::stdout().flush();
        }
        ToolEvent::Call(call) => eprintln!("→ {} {}", call.name(), call.arguments()),
        ToolEvent::Result(_, result) => eprintln!("= {result}"),
        _ => {}
    }
}
