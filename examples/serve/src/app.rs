//! What a running server has, shared by all handlers.

use std::path::Path;
use std::sync::Arc;

use tramontane::{Gguf, Isa, Model, ModelOptions};

use crate::config::{Bind, Config};
use crate::metrics::Metrics;
use crate::registry::{Registry, RegistryOptions};
use crate::schedule::{Scheduler, SchedulerOptions, binary};
use crate::store::{Store, StoreError};
use crate::task::blocking;
use crate::wire::is_loopback;

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
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        Isa::from_env().map_err(|error| format!("{}: {error}", Isa::VARIABLE))?;
        for path in &config.files {
            Gguf::open(path).map_err(|error| format!("--model: {error}"))?;
        }
        let (models, no_prune, read_only) =
            (config.models.clone(), config.no_prune, config.read_only);
        let store = blocking(move || open(&models, no_prune, read_only)).await?;
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

    /// The first line of the log: what a person wants to know who has just started it.
    pub fn announce(&self, address: &str) {
        let config = &self.config;
        let machine = ModelOptions::default().with_threads(config.threads);
        let machine = crate::builtin::model(&machine).ok();
        let keys = config.api_keys.len();
        tracing::info!(
            %address,
            version = env!("CARGO_PKG_VERSION"),
            models = %config.models.display(),
            memory = binary(self.scheduler.memory()),
            threads = machine.as_ref().map(Model::threads),
            instructions = machine.as_ref().map(|model| model.isa().name()),
            api_keys = if keys == 0 { "none".to_owned() } else { keys.to_string() },
            read_only = config.read_only,
            "listening"
        );
        let local = match &config.bind {
            Bind::Tcp(host, _) => is_loopback(host),
            Bind::Unix(_) => true,
        };
        if !local && keys == 0 {
            tracing::warn!(
                %address,
                "everybody who reaches this address may use the models{}: set \
                 TRAMONTANE_API_KEYS_FILE, or listen on 127.0.0.1",
                if config.read_only { "" } else { " and change them" }
            );
        }
    }
}

/// Opens the store and, if it may be changed, makes it tidy. One that can only be read
/// is served as it is.
fn open(folder: &Path, no_prune: bool, read_only: bool) -> Result<Store, String> {
    let store = Store::open(folder, no_prune).map_err(|error| error.to_string())?;
    if !read_only {
        match store.prepare() {
            Ok(()) if no_prune => {}
            Ok(()) => {
                if let Err(error) = store.prune(PRUNE_AGE) {
                    tracing::warn!(%error, "unneeded files were not removed");
                }
            }
            // It, or a disk in it, may come later.
            Err(error @ StoreError::NotWritable { .. }) => tracing::warn!("{error}"),
            Err(error) if folder.exists() => tracing::warn!("{error}"),
            Err(error) => return Err(error.to_string()),
        }
    }
    match store.list() {
        Ok(_) => Ok(store),
        // Its disk may come later.
        Err(error @ StoreError::DeadLink(_)) => {
            tracing::warn!("{error}");
            Ok(store)
        }
        // Nothing of it can be served.
        Err(error) => Err(error.to_string()),
    }
}

/// What nothing refers to is removed at the start if it is older than this; younger
/// files may belong to a running upload.
const PRUNE_AGE: std::time::Duration = std::time::Duration::from_secs(3600);
