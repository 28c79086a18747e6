//! Threads: one parallel region per forward pass, phases inside it.
//!
//! A [`Pool`] owns parked worker threads. [`Pool::region`] wakes them once; in
//! the region the calling thread drives: it runs ordinary sequential code and
//! hands out phases through its [`Team`]. A phase is published with one atomic
//! store and joined by counting down another, so it costs about as much as a
//! spin barrier (well under a microsecond) and no system call. Outside a region
//! the workers sleep.
//!
//! Callers stay safe code: a phase borrows what it reads, and writes go to
//! disjoint items that [`Team::for_each`] hands out.

use std::any::Any;
use std::cell::UnsafeCell;
use std::marker::PhantomData;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::available_parallelism;

use crate::error::{Error, Result};

/// Spins before a waiting thread starts to yield its processor: about 50 µs,
/// longer than any phase of a small model, shorter than a scheduler's slice.
const SPINS: u32 = 4_000;

/// The same where there are more threads than processors: whoever waits there keeps
/// another from what is waited for (4 threads on 2 processors decoded at 0.43 of
/// the speed of 2 with the long spin).
const SPINS_CROWDED: u32 = 20;

/// More threads than this is a typing error, not a machine.
const MAX_THREADS: usize = 1024;

/// Worker threads of one model. Regions of several callers take turns.
pub(crate) struct Pool {
    /// One fewer than the threads in use: the caller is worker 0.
    workers: Option<rayon::ThreadPool>,
    threads: usize,
    spins: u32,
    turn: Mutex<()>,
}

impl Pool {
    /// A pool of `threads` threads, the caller of a region included.
    pub fn new(threads: usize) -> Result<Self> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(Error::misuse(format!(
                "option \"threads\" must be between 1 and {MAX_THREADS}, got {threads}"
            )));
        }
        let workers = match threads - 1 {
            0 => None,
            n => {
                let builder = rayon::ThreadPoolBuilder::new().num_threads(n);
                let pool = builder.thread_name(|i| format!("tramontane-{}", i + 1)).build();
                Some(pool.map_err(|e| Error::misuse(format!("cannot start {n} threads: {e}")))?)
            }
        };
        let processors = available_parallelism().map_or(threads, usize::from);
        let spins = if threads > processors { SPINS_CROWDED } else { SPINS };
        Ok(Pool { workers, threads, spins, turn: Mutex::new(()) })
    }

    /// Number of threads, the caller of a region included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Runs `drive` on the calling thread with the workers standing by.
    pub fn region<R>(&self, drive: impl FnOnce(&Team<'_>) -> R) -> R {
        let shared = Shared {
            threads: self.threads,
            spins: self.spins,
            phase: AtomicUsize::new(0),
            stop: AtomicBool::new(false),
            busy: AtomicUsize::new(0),
            task: UnsafeCell::new(None),
            panic: Mutex::new(None),
        };
        let team = Team { shared: &shared, _driver_only: PhantomData };
        let Some(workers) = &self.workers else { return drive(&team) };
        // A poisoned turn means that another caller's phase panicked; the lock
        // guards no data.
        let _turn = self.turn.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        workers.in_place_scope(|scope| {
            scope.spawn_broadcast(|_, context| shared.work(context.index() + 1));
            let _stop = StopOnDrop(&shared);
            drive(&team)
        })
    }
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} threads", self.threads)
    }
}

/// Lets the workers leave, also when the driver panics.
struct StopOnDrop<'a>(&'a Shared);

impl Drop for StopOnDrop<'_> {
    fn drop(&mut self) {
        self.0.stop.store(true, Ordering::Release);
    }
}

type Phase = dyn Fn(usize) + Sync;

/// What the driver and the workers of one region share.
struct Shared {
    threads: usize,
    /// How long to spin before yielding.
    spins: u32,
    /// Number of phases published so far.
    phase: AtomicUsize,
    stop: AtomicBool,
    /// Workers that have not finished the current phase.
    busy: AtomicUsize,
    /// The current phase. Written by the driver while no worker is busy, read
    /// by workers after they saw `phase` change.
    task: UnsafeCell<Option<*const Phase>>,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

// SAFETY: `task` is the only field that is not `Sync`. The driver writes it
// only while `busy` is 0 (checked in `Team::run`), and publishes it by the
// release store to `phase` that workers acquire before they read it. The
// closure behind the pointer is `Sync`.
unsafe impl Sync for Shared {}

impl Shared {
    /// A worker's life in one region.
    fn work(&self, worker: usize) {
        let mut seen = 0;
        loop {
            wait_until(self.spins, || {
                self.phase.load(Ordering::Acquire) != seen || self.stop.load(Ordering::Acquire)
            });
            if self.phase.load(Ordering::Acquire) == seen {
                return;
            }
            seen += 1;
            // SAFETY: `phase` changed, so the driver wrote `task` before and
            // does not write it again until this worker counted down `busy`.
            if let Some(task) = unsafe { *self.task.get() } {
                // SAFETY: `Team::run` keeps the closure alive until `busy` is 0.
                self.guard(|| unsafe { (*task)(worker) });
            }
            self.busy.fetch_sub(1, Ordering::Release);
        }
    }

    /// Runs `work`; keeps the first panic for the driver.
    fn guard(&self, work: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(work)) {
            self.panic.lock().unwrap_or_else(|e| e.into_inner()).get_or_insert(panic);
        }
    }
}

fn wait_until(patience: u32, done: impl Fn() -> bool) {
    let mut spins = 0;
    while !done() {
        if spins < patience {
            spins += 1;
            std::hint::spin_loop();
        } else {
            // More threads than processors: let the others work.
            std::thread::yield_now();
        }
    }
}

