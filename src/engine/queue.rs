//! The bounded queue between clients and the one worker.
//!
//! ```text
//! clients ─ Queue::submit ─► queue, bounded ─ Receiver::admit ─► worker
//!    ▲                                                         │
//!    └──────────────── Stream ◄──────────── Sink ◄─────────────┘
//! ```
//!
//! A request waits in the queue until the worker takes it, first come, first served. One
//! that is cancelled while it waits ends at once and does not count any more.
//!
//! Locks: the queue's is taken before a channel's, never the other way round.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::sync::PoisonError;

use super::stream::{End, Sink, Stream, WorkerWaker, channel};
use super::sync::{Arc, AtomicBool, Mutex, MutexGuard};

/// How much a [`Queue`] holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits {
    /// Requests that may wait for the worker. An idle worker's next request waits too,
    /// for the moment until it is taken.
    pub queue: NonZeroUsize,
    /// Unread events of one stream at which its request is to pause.
    pub backlog: NonZeroUsize,
}

/// The clients' side, shared by all of them.
pub(crate) struct Queue<R, E, D: End>(Arc<Shared<R, E, D>>);

/// The worker's side; there is one. Dropping it closes the queue and abandons what still
/// waits: no client waits for a worker that panicked.
pub(crate) struct Receiver<R, E, D: End>(Arc<Shared<R, E, D>>);

/// A request that was not accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused<R> {
    /// The request, given back.
    pub request: R,
    /// Why.
    pub reason: Refusal,
}

/// Why a request was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Come back later.
    QueueFull {
        /// Requests that wait.
        waiting: usize,
        /// Requests that may wait.
        allowed: usize,
    },
    /// Nothing is accepted any more.
    Closed,
}

/// Why [`Receiver::wait`] returned.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Woken {
    /// A request came, was cancelled or ended, or a slow client caught up; now and then
    /// something that the worker has seen already.
    Notified,
    /// The queue is closed, and stays so: what waits is all there will be.
    Closed,
}

/// What the worker does with the first request in the queue.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Takes it.
    Take,
    /// Leaves it there, and those behind it.
    Leave,
}

struct Shared<R, E, D: End> {
    queue: Mutex<Waiting<R, E, D>>,
    worker: Arc<WorkerWaker>,
    limits: Limits,
}

struct Waiting<R, E, D: End> {
    /// In order of arrival. Cancelled ones stay until the next look at the queue.
    requests: VecDeque<(R, Sink<E, D>)>,
    closed: bool,
}

/// A new queue: the clients' side and the worker's.
pub(crate) fn queue<R, E, D: End>(limits: Limits) -> (Queue<R, E, D>, Receiver<R, E, D>) {
    let queue = Waiting { requests: VecDeque::new(), closed: false };
    let worker = Arc::new(WorkerWaker::new());
    let shared = Arc::new(Shared { queue: Mutex::new(queue), worker, limits });
    (Queue(shared.clone()), Receiver(shared))
}

impl<R, E, D: End> Queue<R, E, D> {
    /// Puts a request at the end of the queue.
    pub fn submit(&self, request: R) -> Result<Stream<E, D>, Refused<R>> {
        let shared = &*self.0;
        let allowed = shared.limits.queue.get();
        let (sink, stream) = channel(shared.worker.clone(), shared.limits.backlog.get());
        let mut queue = shared.lock();
        let over = if queue.requests.len() < allowed { Vec::new() } else { queue.drain_over() };
        let waiting = queue.requests.len();
        let refusal = match queue.closed {
            true => Some(Refusal::Closed),
            false if waiting >= allowed => Some(Refusal::QueueFull { waiting, allowed }),
            false => None,
        };
        if let Some(reason) = refusal {
            drop(queue);
            drop(over);
            return Err(Refused { request, reason });
        }
        queue.requests.push_back((request, sink));
        drop(queue);
        shared.worker.wake();
        drop(over);
        Ok(stream)
    }

    /// Requests that wait.
    pub fn waiting(&self) -> usize {
        self.0.waiting()
    }

    /// Refuses all further requests, stops the pass under way and wakes the worker, which
    /// decides about those that wait or run.
    pub fn close(&self) {
        self.0.close();
    }
}

impl<R, E, D: End> Clone for Queue<R, E, D> {
    fn clone(&self) -> Self {
        Queue(self.0.clone())
    }
}

impl<R, E, D: End> Receiver<R, E, D> {
    /// Sleeps until there is something new to see. What happened since the last call,
    /// also while the worker was busy, counts, and so does the end of a request: one that
    /// [`Verdict::Leave`] left in the queue may fit now. What is left does not count
    /// by itself.
    pub fn wait(&mut self) -> Woken {
        if !self.is_closed() {
            self.0.worker.wait();
        }
        if self.is_closed() { Woken::Closed } else { Woken::Notified }
    }

    /// Takes requests from the front of the queue while `decide` says so; each that it
    /// takes is returned, also one that is cancelled at that moment, so what `decide`
    /// reserved for it has an owner. Requests that were cancelled before are dropped.
    /// `decide` runs under the queue's lock: it must be quick and not touch the queue.
    pub fn admit(&mut self, mut decide: impl FnMut(&R) -> Verdict) -> Vec<(R, Sink<E, D>)> {
        let mut queue = self.0.lock();
        let over = queue.drain_over();
        let mut admitted = Vec::new();
        while let Some((request, sink)) = queue.requests.pop_front() {
            if decide(&request) == Verdict::Leave {
                queue.requests.push_front((request, sink));
                break;
            }
            sink.start();
            admitted.push((request, sink));
        }
        drop(queue);
        drop(over);
        admitted
    }

    /// Whether [`Queue::close`] was called.
    pub fn is_closed(&self) -> bool {
        self.0.lock().closed
    }

    /// Up when a running request was cancelled or the queue was closed: for the pass under
    /// way, which stops when it sees it.
    pub fn interrupt(&self) -> &AtomicBool {
        self.0.worker.flag()
    }

    /// Reads the flag and lowers it. The reason for it is seen by [`Sink::is_cancelled`]
    /// or [`Receiver::is_closed`] afterwards.
    pub fn take_interrupt(&mut self) -> bool {
        self.0.worker.take_interrupt()
    }
}

impl<R, E, D: End> Drop for Receiver<R, E, D> {
    fn drop(&mut self) {
        self.0.close();
        let left = std::mem::take(&mut self.0.lock().requests);
        drop(left);
    }
}

impl<R, E, D: End> Shared<R, E, D> {
    fn lock(&self) -> MutexGuard<'_, Waiting<R, E, D>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn waiting(&self) -> usize {
        self.lock().requests.iter().filter(|(_, sink)| !sink.is_over()).count()
    }

    fn close(&self) {
        self.lock().closed = true;
        self.worker.interrupt();
    }
}

impl<R, E, D: End> Waiting<R, E, D> {
    /// Removes those that were cancelled. The caller drops them when it has unlocked.
    fn drain_over(&mut self) -> Vec<(R, Sink<E, D>)> {
        let mut over = Vec::new();
        for _ in 0..self.requests.len() {
            let Some(entry) = self.requests.pop_front() else { break };
            if entry.1.is_over() { over.push(entry) } else { self.requests.push_back(entry) }
        }
        over
    }
}
