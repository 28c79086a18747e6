//! A model in memory, and who uses it.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use serde_json::Value;
use tramontane::Engine;

use crate::wire::KeepAlive;

use super::types::{Loaded, Source};

/// A loaded model.
pub(super) struct Slot {
    /// Never used twice.
    pub id: u64,
    pub name: String,
    pub source: Source,
    pub engine: Arc<Engine>,
    /// Bytes that it may take.
    pub size: u64,
    /// Bytes of keys and values that it has room for.
    pub kv_bytes: usize,
    /// Positions of the last conversation.
    pub num_ctx: usize,
    pub info: Value,
    /// Leases.
    pub in_use: usize,
    /// What the last request said that said something, or the default.
    pub keep_alive: KeepAlive,
    /// When the last lease began or ended.
    pub last_used: Instant,
}

impl Slot {
    /// Whether nobody has used it for as long as it may stay.
    pub fn expired(&self, now: Instant) -> bool {
        let idle = now.duration_since(self.last_used);
        self.in_use == 0 && matches!(self.keep_alive, KeepAlive::For(time) if idle >= time)
    }

    pub fn loaded(&self) -> Loaded {
        let idle = if self.in_use > 0 { Duration::ZERO } else { self.last_used.elapsed() };
        let left = match self.keep_alive {
            KeepAlive::For(time) => Some(time.saturating_sub(idle)),
            KeepAlive::Forever => None,
        };
        Loaded {
            name: self.name.clone(),
            source: self.source.clone(),
            size: self.size,
            expires_at: left.and_then(|left| SystemTime::now().checked_add(left)),
            num_ctx: self.num_ctx,
            info: self.info.clone(),
            stats: self.engine.stats(),
        }
    }
}
