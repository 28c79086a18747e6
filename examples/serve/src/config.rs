//! Settings: the OLLAMA_* variables, and the same as flags.

use std::path::PathBuf;
use std::time::Duration;

use tramontane::KvType;

use crate::wire::{Address, KeepAlive};

/// Settings of `serve`, as written: a flag comes before its variable. What cannot be
/// read falls back to the default with a warning, as Ollama does it; what would change
/// who may do what is an error.
#[derive(clap::Args, Debug, Clone, Default)]
pub struct ServeArgs {
    /// Where to listen: HOST, HOST:PORT or unix:PATH [default: 127.0.0.1:11434]
    #[arg(long, env = "OLLAMA_HOST", value_name = "ADDRESS")]
    pub host: Option<String>,
    /// Folder of the models [default: ~/.ollama/models]
    #[arg(long, env = "OLLAMA_MODELS", value_name = "FOLDER")]
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
    /// How the log is written [default: text]
    #[arg(long, env = "TRAMONTANE_LOG_FORMAT", value_name = "FORMAT")]
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
    /// Keys of which a request must bring one (`Authorization: Bearer …`); comma list
    #[arg(long, env = "TRAMONTANE_API_KEYS", value_name = "KEYS", hide_env_values = true)]
    pub api_keys: Option<String>,
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
}

/// How the log is written.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

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
}

impl ServeArgs {
    /// How much the log says: 0, 1 or 2. The log begins before the other settings are
    /// read, so that it has their warnings.
    pub fn debug_level(&self) -> u8 {
        match clean(self.debug.as_deref()).as_deref() {
            Some("2") => 2,
            text => u8::from(truth(text)),
        }
    }
}

impl Config {
    /// Reads `args`.
    ///
    /// # Errors
    /// One sentence about the first setting that must not be guessed.
    pub fn new(args: &ServeArgs) -> Result<Self, String> {
        let text = |value: &Option<String>| clean(value.as_deref());
        let count = |name: &str, value: &Option<String>, default: usize| {
            text(value).map_or(default, |text| lenient(name, text.parse(), default))
        };
        let optional = |name: &str, value: &Option<String>| {
            Some(count(name, value, 0)).filter(|&number| number > 0)
        };
        let keep_alive = text(&args.keep_alive);
        Ok(Config {
            bind: bind(text(&args.host).as_deref()),
            models: args
                .models
                .clone()
                .filter(|path| !path.as_os_str().is_empty())
                .map_or_else(default_models, Ok)?,
            keep_alive: keep_alive.map_or(FIVE_MINUTES, |text| KeepAlive::from_env(&text)),
            num_parallel: count("OLLAMA_NUM_PARALLEL", &args.num_parallel, 0),
            max_loaded: count("OLLAMA_MAX_LOADED_MODELS", &args.max_loaded_models, 0),
            max_queue: count("OLLAMA_MAX_QUEUE", &args.max_queue, 512).max(1),
            context_length: optional("OLLAMA_CONTEXT_LENGTH", &args.context_length).unwrap_or(4096),
            origins: origins(text(&args.origins).as_deref())?,
            kv_type: kv_type(text(&args.kv_cache_type).as_deref())?,
            load_timeout: load_timeout(text(&args.load_timeout).as_deref()),
            no_prune: truth(text(&args.no_prune).as_deref()),
            threads: optional("OLLAMA_NUM_THREADS", &args.num_threads),
            memory: size("--memory", text(&args.memory).as_deref())?,
            files: args.files.clone(),
            allow_paths: args.allow_paths,
            api_keys: list(text(&args.api_keys).as_deref()),
            read_only: truth(text(&args.read_only).as_deref()),
            registries: text(&args.registries).map(|text| list(Some(&text))),
            limits: limits(args)?,
        })
    }
}

const FIVE_MINUTES: KeepAlive = KeepAlive::For(Duration::from_secs(300));

fn limits(args: &ServeArgs) -> Result<Limits, String> {
    let number = |name: &str, value: &Option<String>| match clean(value.as_deref()) {
        None => Ok(None),
        Some(text) => {
            text.parse().map(Some).map_err(|_| format!("{name} {text:?} is no number of tokens"))
        }
    };
    let body = size("--max-body", clean(args.max_body.as_deref()).as_deref())?;
    let duration = |name: &str, value: &Option<String>| match clean(value.as_deref()) {
        None => Ok(None),
        Some(text) => match KeepAlive::from_text(&text) {
            Ok(KeepAlive::For(time)) => Ok(Some(time)),
            _ => Err(format!("{name} {text:?} is no duration; write 90s or 5m")),
        },
    };
    let heartbeat = duration("--stream-heartbeat", &args.stream_heartbeat)?;
    Ok(Limits {
        body: body.map_or(16 << 20, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX)),
        prompt: number("--max-prompt", &args.max_prompt)?.unwrap_or(4 << 20),
        predict: number("--max-predict", &args.max_predict)?,
        time: duration("--max-time", &args.max_time)?,
        heartbeat: heartbeat.filter(|time| !time.is_zero()),
    })
}

