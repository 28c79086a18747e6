//! What the log says of a request besides its method, path and status.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

tokio::task_local! {
    static CURRENT: Arc<Record>;
}

/// Filled in by whoever knows: the model's name where it is looked up, tokens as they
/// come.
#[derive(Debug, Default)]
pub struct Record {
    model: OnceLock<String>,
    prompt: AtomicUsize,
    generated: AtomicUsize,
}

impl Record {
    /// That of the request whose handler runs; outside of one a new one, which nobody
    /// reads.
    pub fn current() -> Arc<Self> {
        CURRENT.try_with(Arc::clone).unwrap_or_default()
    }

    /// Makes it the current one while `handler` runs.
    pub async fn scope<F: Future>(self: Arc<Self>, handler: F) -> F::Output {
        CURRENT.scope(self, handler).await
    }

    /// The request is for this model. The first name counts.
    pub fn model(&self, name: &str) {
        let _ = self.model.set(name.to_owned());
    }

    /// Tokens of the prompt.
    pub fn read(&self, tokens: usize) {
        self.prompt.fetch_add(tokens, Ordering::Relaxed);
    }

    /// A token was generated.
    pub fn made_one(&self) {
        self.generated.fetch_add(1, Ordering::Relaxed);
    }

    /// The model, if the request is for one.
    pub fn for_model(&self) -> Option<&str> {
        self.model.get().map(String::as_str)
    }

    /// Tokens of the prompt and of the answer, of requests that have them.
    pub fn tokens(&self) -> Option<(usize, usize)> {
        let tokens = (self.prompt.load(Ordering::Relaxed), self.generated.load(Ordering::Relaxed));
        (tokens != (0, 0)).then_some(tokens)
    }
}
