//! What may stand on the command line.

use std::ffi::OsString;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, CommandFactory, FromArgMatches};

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

impl Args {
    /// Reads the words of a command line.
    ///
    /// # Errors
    /// clap's message, or its help.
    pub fn read<W: Into<OsString> + Clone>(
        words: impl IntoIterator<Item = W>,
    ) -> Result<Self, clap::Error> {
        let matches = Args::command().try_get_matches_from(words)?;
        let mut args = Args::from_arg_matches(&matches)?;
        if let Some(Command::Serve(serve)) = &mut args.command
            && let Some((_, given)) = matches.subcommand()
        {
            serve.flags = flags(given);
        }
        Ok(args)
    }

    /// A variable in the name of which our own begin, and that is none of them: a mistake
    /// there must not pass, or a server has no keys.
    pub fn unknown_variable(names: impl IntoIterator<Item = String>) -> Option<String> {
        let commands = Args::command();
        let arguments = commands.get_subcommands().flat_map(clap::Command::get_arguments);
        let mut known: Vec<String> = arguments
            .filter_map(|argument| Some(argument.get_env()?.to_str()?.to_owned()))
            .collect();
        known.push(tramontane::Isa::VARIABLE.to_owned());
        // Without what all of them share, which would make all of them alike.
        let bare = |name: &str| name.strip_prefix(OURS).map(str::to_owned);
        let unknown = names.into_iter().find(|name| {
            name.starts_with(OURS) && !is_service_link(name) && !known.contains(name)
        })?;
        let known: Vec<String> = known.iter().filter_map(|name| bare(name)).collect();
        let given = bare(&unknown).unwrap_or_default();
        let nearest = super::near::nearest(&given, known.iter().map(String::as_str));
        let meant = nearest.first().map(|name| format!("; did you mean {OURS}{name}?"));
        Some(format!("{unknown} is no setting{}", meant.unwrap_or_default()))
    }
}

/// What the names of our variables begin with.
const OURS: &str = "TRAMONTANE_";

/// Whether a variable is one that Kubernetes sets for a service of this name in the
/// namespace: `TRAMONTANE_SERVICE_HOST`, `TRAMONTANE_PORT_11434_TCP_ADDR` and the like.
fn is_service_link(name: &str) -> bool {
    let port = |rest: &str| rest.is_empty() || rest.starts_with(|c: char| c.is_ascii_digit());
    name.ends_with("_SERVICE_HOST")
        || name.ends_with("_SERVICE_PORT")
        || name.contains("_SERVICE_PORT_")
        || name.ends_with("_PORT")
        || name.split_once("_PORT_").is_some_and(|(_, rest)| port(rest))
}

/// What stands on the command line itself.
fn flags(given: &ArgMatches) -> std::collections::BTreeSet<String> {
    let ids = given.ids().map(|id| id.as_str());
    let written = |id: &&str| given.value_source(id) == Some(ValueSource::CommandLine);
    ids.filter(written).map(str::to_owned).collect()
}

/// What to do.
#[derive(clap::Subcommand)]
pub enum Command {
    /// Starts the server
    #[command(
        visible_alias = "start",
        after_help = "Examples:
  serve
  serve --host 0.0.0.0 --api-keys-file /run/secrets/keys --read-only
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
        #[arg(long, env = "OLLAMA_MODELS", value_name = "FOLDER",
            value_parser = crate::config::path())]
        models: Option<PathBuf>,
    },
}

/// Arguments of `create`.
#[derive(clap::Args)]
pub struct CreateArgs {
    /// The new model
    pub model: String,
    /// The Modelfile; - for stdin
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
    pub prompt: Vec<OsString>,
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
    /// The form of the answer: json, a JSON schema, or a file that has one
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
