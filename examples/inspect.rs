//! Shows what is in a GGUF file: keys, tensors, totals, and whether it would run. Reads no
//! weights but those of norms.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

mod common;

use std::collections::BTreeMap;
use std::fmt::{Display, Write as _};
use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;
use tramontane::gguf::{Array, Gguf, Value};
use tramontane::tensor::Tensor;
use tramontane::{Model, ModelOptions};

/// Shows the keys and tensors of a GGUF file, and says whether it would run.
#[derive(Parser)]
#[command(
    after_help = "Exit status: 0 if the file would run, 1 if it would not or cannot be read; the last
line says why.

Examples:
  cargo run --release --example inspect -- models/storyteller-q4_k_m.gguf
  cargo run --release --example inspect -- model.gguf --tensors --filter blk.0.
  cargo run --release --example inspect -- model.gguf --metadata --filter chat_template --full"
)]
struct Args {
    /// The file; of a split model the first (…-00001-of-0000N.gguf)
    file: PathBuf,
    /// Only the keys
    #[arg(long)]
    metadata: bool,
    /// Only the tensors
    #[arg(long, conflicts_with = "metadata")]
    tensors: bool,
    /// Only keys and tensors whose name contains this
    #[arg(long, default_value = "", hide_default_value = true, value_name = "TEXT")]
    filter: String,
    /// Long strings and arrays in full
    #[arg(long)]
    full: bool,
}

fn main() -> ExitCode {
    common::main(run)
}

fn run(args: Args) -> common::Result {
    let file = Gguf::open(&args.file).map_err(common::in_file(&args.file))?;
    let pairs = file.metadata().iter().filter(|(key, _)| key.contains(&args.filter));
    let pairs: Vec<_> = if args.tensors { Vec::new() } else { pairs.collect() };
    let tensors = file.tensors().iter().filter(|tensor| tensor.name().contains(&args.filter));
    let tensors: Vec<_> = if args.metadata { Vec::new() } else { tensors.collect() };
    let mut text = String::new();
    let (version, alignment) = (file.version(), file.alignment());
    writeln!(text, "GGUF version {version}, alignment {alignment}")?;
    let shown = if args.full { usize::MAX } else { 8 };
    let line = |(key, value): &(&str, &Value)| {
        [key.escape_debug().to_string(), type_of(value), show(value, shown)]
    };
    table(&mut text, ["key", "type", "value"], pairs.iter().map(line), &[])?;
    table(&mut text, ["name", "format", "shape", "bytes"], tensors.iter().map(row), &[3])?;
    totals(&mut text, &tensors)?;
    other_parts(&mut text, &tensors)?;
    let model = runs(&mut text, file.clone())?;
    match std::io::stdout().write_all(text.as_bytes()) {
        // `inspect … | head` is no mistake.
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => return Err(error.into()),
        _ => {}
    }
    model.map_err(|error| format!("{} would not run: {error}", args.file.display()).into())
}

/// Whether a model can be made of the file, and what is odd about it; the error otherwise is
/// that of `Model::open`.
fn runs(text: &mut String, file: Gguf) -> common::Result<tramontane::Result<()>> {
    // No thread is needed to find out.
    let options = ModelOptions::default().with_threads(1);
    let model = match Model::from_gguf(file, &options) {
        Ok(model) => model,
        Err(error) => return Ok(Err(error)),
    };
    text.push('\n');
    for warning in model.warnings() {
        writeln!(text, "warning: {warning}")?;
    }
    let (positions, tokens) = (model.context_length(), model.tokenizer().n_vocab());
    writeln!(
        text,
        "would run: {} positions, {} tokens",
        digits(positions as u64),
        digits(tokens as u64)
    )?;
    Ok(Ok(()))
}

/// Columns as wide as their widest cell; those in `right` are flush right.
fn table<const N: usize>(
    text: &mut String,
    head: [&str; N],
    rows: impl Iterator<Item = [String; N]>,
    right: &[usize],
) -> common::Result {
    let mut lines: Vec<[String; N]> = rows.collect();
    if lines.is_empty() {
        return Ok(());
    }
    lines.insert(0, head.map(String::from));
    let width = |column: usize| lines.iter().map(|line| line[column].chars().count()).max();
    let widths: [usize; N] = std::array::from_fn(|column| width(column).unwrap_or(0));
    text.push('\n');
    for line in &lines {
        let mut row = String::new();
        for (column, cell) in line.iter().enumerate() {
            let width = widths[column];
            if right.contains(&column) {
                write!(row, "{cell:>width$}  ")?;
            } else {
                write!(row, "{cell:width$}  ")?;
            }
        }
        writeln!(text, "{}", row.trim_end())?;
    }
    Ok(())
}

