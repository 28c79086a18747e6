//! What may be set: the OLLAMA_* variables, our own, and the same as flags.

use std::collections::BTreeSet;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser};

use super::value::{clean, go_bool};

/// A path, which may be empty: a variable that is set to nothing.
pub fn path() -> impl TypedValueParser<Value = PathBuf> {
    OsStringValueParser::new().map(PathBuf::from)
}

/// Settings of `serve`, as written: a flag comes before its variable.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ServeArgs {
    /// Where to listen: HOST, HOST:PORT or unix:PATH [default: 127.0.0.1:11434]
    #[arg(long, env = "OLLAMA_HOST", value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Folder of the models [default: ~/.ollama/models]
    #[arg(long, env = "OLLAMA_MODELS", value_name = "FOLDER", value_parser = path())]
    pub models: Option<PathBuf>,
    /// How long a model stays in memory after its last request (`5m`, seconds, -1 for
    /// ever, 0 not at all) [default: 5m]
    #[arg(long, env = "OLLAMA_KEEP_ALIVE", value_name = "DURATION", allow_hyphen_values = true)]
    pub keep_alive: Option<String>,
    /// Conversations of default length that a model's memory has room for [default: 4]
    #[arg(long, env = "OLLAMA_NUM_PARALLEL", value_name = "N")]
    pub num_parallel: Option<String>,
    /// Models in memory at most [default: 3]
    #[arg(long, env = "OLLAMA_MAX_LOADED_MODELS", value_name = "N")]
    pub max_loaded_models: Option<String>,
    /// Requests that may wait; further ones get 503 [default: 512]
    #[arg(long, env = "OLLAMA_MAX_QUEUE", value_name = "N")]
    pub max_queue: Option<String>,
    /// Positions of a conversation that does not say `num_ctx` [default: 4096]
    #[arg(long, env = "OLLAMA_CONTEXT_LENGTH", value_name = "POSITIONS")]
    pub context_length: Option<String>,
    /// Origins that browsers may call from, besides local ones; comma list
    #[arg(long, env = "OLLAMA_ORIGINS", value_name = "ORIGINS")]
    pub origins: Option<String>,
    /// Accepted: attention always works this way here
    #[arg(long, env = "OLLAMA_FLASH_ATTENTION", value_name = "BOOL")]
    pub flash_attention: Option<String>,
    /// How keys and values are stored: f16 (as 16-bit integers), q8_0 or f32
    /// [default: f16]
    #[arg(long, env = "OLLAMA_KV_CACHE_TYPE", value_name = "TYPE")]
    pub kv_cache_type: Option<String>,
    /// How long loading may take [default: 5m]
    #[arg(long, env = "OLLAMA_LOAD_TIMEOUT", value_name = "DURATION")]
    pub load_timeout: Option<String>,
    /// Keep files that no model refers to
    #[arg(long, env = "OLLAMA_NOPRUNE", value_name = "BOOL", num_args = 0..=1,
        default_missing_value = "1")]
    pub no_prune: Option<String>,
    /// More in the log: 1, or 2 for all
    #[arg(long, env = "OLLAMA_DEBUG", value_name = "LEVEL", num_args = 0..=1,
        default_missing_value = "1")]
    pub debug: Option<String>,
    /// How the log is written: text or json [default: text]
    #[arg(long, env = "TRAMONTANE_LOG_FORMAT", value_name = "FORMAT",
        value_parser = LogFormat::read)]
    pub log_format: Option<LogFormat>,
    /// Threads per model [default: the physical cores that this process may use]
    #[arg(long, env = "OLLAMA_NUM_THREADS", value_name = "N")]
    pub num_threads: Option<String>,
    /// Bytes that all models together may take (`6GiB`) [default: what the machine or
    /// the container has free]
    #[arg(long, env = "TRAMONTANE_MEMORY", value_name = "SIZE")]
    pub memory: Option<String>,
    /// Serves this GGUF file too, under its path; may be repeated
    #[arg(long = "model", value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Any path to a GGUF file may stand where a model's name stands
    #[arg(long)]
    pub allow_paths: bool,
    /// Keys of which a request must bring one (`Authorization: Bearer …`); comma list.
    /// Other users of the machine see flags: better a file or the variable
    #[arg(long, env = "TRAMONTANE_API_KEYS", value_name = "KEYS", hide_env_values = true)]
    pub api_keys: Option<String>,
    /// A file of such keys, one per line
    #[arg(long, env = "TRAMONTANE_API_KEYS_FILE", value_name = "FILE", value_parser = path())]
    pub api_keys_file: Option<PathBuf>,
    /// Refuses what changes the store: pull, push, create, copy, delete, blobs
    #[arg(long, env = "TRAMONTANE_READ_ONLY", value_name = "BOOL", num_args = 0..=1,
        default_missing_value = "1")]
    pub read_only: Option<String>,
    /// Registries that may be pulled from and pushed to; comma list [default: all]
    #[arg(long, env = "TRAMONTANE_REGISTRIES", value_name = "HOSTS")]
    pub registries: Option<String>,
    /// Bytes of a request's body at most, uploads of blobs excepted [default: 16MiB]
    #[arg(long, env = "TRAMONTANE_MAX_BODY", value_name = "SIZE")]
    pub max_body: Option<String>,
    /// Tokens of a prompt at most, before anything is cut [default: 4 Mi]
    #[arg(long, env = "TRAMONTANE_MAX_PROMPT", value_name = "TOKENS")]
    pub max_prompt: Option<String>,
    /// Tokens of an answer at most [default: no limit but 10 contexts]
    #[arg(long, env = "TRAMONTANE_MAX_PREDICT", value_name = "TOKENS")]
    pub max_predict: Option<String>,
    /// How long a request may take in all [default: no limit]
    #[arg(long, env = "TRAMONTANE_MAX_TIME", value_name = "DURATION")]
    pub max_time: Option<String>,
    /// Sends streams a sign of life after so long without a token: a comment, or a line
    /// without text (`15s`) [default: none]
    #[arg(long, env = "TRAMONTANE_STREAM_HEARTBEAT", value_name = "DURATION")]
    pub stream_heartbeat: Option<String>,
    /// Which of these stand on the command line, by their field's name: what a variable
    /// of Ollama's may say wrongly, a flag may not.
    #[arg(skip)]
    pub flags: BTreeSet<String>,
}

/// How the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

impl LogFormat {
    fn read(text: &str) -> Result<Self, String> {
        match clean(Some(text)).as_deref() {
            None | Some("text") => Ok(LogFormat::Text),
            Some("json") => Ok(LogFormat::Json),
            Some(_) => Err("write text or json".into()),
        }
    }
}

impl ServeArgs {
    /// How much the log says: 0, 1 or 2. The log begins before the other settings are
    /// read, so that it has their warnings.
    pub fn debug_level(&self) -> u8 {
        match clean(self.debug.as_deref()).as_deref() {
            None => 0,
            Some("2") => 2,
            Some(text) => u8::from(go_bool(text).unwrap_or(true)),
        }
    }
}
