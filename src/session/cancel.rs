//! Cancelling work from another thread.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// Cancels one piece of work from any thread: a generation of a session or of an engine,
/// an embedding, or a [`feed_cancellable`](crate::Session::feed_cancellable).
///
/// A canceller belongs to that work alone. Cancelling what has ended does nothing, and
/// later work has a canceller of its own.
///
/// ```
/// use tramontane::{FinishReason, GenerateOptions};
/// let mut session = tramontane::Model::open("models/storyteller-q4_k_m.gguf")?.session(&Default::default())?;
/// let mut generation = session.generate("Once upon a time", &GenerateOptions::default())?;
/// let canceller = generation.canceller();
/// std::thread::spawn(move || canceller.cancel());
/// for piece in generation.by_ref() {
///     print!("{}", piece?.text);
/// }
/// let reason = generation.summary().finish_reason;
/// assert!(matches!(reason, Some(FinishReason::Cancelled | FinishReason::EndOfText)));
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Clone, Default)]
pub struct Canceller {
    flag: Arc<AtomicBool>,
    /// Called on cancelling, beyond setting the flag.
    hook: Option<Arc<dyn CancelHook>>,
}

/// What happens when work is cancelled for the first time.
pub(crate) trait CancelHook: Send + Sync {
    fn cancel(&self);
}

impl Canceller {
    /// A canceller for work that is yet to begin.
    pub fn new() -> Self {
        Canceller::default()
    }

    /// A canceller that also calls `hook`.
    pub(crate) fn with_hook(hook: Arc<dyn CancelHook>) -> Self {
        Canceller { flag: Arc::default(), hook: Some(hook) }
    }

    /// Ends the work: a forward pass stops within one layer, and what was generated before
    /// stays.
    pub fn cancel(&self) {
        self.flag.store(true, Ordering::Relaxed);
        if let Some(hook) = &self.hook {
            hook.cancel();
        }
    }

    /// Whether [`cancel`](Canceller::cancel) was called on this canceller or a clone.
    pub fn is_cancelled(&self) -> bool {
        self.flag.load(Ordering::Relaxed)
    }

    /// What a forward pass looks at.
    pub(crate) fn flag(&self) -> &AtomicBool {
        &self.flag
    }
}

impl fmt::Debug for Canceller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Canceller").field(&self.is_cancelled()).finish()
    }
}