/// The driver's handle on the threads of a region. Not `Sync`, so a phase
/// cannot start another phase.
pub(crate) struct Team<'a> {
    shared: &'a Shared,
    _driver_only: PhantomData<*const ()>,
}

impl Team<'_> {
    /// Number of threads.
    pub fn threads(&self) -> usize {
        self.shared.threads
    }

    /// Runs `task(worker)` on every thread, worker 0 being the caller, and
    /// returns when all are done.
    pub fn run(&self, task: &(dyn Fn(usize) + Sync)) {
        let shared = self.shared;
        if shared.threads == 1 {
            return task(0);
        }
        // SAFETY: only the lifetime changes. The pointer is last used before
        // `busy` reaches 0, and this function does not return or unwind before.
        let erased: &'static Phase = unsafe {
            std::mem::transmute::<&(dyn Fn(usize) + Sync), &'static (dyn Fn(usize) + Sync)>(task)
        };
        // SAFETY: `busy` is 0 (no phase runs: the previous `run` waited for it),
        // so no worker reads `task`.
        unsafe { *shared.task.get() = Some(std::ptr::from_ref(erased)) };
        shared.busy.store(shared.threads - 1, Ordering::Relaxed);
        shared.phase.fetch_add(1, Ordering::Release);
        shared.guard(|| task(0));
        wait_until(shared.spins, || shared.busy.load(Ordering::Acquire) == 0);
        let panic = shared.panic.lock().unwrap_or_else(|e| e.into_inner()).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    /// Calls `work(index, item)` for every item, each thread taking one
    /// contiguous part. A single item is done by the caller, without a phase.
    pub fn for_each<T: Send>(&self, items: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
        if items.len() <= 1 || self.threads() == 1 {
            items.iter_mut().enumerate().for_each(|(index, item)| work(index, item));
            return;
        }
        let (count, threads) = (items.len(), self.threads());
        let items = Disjoint(items.as_mut_ptr());
        self.run(&|worker| {
            for index in part(count, threads, worker) {
                // SAFETY: `index < count`, and `part` gives every index to one
                // worker only; `items` is borrowed for the whole phase.
                work(index, unsafe { &mut *items.at(index) });
            }
        });
    }

    /// Calls `work(index, item)` for every item, in order: each thread takes the
    /// next one when it is free. For items of unlike cost, dear ones first.
    pub fn share<T: Send>(&self, items: &mut [T], work: impl Fn(usize, &mut T) + Sync) {
        if items.len() <= 1 || self.threads() == 1 {
            items.iter_mut().enumerate().for_each(|(index, item)| work(index, item));
            return;
        }
        let (count, next) = (items.len(), AtomicUsize::new(0));
        let items = Disjoint(items.as_mut_ptr());
        self.run(&|_| {
            loop {
                let index = next.fetch_add(1, Ordering::Relaxed);
                if index >= count {
                    break;
                }
                // SAFETY: `index < count`, and the counter gives every index out
                // once; `items` is borrowed for the whole phase.
                work(index, unsafe { &mut *items.at(index) });
            }
        });
    }
}

/// A pointer whose targets are shared out disjointly.
pub(super) struct Disjoint<T>(pub *mut T);

impl<T> Disjoint<T> {
    /// The place of item `index`.
    ///
    /// # Safety
    /// `index` lies inside the allocation.
    pub unsafe fn at(&self, index: usize) -> *mut T {
        // SAFETY: the caller's promise.
        unsafe { self.0.add(index) }
    }
}

// SAFETY: users hand each target to one thread only, and the targets may be
// sent between threads.
unsafe impl<T: Send> Sync for Disjoint<T> {}

/// Worker `worker`'s contiguous part of `count` things; parts differ by one at
/// most and stay the same from call to call.
pub(crate) fn part(count: usize, threads: usize, worker: usize) -> Range<usize> {
    count * worker / threads..count * (worker + 1) / threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_item_once_for_any_number_of_threads() {
        for threads in [1, 2, 3, 7] {
            let pool = Pool::new(threads).unwrap();
            for count in [0, 1, 2, 5, 64, 1001] {
                let mut items = vec![0usize; count];
                pool.region(|team| {
                    for _ in 0..50 {
                        team.for_each(&mut items, |index, item| *item += index + 1);
                        team.share(&mut items, |index, item| *item += index + 1);
                    }
                });
                assert!(items.iter().enumerate().all(|(i, &n)| n == 100 * (i + 1)));
            }
        }
    }

    #[test]
    fn callers_take_turns() {
        let pool = Pool::new(3).unwrap();
        let total = AtomicUsize::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..100 {
                        pool.region(|team| {
                            team.run(&|_| {
                                total.fetch_add(1, Ordering::Relaxed);
                            })
                        });
                    }
                });
            }
        });
        assert_eq!(total.into_inner(), 4 * 100 * 3);
    }

    #[test]
    fn a_panic_in_a_phase_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(2).unwrap();
        for panicking in [0, 1] {
            let result = catch_unwind(AssertUnwindSafe(|| {
                pool.region(|team| team.run(&|worker| assert_ne!(worker, panicking)))
            }));
            assert!(result.is_err());
        }
        assert_eq!(pool.region(|team| team.threads()), 2);
    }

    #[test]
    fn absurd_thread_counts_are_refused() {
        assert!(Pool::new(0).is_err());
        assert!(Pool::new(usize::MAX).is_err());
    }
}
