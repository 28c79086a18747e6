//! Which models are in memory, and for how long.
//!
//! ```text
//! acquire ─► loaded? ─► lease ──────────────► dropped: keep-alive runs ─► unloaded
//!               │ no                              ▲
//!               └► one at a time: make room (least recently used first), load
//! ```

mod error;
mod lease;
mod load;
mod memory;
mod slot;
mod types;

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::watch;

pub use error::{ScheduleError, binary};
pub use lease::Lease;
pub use types::{Loaded, SchedulerOptions, Source, Totals, Want};

use crate::wire::KeepAlive;

use slot::Slot;

/// Has models in memory. Clones are the same scheduler.
#[derive(Clone)]
pub struct Scheduler(Arc<Shared>);

struct Shared {
    options: SchedulerOptions,
    /// Bytes for all models.
    memory: u64,
    slots: Mutex<Vec<Slot>>,
    /// Held by the one request that loads.
    loading: tokio::sync::Mutex<()>,
    /// Counts up when a model became idle or went: who waits for room looks again.
    changed: watch::Sender<u64>,
    /// Whether answers must end now.
    cut_off: watch::Sender<bool>,
    draining: AtomicBool,
    waiting: AtomicUsize,
    loads: AtomicU64,
    evictions: AtomicU64,
    refusals: AtomicU64,
    runtime: tokio::runtime::Handle,
}

impl Scheduler {
    /// Nothing is loaded. Must be called in a runtime, whose timers it uses.
    pub fn new(options: SchedulerOptions) -> Self {
        let memory = options.memory.unwrap_or_else(memory::available);
        Scheduler(Arc::new(Shared {
            options,
            memory,
            slots: Mutex::default(),
            loading: tokio::sync::Mutex::default(),
            changed: watch::Sender::new(0),
            cut_off: watch::Sender::new(false),
            draining: AtomicBool::new(false),
            waiting: AtomicUsize::new(0),
            loads: AtomicU64::new(0),
            evictions: AtomicU64::new(0),
            refusals: AtomicU64::new(0),
            runtime: tokio::runtime::Handle::current(),
        }))
    }

    /// Lets a model go as soon as it is idle. Whether it was there.
    pub fn unload(&self, source: &Source) -> bool {
        let mut slots = self.0.slots();
        let Some(slot) = slots.iter_mut().find(|slot| slot.source == *source) else {
            return false;
        };
        slot.keep_alive = KeepAlive::For(Duration::ZERO);
        let id = slot.id;
        drop(slots);
        self.0.remove_if(id, |slot| slot.in_use == 0);
        true
    }

    /// Bytes for all models.
    pub fn memory(&self) -> u64 {
        self.0.memory
    }

    /// The models in memory.
    pub fn loaded(&self) -> Vec<Loaded> {
        self.0.slots().iter().map(Slot::loaded).collect()
    }

    /// Counts.
    pub fn totals(&self) -> Totals {
        let shared = &self.0;
        Totals {
            waiting: shared.waiting.load(Ordering::Relaxed),
            loads: shared.loads.load(Ordering::Relaxed),
            evictions: shared.evictions.load(Ordering::Relaxed),
            refusals: shared.refusals.load(Ordering::Relaxed),
        }
    }

    /// Whether the server is ending.
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// Turns true when answers must end at once.
    pub fn cut_off(&self) -> watch::Receiver<bool> {
        self.0.cut_off.subscribe()
    }

    /// Takes no more requests, waits until those that run have ended, `at_most` so long,
    /// then cuts them off; unloads everything.
    pub async fn drain(&self, at_most: Duration) {
        let shared = &self.0;
        shared.draining.store(true, Ordering::Release);
        shared.bump();
        let mut changed = shared.changed.subscribe();
        let idle = async {
            while shared.slots().iter().any(|slot| slot.in_use > 0) {
                // The sender lives as long as `shared`.
                let _ = changed.changed().await;
            }
        };
        if tokio::time::timeout(at_most, idle).await.is_err() {
            tracing::warn!("answers are cut off");
        }
        shared.cut_off.send_replace(true);
        let ids: Vec<u64> = shared.slots().iter().map(|slot| slot.id).collect();
        ids.into_iter().for_each(|id| shared.remove(id));
    }
}

impl Shared {
    fn slots(&self) -> MutexGuard<'_, Vec<Slot>> {
        // What panicked under the lock has not left anything half done.
        self.slots.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whoever waits looks again.
    fn bump(&self) {
        self.changed.send_modify(|count| *count = count.wrapping_add(1));
    }

    /// Takes a model out, in use or not. Its engine ends when its last lease does.
    fn remove(&self, id: u64) {
        self.remove_if(id, |_| true);
    }

    /// Takes a model out if `fits` holds at that very moment. Whether it did.
    fn remove_if(&self, id: u64, fits: impl Fn(&Slot) -> bool) -> bool {
        let gone = {
            let mut slots = self.slots();
            let at = slots.iter().position(|slot| slot.id == id && fits(slot));
            at.map(|at| slots.remove(at))
        };
        let Some(slot) = gone else { return false };
        tracing::info!(name = slot.name, "unloaded");
        // Ending an engine waits for its thread.
        self.runtime.spawn_blocking(move || drop(slot));
        self.bump();
        true
    }

    /// A lease ended.
    fn release(self: &Arc<Self>, id: u64) {
        let mut slots = self.slots();
        let Some(slot) = slots.iter_mut().find(|slot| slot.id == id) else {
            drop(slots);
            return self.bump();
        };
        slot.in_use -= 1;
        slot.last_used = Instant::now();
        if slot.in_use > 0 {
            return;
        }
        let keep_alive = slot.keep_alive;
        drop(slots);
        match keep_alive {
            KeepAlive::For(time) if time.is_zero() => {
                self.remove_if(id, |slot| slot.expired(Instant::now()));
            }
            KeepAlive::For(time) => self.expire_after(id, time),
            KeepAlive::Forever => {}
        }
        self.bump();
    }

    /// Has an idle model go after `time`, unless it was used since.
    fn expire_after(self: &Arc<Self>, id: u64, time: Duration) {
        // A timer must not keep the scheduler alive.
        let shared = Arc::downgrade(self);
        self.runtime.spawn(async move {
            tokio::time::sleep(time).await;
            let Some(shared) = shared.upgrade() else { return };
            shared.remove_if(id, |slot| slot.expired(Instant::now()));
        });
    }

    /// A model whose engine has ended by itself is no model any more.
    fn broken(&self, id: u64) {
        tracing::error!("an engine ended; its model is loaded afresh when it is asked for");
        self.remove(id);
    }
}
