//! Counts and times for Prometheus.

use std::sync::atomic::{AtomicI64, AtomicU64};
use std::time::{Duration, Instant};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

use crate::answer::Done;
use crate::schedule::Scheduler;

/// A request's labels.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Labels {
    /// The route of the table, not the path: a client cannot make new ones.
    route: String,
    status: u16,
}

/// Everything that is counted.
pub struct Metrics {
    registry: Registry,
    requests: Family<Labels, Counter>,
    prompt_tokens: Counter,
    reused_tokens: Counter,
    generated_tokens: Counter,
    dropped_tokens: Counter,
    first_token: Histogram,
    between_tokens: Histogram,
    running: Gauge,
    loaded: Gauge,
    queue: Gauge,
    model_bytes: Gauge<i64, AtomicI64>,
    kv_bytes: Gauge<i64, AtomicI64>,
    resident: Gauge<i64, AtomicI64>,
    loads: Gauge<u64, AtomicU64>,
    evictions: Gauge<u64, AtomicU64>,
    refusals: Gauge<u64, AtomicU64>,
}

impl Default for Metrics {
    fn default() -> Self {
        Metrics::new()
    }
}

/// 1 ms to 100 s, three steps per decade.
const FIRST: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// 0.1 ms to 2 s.
const BETWEEN: [f64; 14] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0];

impl Metrics {
    /// All at zero.
    pub fn new() -> Self {
        let mut metrics = Metrics {
            registry: Registry::with_prefix("tramontane"),
            requests: Family::default(),
            prompt_tokens: Counter::default(),
            reused_tokens: Counter::default(),
            generated_tokens: Counter::default(),
            dropped_tokens: Counter::default(),
            first_token: Histogram::new(FIRST),
            between_tokens: Histogram::new(BETWEEN),
            running: Gauge::default(),
            loaded: Gauge::default(),
            queue: Gauge::default(),
            model_bytes: Gauge::default(),
            kv_bytes: Gauge::default(),
            resident: Gauge::default(),
            loads: Gauge::default(),
            evictions: Gauge::default(),
            refusals: Gauge::default(),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("requests", "Requests answered, by route and status", self.requests.clone());
        r.register("prompt_tokens", "Tokens of prompts computed", self.prompt_tokens.clone());
        r.register(
            "reused_prompt_tokens",
            "Tokens of prompts that had been computed before",
            self.reused_tokens.clone(),
        );
        r.register("generated_tokens", "Tokens generated", self.generated_tokens.clone());
        r.register(
            "dropped_tokens",
            "Tokens of conversations dropped for room",
            self.dropped_tokens.clone(),
        );
        let s = Unit::Seconds;
        let (first, between) = (self.first_token.clone(), self.between_tokens.clone());
        r.register_with_unit("time_to_first_token", "Arrival to first token", s.clone(), first);
        r.register_with_unit("inter_token", "Between tokens of one answer", s, between);
        r.register("running_answers", "Answers being generated", self.running.clone());
        r.register("loaded_models", "Models in memory", self.loaded.clone());
        r.register("queue_length", "Requests that wait", self.queue.clone());
        let b = Unit::Bytes;
        let (models, kv) = (self.model_bytes.clone(), self.kv_bytes.clone());
        r.register_with_unit("models", "Memory that loaded models may take", b.clone(), models);
        r.register_with_unit("kv_cache", "Keys and values held", b.clone(), kv);
        r.register_with_unit("resident_memory", "Of this process", b, self.resident.clone());
        r.register("model_loads_so_far", "Models loaded", self.loads.clone());
        r.register("model_evictions_so_far", "Models evicted", self.evictions.clone());
        r.register("refused_so_far", "Requests refused: queue full", self.refusals.clone());
    }

    /// A request was answered.
    pub fn request(&self, route: &str, status: u16) {
        let route = if route.is_empty() { "unknown" } else { route };
        self.requests.get_or_create(&Labels { route: route.to_owned(), status }).inc();
    }

    /// An answer begins; `arrived` is when its request did.
    pub fn answer(&self, arrived: Instant) -> Stopwatch {
        self.running.inc();
        Stopwatch {
            first: self.first_token.clone(),
            between: self.between_tokens.clone(),
            running: self.running.clone(),
            last: arrived,
            begun: false,
        }
    }

    /// An answer ended well.
    pub fn done(&self, done: &Done) {
        self.prompt_tokens.inc_by((done.prompt_tokens - done.reused_tokens) as u64);
        self.reused_tokens.inc_by(done.reused_tokens as u64);
        self.generated_tokens.inc_by(done.generated_tokens as u64);
        self.dropped_tokens.inc_by(done.dropped_tokens as u64);
    }

    /// The text that Prometheus reads.
    pub fn render(&self, scheduler: &Scheduler) -> String {
        let loaded = scheduler.loaded();
        self.loaded.set(loaded.len() as i64);
        self.model_bytes.set(loaded.iter().map(|model| model.size as i64).sum());
        self.kv_bytes.set(loaded.iter().map(|model| model.stats.kv_bytes as i64).sum());
        let in_engines: usize = loaded.iter().map(|model| model.stats.waiting).sum();
        let totals = scheduler.totals();
        self.queue.set((totals.waiting + in_engines) as i64);
        self.loads.set(totals.loads);
        self.evictions.set(totals.evictions);
        self.refusals.set(totals.refusals);
        self.resident.set(resident_bytes());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

/// Measures one answer.
pub struct Stopwatch {
    first: Histogram,
    between: Histogram,
    running: Gauge,
    last: Instant,
    begun: bool,
}

impl Stopwatch {
    /// A token came.
    pub fn token(&mut self) {
        let now = Instant::now();
        let gap = now.duration_since(self.last);
        self.last = now;
        let histogram = if self.begun { &self.between } else { &self.first };
        histogram.observe(gap.as_secs_f64());
        self.begun = true;
    }
}

impl Drop for Stopwatch {
    fn drop(&mut self) {
        self.running.dec();
    }
}

/// Memory of this process that is in RAM; 0 where the system does not say.
pub fn resident_bytes() -> i64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap_or_default();
    let pages = statm.split(' ').nth(1).and_then(|pages| pages.parse::<i64>().ok());
    // Pages of 4 KiB on every system that has this file and runs AVX; 16 KiB and 64 KiB
    // ARM kernels exist, there the figure is too small.
    pages.unwrap_or(0) * 4096
}

/// Nanoseconds for JSON.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
