//! One request's events on their way from the worker to the client.
//!
//! ```text
//! worker ─ Sink::send, send, …, finish ─► Channel ─► Stream::next, try_next, poll_next ─ client
//!          is_cancelled, must_pause ◄──── Channel ◄─ Stream::cancel, drop
//! ```
//!
//! A stream carries events and then exactly one end: the worker's ([`Sink::finish`]), or
//! [`End::abandoned`] if the sink is dropped without one, or [`End::cancelled`] if the
//! client cancels while the request still waits: that needs no worker.
//!
//! Locks: a channel's and the worker's waker are leaves, neither is taken while the other is
//! held
//! (the queue takes channels' under its own). Wakers and payloads, which are foreign code,
//! are cloned, called and dropped outside all of them.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::mem;
use std::sync::PoisonError;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use super::sync::{Arc, AtomicBool, Condvar, Mutex, MutexGuard, Ordering};

/// A stream's end, as far as it does not come from the worker.
pub trait End {
    /// The client cancelled before the worker took the request.
    fn cancelled() -> Self;

    /// The worker is gone (it panicked, or left a request behind).
    fn abandoned() -> Self;
}

/// What a [`Stream`] yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item<E, D> {
    /// Any number of these …
    Event(E),
    /// … and one of these, the last.
    End(D),
}

/// The client's side of a request: events, then one end, then `None`.
///
/// As an iterator it blocks. Dropping it cancels the request and frees what was not read.
pub struct Stream<E, D: End>(Arc<Channel<E, D>>);

/// Cancels a request from anywhere. The stream stays readable.
pub struct Canceller<E, D>(Arc<Channel<E, D>>);

/// The worker's side of a request. Dropped without [`Sink::finish`], the stream ends with
/// [`End::abandoned`]: a reader never hangs.
pub(crate) struct Sink<E, D: End> {
    channel: Arc<Channel<E, D>>,
    finished: bool,
}

/// The two sides of one new request, which waits. `limit`: see [`Sink::must_pause`].
pub(super) fn channel<E, D: End>(
    worker: Arc<WorkerWaker>,
    limit: usize,
) -> (Sink<E, D>, Stream<E, D>) {
    let channel = Channel {
        state: Mutex::new(State {
            events: VecDeque::new(),
            phase: Phase::Waiting,
            cancelled: false,
            forgotten: false,
            paused: false,
            waker: None,
        }),
        readable: Condvar::new(),
        worker,
        limit,
    };
    let channel = Arc::new(channel);
    (Sink { channel: channel.clone(), finished: false }, Stream(channel))
}

impl<E, D: End> Iterator for Stream<E, D> {
    type Item = Item<E, D>;

