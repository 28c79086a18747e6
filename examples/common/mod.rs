//! What every example does the same way: arguments, errors, figures.
#![allow(dead_code, reason = "each example uses its part")]
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "examples talk to people")]

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use tramontane::{Error, Gguf, Model, ModelOptions, Timings, Warning};

/// Any error, as one sentence.
pub type Result<T = ()> = std::result::Result<T, Box<dyn std::error::Error>>;

/// Parses the arguments and runs: an error is one line on stderr and exit code 1.
pub fn main<A: clap::Parser>(run: impl FnOnce(A) -> Result) -> ExitCode {
    let args = match A::try_parse() {
        Ok(args) => args,
        Err(message) => {
            let failed = message.use_stderr();
            // Help goes to stdout, a mistake to stderr; a closed pipe is fine.
            let _ = message.print();
            return if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Which model, and how to run it.
#[derive(clap::Args)]
pub struct ModelArgs {
    /// A GGUF file (of a split model: the first). Default: the built-in storyteller
    #[arg(short, long, value_name = "FILE")]
    pub model: Option<PathBuf>,
    /// Threads. Default: the physical cores that this process may use
    #[arg(short, long, value_name = "N")]
    pub threads: Option<usize>,
    /// Sliding window for files that name none (Mistral 7B v0.1: 4096)
    #[arg(short, long, value_name = "POSITIONS")]
    pub window: Option<usize>,
}

impl ModelArgs {
    /// Opens the model.
    pub fn open(&self) -> Result<Model> {
        let options =
            ModelOptions::default().with_threads(self.threads).with_sliding_window(self.window);
        let model = match &self.model {
            Some(path) => Model::open_with(path, &options).map_err(in_file(path))?,
            None => builtin(&options)?,
        };
        warn(model.warnings());
        Ok(model)
    }
}

/// Says what is odd about a model's file, one line each.
pub fn warn(warnings: &[Warning]) {
    for warning in warnings {
        eprintln!("warning: {warning}");
    }
}

/// The GGUF file of the small model that comes with the repository: it writes short English
/// stories.
pub static BUILTIN: &[u8] = include_bytes!("../../models/storyteller-q4_k_m.gguf");

/// That model.
pub fn builtin(options: &ModelOptions) -> tramontane::Result<Model> {
    Model::from_gguf(Gguf::from_bytes(BUILTIN)?, options)
}

/// Names the file where an error only says what is wrong inside it.
pub fn in_file(path: &Path) -> impl Fn(Error) -> Box<dyn std::error::Error> {
    move |error| match error {
        Error::Io { .. } | Error::Misuse(_) => error.into(),
        _ => format!("{}: {error}", path.display()).into(),
    }
}

/// The whole of a file, or of stdin for `None`, as text.
pub fn read_text(path: Option<&PathBuf>) -> Result<String> {
    let name = path.map_or("stdin".into(), |path| path.display().to_string());
    let bytes = match path {
        Some(path) => std::fs::read(path),
        None => {
            let mut bytes = Vec::new();
            std::io::stdin().read_to_end(&mut bytes).map(|_| bytes)
        }
    };
    let bytes = bytes.map_err(|error| format!("{name}: {error}"))?;
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("{name}: byte {at} is not UTF-8; convert the text to UTF-8 first").into()
    })
}

/// The figures people look for, in one line.
pub fn figures(model: &Model, timings: &Timings) -> String {
    let first = timings.load + timings.prompt;
    format!(
        "[prompt {} tokens, {:.1} tok/s · generated {} tokens, {:.1} tok/s · \
         first token after {:.0} ms · {} threads, {}]",
        timings.prompt_tokens,
        timings.prompt_rate(),
        timings.generated_tokens,
        timings.generation_rate(),
        first.as_secs_f64() * 1000.0,
        model.threads(),
        model.isa(),
    )
}
