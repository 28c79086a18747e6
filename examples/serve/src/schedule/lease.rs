//! The right to use a model: as long as it lives, the model stays.

use std::sync::Arc;
use std::time::Duration;

use tramontane::{Engine, Model};

use super::Shared;

/// A model in use.
pub struct Lease {
    pub(super) shared: Arc<Shared>,
    pub(super) id: u64,
    pub(super) engine: Option<Arc<Engine>>,
    pub(super) num_ctx: usize,
    pub(super) load_duration: Duration,
    pub(super) model: Model,
}

impl Lease {
    /// The engine; none only while the lease is being dropped.
    pub fn engine(&self) -> Option<&Engine> {
        self.engine.as_deref()
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Positions that this request may use.
    pub fn num_ctx(&self) -> usize {
        self.num_ctx
    }

    /// From asking for the model until it was there.
    pub fn load_duration(&self) -> Duration {
        self.load_duration
    }

    /// Looks at what the engine failed with. If it has ended by itself, the next request
    /// gets a new one.
    pub fn note(&self, error: &tramontane::Error) {
        if matches!(error, tramontane::Error::Closed) {
            self.shared.broken(self.id);
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // The model may be out of the scheduler already: then this ends its engine,
        // which waits for a thread.
        if let Some(engine) = self.engine.take()
            && Arc::strong_count(&engine) == 1
        {
            self.shared.runtime.spawn_blocking(move || drop(engine));
        }
        self.shared.release(self.id);
    }
}
