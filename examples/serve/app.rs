//! What a running server has, shared by all handlers.

use std::sync::Arc;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::registry::Registry;
use crate::schedule::Scheduler;
use crate::store::Store;

/// A running server.
pub struct App {
    /// Its settings.
    pub config: Config,
    /// The models on disk.
    pub store: Store,
    /// The models in memory.
    pub scheduler: Scheduler,
    /// Where models come from.
    pub registry: Registry,
    /// Counts and times.
    pub metrics: Metrics,
}

/// What handlers get.
pub type Shared = Arc<App>;
