//! What is asked of the scheduler, and what it tells.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use serde_json::Value;
use tramontane::KvType;
use tramontane::engine::EngineStats;

use crate::wire::KeepAlive;

/// Where a model's weights are. Two names of the same weights share what is loaded.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A GGUF file.
    File(PathBuf),
    /// The model that comes with the program.
    Builtin,
}

/// Settings.
#[derive(Debug, Clone)]
pub struct SchedulerOptions {
    /// How long a model stays after its last request, if that does not say.
    pub keep_alive: KeepAlive,
    /// Models in memory at most; 0: three.
    pub max_loaded: usize,
    /// Requests that may wait for a model to load.
    pub max_queue: usize,
    /// Conversations of default length that a model has room for; 0: four.
    pub num_parallel: usize,
    /// How keys and values are stored.
    pub kv_type: KvType,
    /// Threads per model.
    pub threads: Option<usize>,
    /// Positions of a conversation that does not say.
    pub num_ctx: usize,
    /// Bytes for all models; none: what is free now.
    pub memory: Option<u64>,
    /// How long opening a model may take; none: for ever.
    pub load_timeout: Option<Duration>,
}

impl Default for SchedulerOptions {
    fn default() -> Self {
        SchedulerOptions {
            keep_alive: KeepAlive::For(Duration::from_secs(300)),
            max_loaded: 0,
            max_queue: 512,
            num_parallel: 0,
            kv_type: KvType::default(),
            threads: None,
            num_ctx: 4096,
            memory: None,
            load_timeout: Some(Duration::from_secs(300)),
        }
    }
}

/// What a request wants of a model.
#[derive(Debug, Clone, Default)]
pub struct Want {
    /// Positions of the conversation.
    pub num_ctx: Option<usize>,
    /// How long the model stays after this request.
    pub keep_alive: Option<KeepAlive>,
    /// What lists show about the model.
    pub info: Value,
}

/// A model in memory.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The name that it was loaded by.
    pub name: String,
    /// Its weights.
    pub source: Source,
    /// Bytes that it may take, weights included.
    pub size: u64,
    /// When it goes if nobody asks again; none: never.
    pub expires_at: Option<SystemTime>,
    /// Positions of the newest request's conversation.
    pub num_ctx: usize,
    /// What its first request said about it.
    pub info: Value,
    /// What its engine did and holds.
    pub stats: EngineStats,
}

/// Counts since the start, and how many wait now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Totals {
    /// Requests that wait for a model to load.
    pub waiting: usize,
    /// Models loaded.
    pub loads: u64,
    /// Models that had to go for others.
    pub evictions: u64,
    /// Requests refused because too many wait.
    pub refusals: u64,
}
