//! Counts and times for Prometheus.

use std::fmt;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, Instant};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

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
    prompt_due: Gauge,
    model_bytes: Gauge<i64, AtomicI64>,
    kv_bytes: Gauge<i64, AtomicI64>,
    resident: Gauge<i64, AtomicI64>,
    scheduler: Scheduler,
}

/// Tokens of one answer.
#[derive(Debug, Clone, Copy)]
pub struct Tokens {
    /// Of the prompt, computed.
    pub computed: usize,
    /// Of the prompt, computed before.
    pub reused: usize,
    /// Of the answer.
    pub generated: usize,
    /// Dropped for room.
    pub dropped: usize,
}

/// The scheduler's own counters, read when somebody asks.
struct Totals(Scheduler);

/// 1 ms to 100 s, three steps per decade.
const FIRST: [f64; 16] =
    [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0];
/// 0.1 ms to 2 s.
const BETWEEN: [f64; 14] =
    [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0];

impl Metrics {
    /// All at zero; what the scheduler counts is read from it.
    pub fn new(scheduler: Scheduler) -> Self {
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
            prompt_due: Gauge::default(),
            model_bytes: Gauge::default(),
            kv_bytes: Gauge::default(),
            resident: Gauge::default(),
            scheduler,
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
        r.register(
            "prompt_tokens_due",
            "Tokens of running requests' prompts that are still to be computed",
            self.prompt_due.clone(),
        );
        let b = Unit::Bytes;
        let (models, kv) = (self.model_bytes.clone(), self.kv_bytes.clone());
        r.register_with_unit("models", "Memory that loaded models may take", b.clone(), models);
        r.register_with_unit("kv_cache", "Keys and values held", b.clone(), kv);
        r.register_with_unit("resident_memory", "Of this process", b, self.resident.clone());
        r.register_collector(Box::new(Totals(self.scheduler.clone())));
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
    pub fn done(&self, tokens: Tokens) {
        self.prompt_tokens.inc_by(tokens.computed as u64);
        self.reused_tokens.inc_by(tokens.reused as u64);
        self.generated_tokens.inc_by(tokens.generated as u64);
        self.dropped_tokens.inc_by(tokens.dropped as u64);
    }

    /// The text that Prometheus reads.
    pub fn render(&self) -> String {
        let loaded = self.scheduler.loaded();
        self.loaded.set(loaded.len() as i64);
        self.model_bytes.set(loaded.iter().map(|model| model.size as i64).sum());
        self.kv_bytes.set(loaded.iter().map(|model| model.stats.kv_bytes as i64).sum());
        let in_engines: usize = loaded.iter().map(|model| model.stats.waiting).sum();
        self.queue.set((self.scheduler.totals().waiting + in_engines) as i64);
        let due: usize = loaded.iter().map(|model| model.stats.prompt_tokens_due).sum();
        self.prompt_due.set(due as i64);
        self.resident.set(resident_bytes());
        let mut text = String::new();
        // Writing to a string does not fail.
        let _ = prometheus_client::encoding::text::encode(&mut text, &self.registry);
        text
    }
}

impl fmt::Debug for Totals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Totals").field(&self.0.totals()).finish()
    }
}

impl Collector for Totals {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let totals = self.0.totals();
        let counters = [
            ("model_loads", "Models loaded", totals.loads),
            ("model_evictions", "Models evicted", totals.evictions),
            ("refused_requests", "Requests refused: queue full", totals.refusals),
        ];
        for (name, help, count) in counters {
            let counter = ConstCounter::new(count);
            let descriptor = encoder.encode_descriptor(name, help, None, counter.metric_type())?;
            counter.encode(descriptor)?;
        }
        Ok(())
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
    resident(&std::fs::read_to_string("/proc/self/status").unwrap_or_default())
}

/// `VmRSS` of `/proc/self/status`, which is in KiB whatever the size of a page.
pub fn resident(status: &str) -> i64 {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.trim().strip_suffix("kB")?.trim().parse::<i64>().ok());
    kib.unwrap_or(0).saturating_mul(1024)
}

/// Nanoseconds for JSON.
pub fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}
