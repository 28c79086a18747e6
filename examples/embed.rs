//! Texts → vectors, and how near they are to each other.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};
use serde_json::json;
use tramontane::{EmbedOptions, Embedding, EncodeOptions, Pooling};

/// Prints how near texts are to each other: the cosine of every two vectors. Any model
/// will do; those made for it do it well.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --example embed -- 'The cat slept.' 'A kitten was asleep.' 'Tom ran to the park.'
  cargo run --release --example embed -- -m model.gguf --pooling mean --file lines.txt
  cargo run --release --example embed -- -m model.gguf --json 'A text' | jq '.[0].embedding'")]
struct Args {
    /// The texts
    #[arg(required_unless_present = "file")]
    texts: Vec<String>,
    #[command(flatten)]
    model: common::ModelArgs,
    /// Read more texts from a file, one per line
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Which hidden states make a vector. Default: what the model says, else the mean
    /// of an encoder, last of other models
    #[arg(long, value_name = "WHICH")]
    pooling: Option<Which>,
    /// Do not scale vectors to length 1
    #[arg(long)]
    raw: bool,
    /// Cut texts that are longer than the context instead of refusing them
    #[arg(long)]
    truncate: bool,
    /// Print [{"text": …, "tokens": …, "embedding": […]}, …]
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Which {
    Mean,
    Cls,
    Last,
}

impl From<Which> for Pooling {
    fn from(which: Which) -> Pooling {
        match which {
            Which::Mean => Pooling::Mean,
            Which::Cls => Pooling::Cls,
            Which::Last => Pooling::Last,
        }
    }
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let model = args.model.open()?;
    let mut texts = args.texts.clone();
    if let Some(path) = &args.file {
        texts.extend(common::read_text(Some(path))?.lines().map(str::to_owned));
    }
    let encode =
        |text: &String| model.tokenizer().encode(text, EncodeOptions::default().with_eos(true));
    let inputs: Vec<Vec<u32>> = texts.iter().map(encode).collect();
    let options = EmbedOptions::default()
        .with_pooling(args.pooling.map(Pooling::from))
        .with_normalize(!args.raw)
        .with_truncate(args.truncate);
    let start = Instant::now();
    let embeddings = model.embed(&inputs, &options)?;
    let seconds = start.elapsed().as_secs_f64();
    if args.json {
        let all = texts.iter().zip(&embeddings).map(|(text, embedding)| {
            json!({"text": text, "tokens": embedding.tokens, "embedding": embedding.vector})
        });
        println!("{}", json!(all.collect::<Vec<_>>()));
    } else {
        compare(&texts, &embeddings);
    }
    let tokens: usize = embeddings.iter().map(|embedding| embedding.tokens).sum();
    let rate = tokens as f64 / seconds;
    eprintln!("[{tokens} tokens, {rate:.1} tok/s · {} threads, {}]", model.threads(), model.isa());
    Ok(())
}

/// Prints each text, the beginning of its vector, and its cosines with those before.
fn compare(texts: &[String], embeddings: &[Embedding]) {
    for (i, (text, Embedding { vector, .. })) in texts.iter().zip(embeddings).enumerate() {
        let beginning: Vec<String> = vector.iter().take(4).map(|x| format!("{x:.4}")).collect();
        println!("{:>3}  {text}", i + 1);
        println!("     [{}, … {} in all]", beginning.join(", "), vector.len());
        let cosines = embeddings[..i].iter().map(|other| cosine(vector, &other.vector));
        let cosines: Vec<String> = cosines.map(|cosine| format!("{cosine:.3}")).collect();
        if i > 0 {
            println!("     cosine with those before: {}", cosines.join("  "));
        }
    }
}

/// The cosine of the angle between two vectors; 0 if one is all zeros.
fn cosine(a: &[f32], b: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    let lengths = (dot(a, a) * dot(b, b)).sqrt();
    if lengths > 0.0 { dot(a, b) / lengths } else { 0.0 }
}
