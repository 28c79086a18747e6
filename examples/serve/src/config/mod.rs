//! Settings: what may be set, and what it comes to.
//!
//! What is not understood never passes silently. Flags and our own variables are refused
//! with a sentence. Variables that Ollama takes in any form are taken as Ollama takes
//! them, and a warning says which value is used.

mod args;
mod read;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use tramontane::KvType;

use crate::wire::KeepAlive;

pub use args::{LogFormat, ServeArgs, path};
pub use value::{clean, go_bool};

/// Where the server listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Bind {
    /// Host and port; port 0 takes a free one.
    Tcp(String, u16),
    /// A Unix socket.
    Unix(PathBuf),
}

/// What one request may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of a JSON body.
    pub body: usize,
    /// Tokens of a prompt, before anything is cut.
    pub prompt: usize,
    /// Tokens of an answer.
    pub predict: Option<usize>,
    /// From arrival to end.
    pub time: Option<Duration>,
    /// Between signs of life of a stream that has nothing else to say; none: there are none.
    pub heartbeat: Option<Duration>,
}

/// Settings, with nothing left open.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen.
    pub bind: Bind,
    /// Folder of the models.
    pub models: PathBuf,
    /// How long models stay in memory.
    pub keep_alive: KeepAlive,
    /// Conversations that a model has room for; 0: as the engine thinks.
    pub num_parallel: usize,
    /// Models in memory; 0: as the scheduler thinks.
    pub max_loaded: usize,
    /// Requests that may wait.
    pub max_queue: usize,
    /// Positions of a conversation that does not say.
    pub context_length: usize,
    /// Origins besides the local ones.
    pub origins: Vec<String>,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// How long loading may take; none: for ever.
    pub load_timeout: Option<Duration>,
    /// Whether unneeded files stay.
    pub no_prune: bool,
    /// Threads per model.
    pub threads: Option<usize>,
    /// Bytes for all models.
    pub memory: Option<u64>,
    /// Files that are served under their path.
    pub files: Vec<PathBuf>,
    /// Whether any path may be a name.
    pub allow_paths: bool,
    /// Keys; none: everybody may ask.
    pub api_keys: Vec<String>,
    /// Whether the store may not be changed.
    pub read_only: bool,
    /// Registries; none: all.
    pub registries: Option<Vec<String>>,
    /// What one request may take.
    pub limits: Limits,
    /// Settings that were not understood, and what is used instead: a sentence each.
    pub warnings: Vec<String>,
}
