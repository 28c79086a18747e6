//! Text → token ids, and chat messages → prompt and ids.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};
use tramontane::{Chat, ChatTemplate, EncodeOptions, Ending, Gguf, Message, Tokenizer, Tool};

/// Prints the token ids of a text as a JSON array. Needs the vocabulary only, so a
/// GGUF file without weights will do.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example tokenize -- 'Hello, world!'
  cargo run --release --example tokenize -- -m model.gguf --file README.md --no-bos
  printf '\"a\"\\n\"b\"\\n' | cargo run --release --example tokenize -- -m model.gguf --json-lines
  cargo run --release --example tokenize -- -m model.gguf --chat messages.json")]
struct Args {
    /// The text. Default: stdin
    text: Option<String>,
    /// A GGUF file. Default: the built-in storyteller
    #[arg(short, long, value_name = "FILE")]
    model: Option<PathBuf>,
    /// Read the text from a file
    #[arg(short, long, value_name = "FILE", conflicts_with = "text")]
    file: Option<PathBuf>,
    /// One JSON string per line in, one JSON array per line out
    #[arg(long, conflicts_with = "chat")]
    json_lines: bool,
    /// Leave out the vocabulary's BOS
    #[arg(long)]
    no_bos: bool,
    /// Control tokens in the text are control tokens, not text
    #[arg(long)]
    special: bool,
    /// Messages as JSON: an array, or an object with "messages", "tools" and
    /// "add_generation_prompt" (default: true unless the last message is the assistant's).
    /// Prints {"prompt": …, "ids": […]}
    #[arg(long, value_name = "FILE")]
    chat: Option<PathBuf>,
    /// A chat template to use instead of the model's
    #[arg(long, value_name = "FILE", requires = "chat")]
    template: Option<PathBuf>,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let file = match &args.model {
        Some(path) => Gguf::open(path).map_err(common::in_file(path))?,
        None => Gguf::from_bytes(common::BUILTIN)?,
    };
    let tokenizer = Tokenizer::from_gguf(file.metadata())?;
    common::warn(tokenizer.warnings());
    if let Some(path) = &args.chat {
        println!("{}", chat(&args, &file, &tokenizer, path)?);
        return Ok(());
    }
    let text = match &args.text {
        Some(text) => text.clone(),
        None => common::read_text(args.file.as_ref())?,
    };
    let options = EncodeOptions::default().with_bos(!args.no_bos).with_special(args.special);
    if !args.json_lines {
        println!("{}", json!(tokenizer.encode(&text, options)));
        return Ok(());
    }
    for (number, line) in text.lines().enumerate() {
        let string: String = serde_json::from_str(line)
            .map_err(|error| format!("line {}: not a JSON string: {error}", number + 1))?;
        println!("{}", json!(tokenizer.encode(&string, options)));
    }
    Ok(())
}

/// Renders a conversation and encodes it.
fn chat(args: &Args, file: &Gguf, tokenizer: &Tokenizer, path: &PathBuf) -> common::Result<Value> {
    let input: Value = serde_json::from_str(&common::read_text(Some(path))?)
        .map_err(|error| format!("{}: not JSON: {error}", path.display()))?;
    let list = |value: &Value| value.as_array().cloned();
    let messages = list(&input).or_else(|| list(&input["messages"])).ok_or_else(|| {
        format!("{}: give an array of messages, or an object with \"messages\"", path.display())
    })?;
    let template = match &args.template {
        Some(path) => ChatTemplate::new(&common::read_text(Some(path))?, tokenizer)?,
        None => ChatTemplate::from_gguf(file.metadata(), tokenizer)?
            .ok_or("the model has no chat template; give one with --template")?,
    };
    let mut chat = Chat::new(messages.into_iter().map(Message::from).collect::<Vec<_>>());
    chat.tools = list(&input["tools"]).map(|tools| tools.into_iter().map(Tool::from).collect());
    chat.ending = match input["add_generation_prompt"].as_bool() {
        None => Ending::Auto,
        Some(true) => Ending::GenerationPrompt,
        Some(false) => Ending::Closed,
    };
    let prompt = template.render(&chat)?;
    Ok(json!({"prompt": prompt.to_string(), "ids": tokenizer.encode_chat(&prompt)}))
}
