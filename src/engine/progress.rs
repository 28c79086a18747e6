//! How far a request's prompt is computed, for who waits for its first token.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How much of a prompt is there: see [`Reply::progress`](super::Reply::progress).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct PromptProgress {
    /// Tokens that were computed, or found.
    pub computed: usize,
    /// Tokens of the prompt.
    pub total: usize,
}

/// Shared by the worker and the client of one request.
#[derive(Debug, Clone)]
pub(super) struct Progress {
    computed: Arc<AtomicUsize>,
    total: usize,
}

impl Progress {
    /// Of a prompt of so many tokens, none of which is computed.
    pub fn of(total: usize) -> Self {
        Progress { computed: Arc::default(), total }
    }

    /// So many tokens are there, of the prompt or behind it.
    pub fn reached(&self, tokens: usize) {
        self.computed.store(tokens.min(self.total), Ordering::Relaxed);
    }

    pub fn get(&self) -> PromptProgress {
        PromptProgress { computed: self.computed.load(Ordering::Relaxed), total: self.total }
    }
}
