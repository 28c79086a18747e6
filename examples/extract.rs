//! Reads an invoice out of a text: the answer is a value of a Rust type.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use schemars::JsonSchema;
use serde::Deserialize;
use tramontane::tools::schema_of;
use tramontane::{Chat, Error, GenerateOptions, Message, SessionOptions};

const TEXT: &str = "Hi Anna, as agreed: 3 bags of cement at 7.40, one shovel for 19.90 and \
    12 tiles, 2.25 each. Invoice 2026-117, to be paid in euros. Thanks, Jo";

/// Reads an invoice out of a text, as a value of a Rust type, and prints it as a table.
#[derive(Parser)]
#[command(after_help = "Examples:
  cargo run --release --features constrain --example extract
  cargo run --release --features constrain --example extract -- -m qwen2.5-3b-instruct-q4_k_m.gguf
  cargo run --release --features constrain --example extract -- -m model.gguf --text 'Two pens at 1.20.'
  cargo run --release --features constrain --example extract -- -m model.gguf --file letter.txt

The answer always has the form of an invoice. Whether it is the invoice of the text is up to the
model: the built-in one only knows stories for children, and fills the form with them.")]
struct Args {
    /// The text. Default: a short letter
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    text: Option<String>,
    /// Read the text from a file instead ("-": stdin)
    #[arg(short, long, value_name = "FILE")]
    file: Option<PathBuf>,
    #[command(flatten)]
    model: common::ModelArgs,
    /// Context length
    #[arg(short, long, value_name = "POSITIONS", default_value_t = 4096)]
    ctx: usize,
    /// Tokens of the answer at most
    #[arg(short = 'n', long, value_name = "N", default_value_t = 2000)]
    num_predict: usize,
    /// Print the schema that the answer is constrained to, and end
    #[arg(long)]
    schema: bool,
}

/// What is to be found. The comments are part of the schema.
#[derive(Debug, Deserialize, JsonSchema)]
struct Invoice {
    /// The invoice's number, if the text has one
    #[schemars(length(max = 20))]
    number: Option<String>,
    currency: Currency,
    /// What is sold
    #[schemars(length(min = 1, max = 8))]
    lines: Vec<Line>,
}

#[derive(Debug, Deserialize, JsonSchema)]
enum Currency {
    Eur,
    Usd,
    Gbp,
    Other,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Line {
    #[schemars(length(min = 1, max = 32))]
    item: String,
    #[schemars(range(min = 1, max = 9999))]
    quantity: u32,
    /// Of one piece, in hundredths: 7.40 is 740
    #[schemars(range(min = 0, max = 9_999_999))]
    unit_price: u32,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let schema = schema_of::<Invoice>();
    if args.schema {
        println!("{schema:#}");
        return Ok(());
    }
    let model = args.model.open()?;
    let text = match &args.file {
        Some(path) if path.as_os_str() == "-" => common::read_text(None)?,
        Some(path) => common::read_text(Some(path))?,
        None => args.text.unwrap_or_else(|| TEXT.to_owned()),
    };
    let ask = format!(
        "Read the invoice out of the text below. Answer with JSON of this schema:\n{schema}\n\n\
         Text:\n{text}"
    );
    let mut session = model.session(&SessionOptions::default().with_num_ctx(args.ctx))?;
    let options = GenerateOptions::greedy().with_num_predict(args.num_predict);
    let answer = session.extract(&Chat::new([Message::user(ask)]), &options);
    if let Err(Error::Answer { text, .. }) = &answer {
        eprintln!("{text}");
    }
    let invoice: Invoice = answer?;
    if args.model.model.is_none() {
        eprintln!("[the built-in model tells stories: the form is an invoice, the content is not]");
    }
    print(&invoice);
    Ok(())
}

fn print(invoice: &Invoice) {
    let Invoice { number, currency, lines } = invoice;
    println!("invoice {} in {currency:?}", number.as_deref().unwrap_or("without a number"));
    let width = lines.iter().map(|line| line.item.chars().count()).max().unwrap_or(0).max(5);
    println!("{:width$}  {:>8}  {:>10}  {:>12}", "item", "quantity", "price", "total");
    let amount = |hundredths: u64| format!("{}.{:02}", hundredths / 100, hundredths % 100);
    let mut sum = 0;
    for Line { item, quantity, unit_price } in lines {
        let total = u64::from(*quantity) * u64::from(*unit_price);
        sum += total;
        let (price, total) = (amount((*unit_price).into()), amount(total));
        println!("{item:width$}  {quantity:>8}  {price:>10}  {total:>12}");
    }
    println!("{:width$}  {:>8}  {:>10}  {:>12}", "", "", "", amount(sum));
}
