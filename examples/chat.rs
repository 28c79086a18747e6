//! Talks with a chat model in the terminal.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::io::{BufRead, Write};
use std::process::ExitCode;

use clap::Parser;
use tramontane::{
    Chat, ContextFull, FinishReason, GenerateOptions, Message, Model, Session, SessionOptions,
    Timings,
};

const HELP: &str = "\
/system TEXT  what the model is to be (starts a new conversation)
/clear        start a new conversation
/history      show the conversation
/stats        figures of the last answer
/help         this list
/bye          leave (also: end of input)";

/// Talks with a chat model on the CPU. The past is kept in the KV cache: each turn
/// computes only what is new.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example chat
  cargo run --release --example chat -- -m mistral-7b-instruct-v0.3.Q4_K_M.gguf --ctx 8192
  echo 'Tell me a story about a dog.' | cargo run --release --example chat")]
struct Args {
    #[command(flatten)]
    model: common::ModelArgs,
    /// What the model is to be
    #[arg(long, value_name = "TEXT")]
    system: Option<String>,
    /// Context length. Default: 4096, or what the model was trained for if less
    #[arg(short, long, value_name = "POSITIONS")]
    ctx: Option<usize>,
    /// 0 gives the same answer every time. Default: what the file recommends, else 0.8
    #[arg(long, allow_negative_numbers = true)]
    temperature: Option<f32>,
    /// Repeats a lively answer exactly
    #[arg(long)]
    seed: Option<u64>,
}

fn main() -> ExitCode {
    common::main(run)
}

struct Conversation {
    model: Model,
    session: Session,
    options: GenerateOptions,
    chat: Chat,
    last: Timings,
}

fn run(args: Args) -> common::Result {
    let model = args.model.open()?;
    model.chat_template()?;
    let mut sampler = model.sampler_options().clone().with_seed(args.seed);
    if let Some(temperature) = args.temperature {
        sampler.temperature = temperature;
    }
    let options = GenerateOptions::default()
        .with_sampler(sampler)
        .with_context_full(ContextFull::Shift { num_keep: 4 });
    let session = model.session(&SessionOptions::default().with_num_ctx(args.ctx))?;
    let chat = Chat::new(args.system.map(Message::system).into_iter().collect::<Vec<_>>());
    let mut talk = Conversation { model, session, options, chat, last: Timings::default() };
    eprintln!("{} · /help lists the commands", talk.model.name().unwrap_or("model"));
    let mut lines = std::io::stdin().lock().lines();
    loop {
        eprint!("> ");
        let Some(line) = lines.next() else { return Ok(()) };
        let line = line.map_err(|error| format!("stdin: {error}"))?;
        match line.trim().split_once(' ').unwrap_or((line.trim(), "")) {
            ("", _) => {}
            ("/bye", _) => return Ok(()),
            ("/help", _) => eprintln!("{HELP}"),
            ("/clear", _) => talk.chat.messages.clear(),
            ("/system", text) => talk.chat = Chat::new([Message::system(text)]),
            ("/stats", _) => eprintln!("{}", common::figures(&talk.model, &talk.last)),
            ("/history", _) => talk.show(),
            (command, _) if command.starts_with('/') => {
                eprintln!("unknown command {command}; /help lists the commands");
            }
            _ => {
                if let Err(error) = talk.answer(line.trim()) {
                    eprintln!("error: {error}");
                }
            }
        }
    }
}

impl Conversation {
    fn show(&self) {
        for message in &self.chat.messages {
            eprintln!("{}: {}", message.role(), message.content());
        }
    }

    /// Asks and streams the answer. If the model refuses, the conversation stays
    /// as it was.
    fn answer(&mut self, question: &str) -> common::Result {
        let mut chat = self.chat.clone();
        chat.push(Message::user(question));
        let mut generation = self.session.chat(&chat, &self.options)?;
        let mut out = std::io::stdout().lock();
        let mut answer = String::new();
        for piece in generation.by_ref() {
            let text = piece?.text;
            write!(out, "{text}")?;
            out.flush()?;
            answer += &text;
        }
        writeln!(out)?;
        let summary = generation.summary();
        self.last = summary.timings;
        if summary.dropped_tokens > 0 {
            eprintln!("[the context was full: {} tokens dropped]", summary.dropped_tokens);
        }
        if summary.finish_reason == Some(FinishReason::Cancelled) {
            eprintln!("[cancelled]");
        }
        chat.push(Message::assistant(answer));
        self.chat = chat;
        Ok(())
    }
}