fn row(tensor: &&Tensor) -> [String; 4] {
    let shape: Vec<String> = tensor.dims().iter().map(u64::to_string).collect();
    let name = tensor.name().escape_debug().to_string();
    [name, tensor.format().to_string(), shape.join(" × "), digits(tensor.bytes().len() as u64)]
}

/// Tensors, weights and bytes per format, and the sum of all.
fn totals(text: &mut String, tensors: &[&Tensor]) -> common::Result {
    let mut formats = BTreeMap::<_, [u64; 3]>::new();
    let mut sum = [0u64; 3];
    for tensor in tensors {
        let counts = [1, tensor.dims().iter().product(), tensor.bytes().len() as u64];
        for total in [formats.entry(tensor.format()).or_default(), &mut sum] {
            (0..3).for_each(|i| total[i] += counts[i]);
        }
    }
    let line = |name: String, [n, weights, bytes]: [u64; 3]| {
        let bits = bytes as f64 * 8.0 / weights.max(1) as f64;
        [name, digits(n), digits(weights), digits(bytes), format!("{bits:.3}")]
    };
    let mut rows: Vec<_> =
        formats.into_iter().map(|(f, counts)| line(f.to_string(), counts)).collect();
    if !rows.is_empty() {
        rows.push(line("all".into(), sum));
    }
    let head = ["format", "tensors", "parameters", "bytes", "bits per weight"];
    table(text, head, rows.into_iter(), &[1, 2, 3, 4])
}

/// Names tensors that a model ignores: they belong to parts that do not run.
fn other_parts(text: &mut String, tensors: &[&Tensor]) -> common::Result {
    let ignored: Vec<&Tensor> =
        tensors.iter().copied().filter(|tensor| tensor.is_of_another_part()).collect();
    if !ignored.is_empty() {
        let count = digits(ignored.len() as u64);
        writeln!(text, "\n{count} tensors are ignored (vision, audio or multi-token prediction):")?;
        for tensor in ignored {
            writeln!(text, "{}", tensor.name().escape_debug())?;
        }
    }
    Ok(())
}

/// 1234567 as 1,234,567.
fn digits(n: u64) -> String {
    let digits = n.to_string();
    let groups: Vec<_> = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy).collect();
    groups.join(",")
}

fn type_of(value: &Value) -> String {
    match value {
        Value::Array(array) => format!("{}[{}]", array.type_name(), array.len()),
        scalar => scalar.type_name().to_owned(),
    }
}

/// At most `shown` elements of an array, and that many lots of 10 characters.
fn show(value: &Value, shown: usize) -> String {
    let mut text = match value {
        Value::String(text) if shown == usize::MAX => return text.to_string(),
        Value::String(text) => text.replace(char::is_control, " "),
        Value::Array(array) => {
            let rest = if array.len() > shown { ", …" } else { "" };
            elements(array, shown).join(", ") + rest
        }
        scalar => scalar.to_string(),
    };
    if let Some((end, _)) = text.char_indices().nth(shown.saturating_mul(10)) {
        text.truncate(end);
        text.push('…');
    }
    text
}

/// The first `n` elements.
fn elements(array: &Array, n: usize) -> Vec<String> {
    fn list<T: Display>(values: &[T], n: usize) -> Vec<String> {
        values.iter().take(n).map(T::to_string).collect()
    }
    match array {
        Array::U8(v) => list(v, n),
        Array::I8(v) => list(v, n),
        Array::U16(v) => list(v, n),
        Array::I16(v) => list(v, n),
        Array::U32(v) => list(v, n),
        Array::I32(v) => list(v, n),
        Array::F32(v) => list(v, n),
        Array::Bool(v) => list(v, n),
        Array::String(v) => v.iter().take(n).map(|text| format!("{text:?}")).collect(),
        Array::U64(v) => list(v, n),
        Array::I64(v) => list(v, n),
        Array::F64(v) => list(v, n),
        _ => Vec::new(),
    }
}
