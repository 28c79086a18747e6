//! A grammar that was compiled.

use std::sync::{Mutex, MutexGuard, PoisonError};

use llguidance::Matcher;

/// A grammar and a parser of it at the start of a text.
pub(super) struct Compiled {
    pub text: String,
    matcher: Mutex<Matcher>,
}

impl Compiled {
    pub fn new(text: String, matcher: Matcher) -> Self {
        Compiled { text, matcher: Mutex::new(matcher) }
    }

    /// A parser of its own, at the start.
    pub fn start(&self) -> Matcher {
        // Nothing is shared: what one text costs cannot end another.
        lock(&self.matcher).deep_clone()
    }
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
