//! What a running server has, shared by all handlers.

use std::sync::Arc;

use crate::config::Config;
use crate::metrics::Metrics;
use crate::registry::{Registry, RegistryOptions};
use crate::schedule::{Scheduler, SchedulerOptions};
use crate::store::Store;
use crate::task::blocking;

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

impl App {
    /// Opens the store and makes everything ready; loads no model.
    ///
    /// # Errors
    /// One sentence: the store cannot be opened.
    pub async fn start(config: Config) -> Result<Self, String> {
        let (models, no_prune) = (config.models.clone(), config.no_prune);
        let opened = blocking(move || {
            let store = Store::open(&models, no_prune).map_err(|error| error.to_string())?;
            if !no_prune && let Err(error) = store.prune(PRUNE_AGE) {
                tracing::warn!(%error, "unneeded files were not removed");
            }
            Ok::<_, String>(store)
        });
        let opened = opened.await;
        let store = opened.map_err(|error| format!("{}: {error}", config.models.display()))?;
        let scheduler = Scheduler::new(SchedulerOptions {
            keep_alive: config.keep_alive,
            max_loaded: config.max_loaded,
            max_queue: config.max_queue,
            num_parallel: config.num_parallel,
            kv_type: config.kv_type,
            threads: config.threads,
            num_ctx: config.context_length,
            memory: config.memory,
            load_timeout: config.load_timeout,
        });
        let registry = Registry::new(RegistryOptions {
            allow: config.registries.clone(),
            ..RegistryOptions::default()
        })
        .map_err(|error| error.to_string())?;
        let metrics = Metrics::new(scheduler.clone());
        Ok(App { config, store, scheduler, registry, metrics })
    }
}

/// What nothing refers to is removed at the start if it is older than this; younger
/// files may belong to a running upload.
const PRUNE_AGE: std::time::Duration = std::time::Duration::from_secs(3600);