/// A value as Ollama reads it: without spaces and quotes around it; none if empty.
pub fn clean(value: Option<&str>) -> Option<String> {
    let text = value?.trim().trim_matches(['"', '\'']);
    (!text.is_empty()).then(|| text.to_owned())
}

/// The value, or the default with a warning.
fn lenient<T, E: std::fmt::Display>(name: &str, value: Result<T, E>, default: T) -> T {
    value.unwrap_or_else(|error| {
        tracing::warn!(name, %error, "not understood, the default is used");
        default
    })
}

/// Go's ParseBool; any other text is true.
fn truth(text: Option<&str>) -> bool {
    !matches!(text, None | Some("0" | "f" | "F" | "false" | "FALSE" | "False"))
}

fn list(text: Option<&str>) -> Vec<String> {
    let items = text.unwrap_or_default().split(',').map(str::trim);
    items.filter(|item| !item.is_empty()).map(str::to_owned).collect()
}

/// Origins with at most one `*` and a scheme; Ollama panics at the others.
fn origins(text: Option<&str>) -> Result<Vec<String>, String> {
    let origins = list(text);
    let good = |origin: &&String| {
        origin.matches('*').count() < 2 && (origin.contains('*') || origin.contains("://"))
    };
    match origins.iter().find(|origin| !good(origin)) {
        Some(bad) => Err(format!(
            "OLLAMA_ORIGINS: {bad:?} needs a scheme, as in https://example.com, and at most one *"
        )),
        None => Ok(origins),
    }
}

fn kv_type(text: Option<&str>) -> Result<KvType, String> {
    match text.map(str::to_lowercase).as_deref() {
        None | Some("f16" | "i16" | "bf16") => Ok(KvType::default()),
        Some("q8_0") => Ok(KvType::Q8_0),
        Some("f32") => Ok(KvType::F32),
        Some(other) => {
            Err(format!("OLLAMA_KV_CACHE_TYPE: {other:?} is not known; choose f16, q8_0 or f32"))
        }
    }
}

/// 0 and less: no limit.
fn load_timeout(text: Option<&str>) -> Option<Duration> {
    let five = Some(Duration::from_secs(300));
    let Some(text) = text else { return five };
    match KeepAlive::from_text(text) {
        Ok(KeepAlive::For(time)) => Some(time).filter(|time| !time.is_zero()),
        Ok(KeepAlive::Forever) => None,
        Err(error) => lenient("OLLAMA_LOAD_TIMEOUT", Err(error), five),
    }
}

/// `6GiB`, `500 MB`, `1073741824`.
fn size(name: &str, text: Option<&str>) -> Result<Option<u64>, String> {
    let Some(text) = text else { return Ok(None) };
    let wrong = || format!("{name} {text:?} is no size; write for example 6GiB or 500MB");
    let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: f64 = number.parse().map_err(|_| wrong())?;
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1.0,
        "k" | "kb" => 1e3,
        "m" | "mb" => 1e6,
        "g" | "gb" => 1e9,
        "t" | "tb" => 1e12,
        "ki" | "kib" => 1024.0,
        "mi" | "mib" => 1_048_576.0,
        "gi" | "gib" => 1_073_741_824.0,
        "ti" | "tib" => 1_099_511_627_776.0,
        _ => return Err(wrong()),
    };
    // Saturates; nobody has more.
    Ok(Some((number * factor) as u64))
}

fn default_models() -> Result<PathBuf, String> {
    let home = std::env::home_dir().filter(|home| !home.as_os_str().is_empty());
    let home = home.ok_or("there is no home folder; say where the models are with --models")?;
    Ok(home.join(".ollama").join("models"))
}

fn bind(text: Option<&str>) -> Bind {
    match Address::parse(text.unwrap_or("127.0.0.1:11434")) {
        Address::Unix(path) => Bind::Unix(path),
        Address::Tcp { host, port, has_port, .. } => Bind::Tcp(
            match host.as_str() {
                // As Go has it: a port alone is everybody's.
                "" if has_port => "0.0.0.0".into(),
                "" => "127.0.0.1".into(),
                _ => host,
            },
            port,
        ),
    }
}