    /// Waits for the next item; `None` after the end.
    fn next(&mut self) -> Option<Item<E, D>> {
        let mut state = self.0.lock();
        loop {
            if let Some(popped) = state.pop(self.0.limit) {
                return self.0.popped(state, popped);
            }
            state = self.0.readable.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl<E, D: End> std::iter::FusedIterator for Stream<E, D> {}

impl<E, D: End> Stream<E, D> {
    /// The next item if there is one now; `Ready(None)` after the end.
    pub fn try_next(&mut self) -> Poll<Option<Item<E, D>>> {
        let mut state = self.0.lock();
        match state.pop(self.0.limit) {
            Some(popped) => Poll::Ready(self.0.popped(state, popped)),
            None => Poll::Pending,
        }
    }

    /// Waits for the next item, but no longer than `patience`.
    pub fn next_timeout(&mut self, patience: Duration) -> Poll<Option<Item<E, D>>> {
        // A patience beyond the clock's range is patience without end.
        let Some(deadline) = Instant::now().checked_add(patience) else {
            return Poll::Ready(self.next());
        };
        let mut state = self.0.lock();
        loop {
            if let Some(popped) = state.pop(self.0.limit) {
                return Poll::Ready(self.0.popped(state, popped));
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Poll::Pending;
            }
            let woken = self.0.readable.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The next item, or a promise to wake `context`'s task when there is one. Works with
    /// any executor. The last task that polled is the one that is woken.
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<Item<E, D>>> {
        if let Poll::Ready(item) = self.try_next() {
            return Poll::Ready(item);
        }
        let waker = context.waker().clone();
        let mut state = self.0.lock();
        match state.pop(self.0.limit) {
            Some(popped) => Poll::Ready(self.0.popped(state, popped)),
            None => {
                let former = state.waker.replace(waker);
                drop(state);
                drop(former);
                Poll::Pending
            }
        }
    }

    /// The next item; `None` after the end. Dropping the future loses nothing.
    pub async fn next_async(&mut self) -> Option<Item<E, D>> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// Asks for the end. What was sent before stays readable, then comes the end: at once
    /// if the request still waits, else when the worker noticed. It may still finish
    /// in its own way.
    #[allow(dead_code, reason = "for the tests here and in every order of events")]
    pub fn cancel(&self) {
        self.0.cancel();
    }

    /// A handle that cancels this request from anywhere.
    pub fn canceller(&self) -> Canceller<E, D> {
        Canceller(self.0.clone())
    }
}

impl<E, D: End> Drop for Stream<E, D> {
    fn drop(&mut self) {
        self.0.forget();
    }
}

impl<E, D: End> Canceller<E, D> {
    /// As [`Stream::cancel`]. Nothing happens after the end.
    pub fn cancel(&self) {
        self.0.cancel();
    }
}

impl<E, D> Clone for Canceller<E, D> {
    fn clone(&self) -> Self {
        Canceller(self.0.clone())
    }
}

impl<E, D: End> Sink<E, D> {
    /// Appends an event. This neither blocks nor refuses: [`Sink::must_pause`] tells whether
    /// the client keeps up. Events of a dropped stream are dropped.
    pub fn send(&mut self, event: E) {
        let mut state = self.channel.lock();
        if state.forgotten || state.is_over() {
            drop(state);
            return drop(event);
        }
        state.events.push_back(event);
        self.channel.notify(state);
    }

    /// Ends the stream, if the client has not ended it: see [`Sink::is_cancelled`].
    pub fn finish(mut self, end: D) {
        self.finished = true;
        self.channel.end(end);
    }

    /// Events that the client has not read.
    #[allow(dead_code, reason = "for the tests here and in tests/orders")]
    pub fn backlog(&self) -> usize {
        self.channel.lock().events.len()
    }

    /// Whether the client lags behind: `limit` events or more are unread. It then stays
    /// so until the client has read all but half of `limit`, which wakes the worker. Never
    /// of a cancelled request.
    pub fn must_pause(&self) -> bool {
        let mut state = self.channel.lock();
        state.paused |= state.events.len() >= self.channel.limit;
        state.paused && !state.cancelled
    }

    /// Whether the client cancelled, or dropped its stream.
    pub fn is_cancelled(&self) -> bool {
        self.channel.lock().cancelled
    }

    /// The worker takes the request: from here on it decides how the stream ends, unless
    /// the client has just ended it.
    pub(super) fn start(&self) {
        let mut state = self.channel.lock();
        if !state.is_over() {
            state.phase = Phase::Running;
        }
    }

    /// Whether the stream has ended: before [`Sink::finish`], by cancelling.
    pub(super) fn is_over(&self) -> bool {
        self.channel.lock().is_over()
    }
}

impl<E, D: End> Drop for Sink<E, D> {
    fn drop(&mut self) {
        if !self.finished {
            self.channel.end(D::abandoned());
        }
        // Room for a request that was left in the queue: the worker looks once more.
        self.channel.worker.wake();
    }
}

/// What both sides of a request share.
struct Channel<E, D> {
    state: Mutex<State<E, D>>,
    /// For a reader that blocks. A stream has one reader, so one is notified.
    readable: Condvar,
    worker: Arc<WorkerWaker>,
    /// Unread events at which the worker pauses, at least 1.
    limit: usize,
}

struct State<E, D> {
    /// Sent and not read. Empty once `forgotten`.
    events: VecDeque<E>,
    phase: Phase<D>,
    cancelled: bool,
    /// The stream was dropped.
    forgotten: bool,
    /// The worker was told to pause and waits to be woken.
    paused: bool,
    /// The task to wake at the next event.
    waker: Option<Waker>,
}

enum Phase<D> {
    /// In the queue's queue.
    Waiting,
    /// The worker has it.
    Running,
    /// No event follows; the end, until it is read.
    Ended(Option<D>),
}

/// What [`State::pop`] found, and whether the worker waited for it to be read.
struct Popped<E, D> {
    item: Option<Item<E, D>>,
    wake_worker: bool,
}

impl<E, D> State<E, D> {
    fn is_over(&self) -> bool {
        matches!(self.phase, Phase::Ended(_))
    }

    /// The next item, `None` if it has yet to come.
    fn pop(&mut self, limit: usize) -> Option<Popped<E, D>> {
        if let Some(event) = self.events.pop_front() {
            let wake_worker = self.paused && self.events.len() <= limit / 2;
            self.paused &= !wake_worker;
            return Some(Popped { item: Some(Item::Event(event)), wake_worker });
        }
        match &mut self.phase {
            Phase::Ended(end) => {
                Some(Popped { item: end.take().map(Item::End), wake_worker: false })
            }
            Phase::Waiting | Phase::Running => None,
        }
    }
}

impl<E, D> Channel<E, D> {
    fn lock(&self) -> MutexGuard<'_, State<E, D>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// After a pop: unlocks, and wakes the worker if it waited for that.
    fn popped(
        &self,
        state: MutexGuard<'_, State<E, D>>,
        popped: Popped<E, D>,
    ) -> Option<Item<E, D>> {
        drop(state);
        if popped.wake_worker {
            self.worker.wake();
        }
        popped.item
    }

    /// After a push: unlocks, and wakes the reader that waits for it.
    fn notify(&self, mut state: MutexGuard<'_, State<E, D>>) {
        let waker = state.waker.take();
        drop(state);
        self.readable.notify_one();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// The end, unless there was one.
    fn end(&self, end: D) {
        let mut state = self.lock();
        if state.forgotten || state.is_over() {
            drop(state);
            return drop(end);
        }
        state.phase = Phase::Ended(Some(end));
        self.notify(state);
    }
}

impl<E, D: End> Channel<E, D> {
    /// Ends a request that waits, tells the worker of one that runs. A second call does
    /// nothing: the pass of the other requests is interrupted once.
    fn cancel(&self) {
        let mut state = self.lock();
        if state.cancelled {
            return;
        }
        match state.phase {
            Phase::Waiting => {
                state.cancelled = true;
                state.phase = Phase::Ended(Some(D::cancelled()));
                self.notify(state);
                // The queue's place is free: an idle worker puts it in order.
                self.worker.wake();
            }
            Phase::Running => {
                state.cancelled = true;
                drop(state);
                self.worker.interrupt();
            }
            Phase::Ended(_) => {}
        }
    }

    /// The stream is dropped: cancels and frees what was not read.
    fn forget(&self) {
        self.cancel();
        let mut state = self.lock();
        state.forgotten = true;
        let events = mem::take(&mut state.events);
        let waker = state.waker.take();
        let end = match &mut state.phase {
            Phase::Ended(end) => end.take(),
            Phase::Waiting | Phase::Running => None,
        };
        drop(state);
        drop((events, waker, end));
    }
}

/// How clients reach the worker: it sleeps until it is woken, and a forward pass stops when
/// the flag is set.
pub(super) struct WorkerWaker {
    /// Stays true until the worker has seen it: a wake-up is never lost.
    woken: Mutex<bool>,
    changed: Condvar,
    flag: AtomicBool,
}

impl WorkerWaker {
    pub(super) fn new() -> Self {
        WorkerWaker {
            woken: Mutex::new(false),
            changed: Condvar::new(),
            flag: AtomicBool::new(false),
        }
    }

    /// Wakes the worker, or keeps it from falling asleep. What it is to find has happened
    /// before.
    pub(super) fn wake(&self) {
        *self.woken.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_one();
    }

    /// Wakes the worker, and stops the pass under way.
    pub(super) fn interrupt(&self) {
        // Release: a thread that clears the flag must see why it was set.
        self.flag.store(true, Ordering::Release);
        self.wake();
    }

    /// Sleeps until it is woken; returns at once if it was since the last call.
    pub(super) fn wait(&self) {
        let mut woken = self.woken.lock().unwrap_or_else(PoisonError::into_inner);
        while !*woken {
            woken = self.changed.wait(woken).unwrap_or_else(PoisonError::into_inner);
        }
        *woken = false;
    }

    /// Raised by [`WorkerWaker::interrupt`].
    pub(super) fn flag(&self) -> &AtomicBool {
        &self.flag
    }

    /// Reads the flag and lowers it.
    pub(super) fn take_interrupt(&self) -> bool {
        self.flag.swap(false, Ordering::Acquire)
    }
}

impl<E, D: End> std::fmt::Debug for Stream<E, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Stream").finish_non_exhaustive()
    }
}

impl<E, D> std::fmt::Debug for Canceller<E, D> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Canceller").finish_non_exhaustive()
    }
}
