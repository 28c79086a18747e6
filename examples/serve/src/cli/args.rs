//! What may stand on the command line.

use std::path::PathBuf;

use crate::config::ServeArgs;

/// Runs language models on the CPU, as a server and from the command line; a drop-in
/// for Ollama.
#[derive(clap::Parser)]
#[command(
    name = "ollama",
    disable_version_flag = true,
    after_help = "Examples:
  serve                               start the server
  run storyteller \"Once upon a time\"   one answer from the built-in model
  run mistral                         a conversation; pulls the model if it is not here
  list                                which models are here"
)]
pub struct Args {
    /// Shows the versions of client and server
    #[arg(short, long)]
    pub version: bool,
    /// What to do
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// What to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Starts the server
    #[command(
        visible_alias = "start",
        after_help = "Examples:
  serve
  serve --host 0.0.0.0 --api-keys SECRET --read-only
  OLLAMA_MODELS=/models OLLAMA_KEEP_ALIVE=-1 ollama serve"
    )]
    Serve(Box<ServeArgs>),
    /// Makes a model from a Modelfile
    #[command(after_help = "Example:
  create mario -f ./Modelfile")]
    Create(CreateArgs),
    /// Shows a model
    #[command(after_help = "Example:
  show mistral --modelfile")]
    Show(ShowArgs),
    /// Asks a model, once or in a conversation
    #[command(after_help = "Examples:
  run mistral
  run mistral \"Why is the sky blue?\" --verbose
  cat letter.txt | ollama run mistral \"Summarize:\"")]
    Run(RunArgs),
    /// Unloads a model
    #[command(after_help = "Example:
  stop mistral")]
    Stop {
        /// The model
        model: String,
    },
    /// Fetches a model from a registry
    #[command(after_help = "Examples:
  pull mistral
  pull hf.co/bartowski/Llama-3.2-1B-Instruct-GGUF:Q4_K_M")]
    Pull(TransferArgs),
    /// Sends a model to a registry
    #[command(after_help = "Example:
  push myself/mario")]
    Push(TransferArgs),
    /// Lists models
    #[command(
        visible_alias = "ls",
        after_help = "Example:
  list mist"
    )]
    List {
        /// Only names that begin so
        prefix: Option<String>,
    },
    /// Lists models in memory
    #[command(after_help = "Example:
  ps")]
    Ps,
    /// Copies a model
    #[command(after_help = "Example:
  cp mistral my-mistral")]
    Cp {
        /// The model
        source: String,
        /// Its second name
        destination: String,
    },
    /// Removes models
    #[command(after_help = "Example:
  rm mistral mario")]
    Rm {
        /// The models
        #[arg(required = true)]
        models: Vec<String>,
    },
    /// Checks every file of the store against its digest; needs no server
    #[command(after_help = "Example:
  verify --models ~/.ollama/models")]
    Verify {
        /// Folder of the models [default: ~/.ollama/models]
        #[arg(long, env = "OLLAMA_MODELS", value_name = "FOLDER")]
        models: Option<PathBuf>,
    },
}

/// Arguments of `create`.
#[derive(clap::Args)]
pub struct CreateArgs {
    /// The new model
    pub model: String,
    /// The Modelfile
    #[arg(short, long, default_value = "Modelfile", value_name = "FILE")]
    pub file: PathBuf,
    /// Quantizes (not supported yet)
    #[arg(short, long, value_name = "TYPE")]
    pub quantize: Option<String>,
}

/// Arguments of `show`.
#[derive(clap::Args)]
pub struct ShowArgs {
    /// The model
    pub model: String,
    /// Only the licence
    #[arg(long)]
    pub license: bool,
    /// Only the Modelfile
    #[arg(long)]
    pub modelfile: bool,
    /// Only the parameters
    #[arg(long)]
    pub parameters: bool,
    /// Only the template
    #[arg(long)]
    pub template: bool,
    /// Only the system text
    #[arg(long)]
    pub system: bool,
    /// Everything, tensors too
    #[arg(short, long)]
    pub verbose: bool,
}

/// Arguments of `run`.
#[derive(clap::Args, Default)]
pub struct RunArgs {
    /// The model
    pub model: String,
    /// What to ask; what is piped in comes before it
    pub prompt: Vec<String>,
    /// How long the model stays in memory (`5m`)
    #[arg(long, value_name = "DURATION", allow_hyphen_values = true)]
    pub keepalive: Option<String>,
    /// Shows counts and times after each answer
    #[arg(long)]
    pub verbose: bool,
    /// Pulls over http
    #[arg(long)]
    pub insecure: bool,
    /// Does not break lines between words
    #[arg(long)]
    pub nowordwrap: bool,
    /// The form of the answer: json
    #[arg(long, value_name = "FORMAT")]
    pub format: Option<String>,
    /// Whether, or how much, the model thinks first
    #[arg(long, value_name = "LEVEL", num_args = 0..=1, default_missing_value = "true",
        require_equals = true)]
    pub think: Option<String>,
    /// Does not show what the model thinks
    #[arg(long)]
    pub hidethinking: bool,
    /// For embedding models: cuts texts that are too long
    #[arg(long)]
    pub truncate: bool,
    /// For embedding models: how many numbers
    #[arg(long, value_name = "N")]
    pub dimensions: Option<u32>,
}

/// Arguments of `pull` and `push`.
#[derive(clap::Args)]
pub struct TransferArgs {
    /// The model
    pub model: String,
    /// Uses http
    #[arg(long)]
    pub insecure: bool,
}
