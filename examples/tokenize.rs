//! Text → token ids, and chat messages → prompt and ids.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use serde_json::{Value, json};
use tramontane::template::strip_marks;
use tramontane::{Chat, ChatTemplate, EncodeOptions, Gguf, Tokenizer};

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
    /// Leave out the vocabulary's BOS (and EOS)
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
        None => tramontane::builtin()?.file().clone(),
    };
    let tokenizer = Tokenizer::from_gguf(file.metadata())?;
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
    let tools = list(&input["tools"]);
    let answered = messages.last().is_some_and(|last| last["role"] == "assistant");
    let piece = |id: Option<u32>| id.and_then(|id| tokenizer.piece(id));
    let (bos, eos) = (piece(tokenizer.bos()), piece(tokenizer.eos()));
    let template = match &args.template {
        Some(path) => ChatTemplate::new(&common::read_text(Some(path))?, bos, eos)?,
        None => ChatTemplate::from_gguf(file.metadata(), bos, eos)?
            .ok_or("the model has no chat template; give one with --template")?,
    };
    let control_pieces: Vec<String> = tokenizer.control_pieces().map(str::to_owned).collect();
    let prompt = template.render(&Chat {
        messages: &messages,
        tools: tools.as_deref(),
        add_generation_prompt: input["add_generation_prompt"].as_bool().unwrap_or(!answered),
        control_pieces: &control_pieces,
        ..Chat::default()
    })?;
    Ok(json!({"prompt": strip_marks(&prompt), "ids": tokenizer.encode_chat(&prompt)}))
}
