//! Many conversations with one model at once.

#[allow(dead_code, reason = "the engine that uses them follows")]
mod desk;
#[allow(dead_code, reason = "the engine that uses them follows")]
mod stream;

#[cfg(test)]
mod desk_tests;

/// What `desk.rs` and `stream.rs` build upon. `tests/engine_orders.rs` compiles the same
/// two files upon loom's versions of these, and runs them in every order of events.
mod sync {
    pub(super) use std::sync::atomic::{AtomicBool, Ordering};
    pub(super) use std::sync::{Arc, Condvar, Mutex, MutexGuard};
}
