//! The engine's queue and streams in every order of events.
//!
//! The two files are compiled once more, upon loom's mutexes, condition variables and
//! atomics. Loom runs a test again and again, each time with another interleaving of its
//! threads, until there is none left; a thread that nobody wakes is a deadlock, which it
//! reports, and so is memory that nobody frees. Some tests have too many orders for all of
//! them: theirs are those with at most 3 or 4 preemptions, switches away from a thread
//! that could have gone on. Loom's clock stands still: timeouts are
//! tested in `src/engine/queue_tests.rs`.
#![cfg(test)]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

#[allow(dead_code, reason = "compiled for its tests")]
#[path = "../../../src/engine/queue.rs"]
mod queue;
#[allow(dead_code, reason = "compiled for its tests")]
#[path = "../../../src/engine/stream.rs"]
mod stream;

mod sync {
    pub(super) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(super) use loom::sync::{Arc, Condvar, Mutex, MutexGuard};
}

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::sync::Mutex as StdMutex;
use std::task::{Context, Poll, Wake, Waker};

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

use queue::{Limits, Queue, Receiver, Refusal, Verdict, Woken};
use stream::{Item, Sink, Stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum End {
    Done,
    Cancelled,
    Abandoned,
}

impl stream::End for End {
    fn cancelled() -> Self {
        End::Cancelled
    }

    fn abandoned() -> Self {
        End::Abandoned
    }
}

fn queue<R, E>(queue: usize, backlog: usize) -> (Queue<R, E, End>, Receiver<R, E, End>) {
    let [queue, backlog] = [queue, backlog].map(|n| NonZeroUsize::new(n).unwrap());
    queue::queue(Limits { queue, backlog })
}

/// Runs `model` in all orders with at most `preemptions`; `None`: in all. Returns how often.
fn all_orders(
    preemptions: impl Into<Option<usize>>,
    model: impl Fn() + Sync + Send + 'static,
) -> usize {
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions.into();
    let counter = runs.clone();
    builder.check(move || {
        counter.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        model();
    });
    runs.load(std::sync::atomic::Ordering::Relaxed)
}

/// What was observed, over all orders: says that a test is not blind for some of them.
struct Seen<T>(StdMutex<BTreeSet<T>>);

impl<T: Ord + Clone> Seen<T> {
    const fn new() -> Self {
        Seen(StdMutex::new(BTreeSet::new()))
    }

    fn add(&self, observed: T) {
        self.0.lock().unwrap().insert(observed);
    }

    fn all(&self) -> Vec<T> {
        self.0.lock().unwrap().iter().cloned().collect()
    }
}

/// A worker's life: takes whatever comes, until the queue is closed.
fn serve<R, E>(mut receiver: Receiver<R, E, End>, mut work: impl FnMut(R, Sink<E, End>)) {
    loop {
        let woken = receiver.wait();
        let mut taken = 0;
        let admitted = receiver.admit(|_| {
            taken += 1;
            Verdict::Take
        });
        assert_eq!(admitted.len(), taken, "what was decided to be taken is handed out");
        for (request, sink) in admitted {
            work(request, sink);
        }
        if woken == Woken::Closed {
            return;
        }
    }
}

/// All events, and the end, which comes once and last.
fn read_all<E>(stream: &mut Stream<E, End>) -> (Vec<E>, End) {
    let mut events = Vec::new();
    loop {
        match stream.next().expect("an end comes first") {
            Item::Event(event) => events.push(event),
            Item::End(end) => {
                assert!(stream.next().is_none(), "nothing follows the end");
                return (events, end);
            }
        }
    }
}

/// Whatever the order, a request is found, and its events and its end arrive in order.
#[test]
fn a_request_is_served() {
    all_orders(4, || {
        let (queue, receiver) = queue(1, 8);
        let worker = thread::spawn(move || {
            serve(receiver, |request: u32, mut sink| {
                sink.send(request);
                sink.finish(End::Done);
            });
        });
        let mut stream = queue.submit(5).unwrap();
        assert_eq!(read_all(&mut stream), (vec![5], End::Done));
        queue.close();
        worker.join().unwrap();
    });
}

/// Cancelling never loses the end, doubles it or lets an event follow it, wherever the
/// worker is: before it takes the request, while it decides, before or after its end.
#[test]
fn cancel_races_with_finish() {
    static SEEN: Seen<(Vec<u32>, End)> = Seen::new();
    all_orders(3, || {
        let (queue, receiver) = queue(1, 8);
        let worker = thread::spawn(move || {
            serve(receiver, |request: u32, mut sink| {
                sink.send(request);
                let end = if sink.is_cancelled() { End::Cancelled } else { End::Done };
                sink.finish(end);
            });
        });
        let mut stream = queue.submit(5).unwrap();
        let canceller = stream.canceller();
        let other = thread::spawn(move || canceller.cancel());
        SEEN.add(read_all(&mut stream));
        other.join().unwrap();
        queue.close();
        worker.join().unwrap();
    });
    let all = [(vec![], End::Cancelled), (vec![5], End::Done), (vec![5], End::Cancelled)];
    assert_eq!(SEEN.all(), all);
}

/// A request that waits ends by cancelling alone: no worker looks.
#[test]
fn cancel_needs_no_worker_while_the_request_waits() {
    all_orders(None, || {
        let (queue, receiver) = queue::<u32, u32>(1, 8);
        let mut stream = queue.submit(5).unwrap();
        let canceller = stream.canceller();
        let other = thread::spawn(move || canceller.cancel());
        assert_eq!(read_all(&mut stream), (vec![], End::Cancelled));
        other.join().unwrap();
        assert_eq!(queue.waiting(), 0);
        drop(receiver);
    });
}

/// A running request's cancelling raises the flag that stops the pass under way, and who
/// sees the flag finds the request.
#[test]
fn the_flag_leads_to_the_cancelled_request() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 8);
        let stream = queue.submit(5).unwrap();
        let (_, sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        let client = thread::spawn(move || drop(stream));
        // The pass under way looks at the flag now and then.
        while !receiver.interrupt().load(loom::sync::atomic::Ordering::Relaxed) {
            thread::yield_now();
        }
        assert!(receiver.take_interrupt() && sink.is_cancelled());
        client.join().unwrap();
        assert!(!receiver.take_interrupt(), "raised once");
    });
}

/// An idle worker with one running request, say a paused one, wakes when it is cancelled.
#[test]
fn cancel_wakes_an_idle_worker() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 8);
        let mut stream = queue.submit(5).unwrap();
        let (_, sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        let worker = thread::spawn(move || {
            while !sink.is_cancelled() {
                receiver.wait();
            }
            sink.finish(End::Cancelled);
        });
        stream.cancel();
        assert_eq!(read_all(&mut stream), (vec![], End::Cancelled));
        worker.join().unwrap();
    });
}

/// A dropped stream keeps no event, of those sent before, meanwhile and afterwards.
#[test]
fn drop_races_with_send() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, Arc<()>>(1, 8);
        let payload = Arc::new(());
        let stream = queue.submit(5).unwrap();
        let (_, mut sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        let sent = payload.clone();
        let worker = thread::spawn(move || {
            sink.send(sent.clone());
            sink.send(sent);
            while !sink.is_cancelled() {
                receiver.wait();
            }
            sink
        });
        drop(stream);
        let mut sink = worker.join().unwrap();
        assert_eq!((sink.backlog(), Arc::strong_count(&payload)), (0, 1));
        sink.send(payload.clone());
        assert_eq!((sink.backlog(), Arc::strong_count(&payload)), (0, 1));
        sink.finish(End::Done);
    });
}

/// A request that meets the closing queue is refused, or served to its end.
#[test]
fn close_races_with_submit() {
    static SEEN: Seen<bool> = Seen::new();
    all_orders(4, || {
        let (queue, receiver) = queue(1, 8);
        let worker = thread::spawn(move || {
            serve(receiver, |_: u32, sink: Sink<u32, End>| sink.finish(End::Done));
        });
        let client = {
            let queue = queue.clone();
            thread::spawn(move || match queue.submit(5) {
                Ok(mut stream) => {
                    assert_eq!(read_all(&mut stream), (vec![], End::Done));
                    SEEN.add(true);
                }
                Err(refused) => {
                    assert_eq!((refused.request, refused.reason), (5, Refusal::Closed));
                    SEEN.add(false);
                }
            })
        };
        queue.close();
        client.join().unwrap();
        worker.join().unwrap();
    });
    assert_eq!(SEEN.all(), [false, true]);
}

/// The worker hears of the closing, whether it sleeps, falls asleep or is busy, and the
/// flag stops its pass.
#[test]
fn close_wakes_the_worker() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 8);
        let worker = thread::spawn(move || {
            while receiver.wait() != Woken::Closed {}
            assert_eq!(receiver.wait(), Woken::Closed, "it stays closed");
            receiver
        });
        queue.close();
        let mut receiver = worker.join().unwrap();
        assert!(receiver.take_interrupt());
    });
}

/// A worker that pauses for a slow client is woken when the client has caught up, and
/// never sends more than the limit ahead.
#[test]
fn a_slow_reader_pauses_and_wakes_the_worker() {
    static SEEN: Seen<bool> = Seen::new();
    all_orders(4, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 2);
        let mut stream = queue.submit(4).unwrap();
        let (count, mut sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        let worker = thread::spawn(move || {
            let mut paused = false;
            for event in 0..count {
                while sink.must_pause() {
                    paused = true;
                    receiver.wait();
                }
                sink.send(event);
                assert!(sink.backlog() <= 2);
            }
            sink.finish(End::Done);
            SEEN.add(paused);
        });
        assert_eq!(read_all(&mut stream), (vec![0, 1, 2, 3], End::Done));
        worker.join().unwrap();
    });
    assert_eq!(SEEN.all(), [false, true]);
}

/// A request left in the queue is looked at again when another has ended: the worker, which
/// takes one at a time, need not remember it.
#[test]
fn a_request_left_behind_is_seen_again() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(2, 8);
        let worker = thread::spawn(move || {
            let mut served = 0;
            while served < 2 {
                receiver.wait();
                let mut free = true;
                let admitted = receiver.admit(|_| match std::mem::take(&mut free) {
                    true => Verdict::Take,
                    false => Verdict::Leave,
                });
                for (_, sink) in admitted {
                    sink.finish(End::Done);
                    served += 1;
                }
            }
        });
        let _streams = [5, 6].map(|request| queue.submit(request).unwrap());
        worker.join().unwrap();
    });
}

/// Of two clients at a queue of one, one is refused and gets its request back.
#[test]
fn a_full_queue_refuses() {
    static SEEN: Seen<u32> = Seen::new();
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 8);
        let submit = |request| {
            let queue = queue.clone();
            thread::spawn(move || queue.submit(request))
        };
        let clients = [submit(0), submit(1)];
        let [first, second] = clients.map(|client| client.join().unwrap());
        let (accepted, stream, refused) = match (first, second) {
            (Ok(stream), Err(refused)) => (0, stream, refused),
            (Err(refused), Ok(stream)) => (1, stream, refused),
            both => panic!("{both:?}"),
        };
        assert_eq!(refused.reason, Refusal::QueueFull { waiting: 1, allowed: 1 });
        assert_eq!(refused.request, 1 - accepted);
        let (request, sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        assert_eq!(request, accepted);
        sink.finish(End::Done);
        assert_eq!(stream.last(), Some(Item::End(End::Done)));
        SEEN.add(accepted);
    });
    assert_eq!(SEEN.all(), [0, 1]);
}

/// A cancelled request's place is free at once, though no worker looks.
#[test]
fn a_cancelled_request_makes_room() {
    static SEEN: Seen<bool> = Seen::new();
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 8);
        let first = queue.submit(0).unwrap();
        let client = thread::spawn(move || drop(first));
        let second = queue.submit(1);
        SEEN.add(second.is_ok());
        client.join().unwrap();
        let _second = second.or_else(|refused| queue.submit(refused.request)).unwrap();
        let admitted = receiver.admit(|_| Verdict::Take);
        assert_eq!(admitted.iter().map(|(request, _)| *request).collect::<Vec<_>>(), [1]);
    });
    assert_eq!(SEEN.all(), [false, true]);
}

/// A worker that goes away without a word leaves no reader waiting: not that of a request
/// it took, not that of one in the queue, not that of one just coming.
#[test]
fn a_lost_worker_abandons_its_requests() {
    static SEEN: Seen<Option<u32>> = Seen::new();
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(2, 8);
        let worker = thread::spawn(move || {
            for (request, mut sink) in receiver.admit(|_| Verdict::Take) {
                sink.send(request);
            }
        });
        match queue.submit(5) {
            Ok(mut stream) => {
                let (events, end) = read_all(&mut stream);
                assert_eq!(end, End::Abandoned);
                SEEN.add(events.first().copied());
            }
            Err(refused) => assert_eq!(refused.reason, Refusal::Closed),
        }
        worker.join().unwrap();
    });
    assert_eq!(SEEN.all(), [None, Some(5)]);
}

/// The task of a small executor: sleeps until its waker was called.
struct Task {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Wake for Task {
    fn wake(self: std::sync::Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }
}

/// Reads a stream to its end by polling, sleeping in between.
fn poll_all(stream: &mut Stream<u32, End>) -> (Vec<u32>, End) {
    let task = Task { woken: Mutex::new(false), wake: Condvar::new() };
    let task = std::sync::Arc::new(task);
    let waker = Waker::from(task.clone());
    let mut events = Vec::new();
    loop {
        match stream.poll_next(&mut Context::from_waker(&waker)) {
            Poll::Ready(Some(Item::Event(event))) => events.push(event),
            Poll::Ready(Some(Item::End(end))) => return (events, end),
            Poll::Ready(None) => panic!("an end comes first"),
            Poll::Pending => {
                let mut woken = task.woken.lock().unwrap();
                while !*woken {
                    woken = task.wake.wait(woken).unwrap();
                }
                *woken = false;
            }
        }
    }
}

/// A task that found nothing is woken by what comes, also between its look and its leaving
/// the waker.
#[test]
fn poll_races_with_send() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 8);
        let mut stream = queue.submit(5).unwrap();
        let (request, mut sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        let worker = thread::spawn(move || {
            sink.send(request);
            sink.finish(End::Done);
        });
        assert_eq!(poll_all(&mut stream), (vec![5], End::Done));
        worker.join().unwrap();
    });
}

/// The same of an end that comes by cancelling from another thread.
#[test]
fn poll_races_with_cancel() {
    all_orders(None, || {
        let (queue, _clerk) = queue::<u32, u32>(1, 8);
        let mut stream = queue.submit(5).unwrap();
        let canceller = stream.canceller();
        let other = thread::spawn(move || canceller.cancel());
        assert_eq!(poll_all(&mut stream), (vec![], End::Cancelled));
        other.join().unwrap();
    });
}

/// Asks the queue and the stream something whenever foreign code may run: called under one
/// of their locks, that is a deadlock.
struct Curious {
    queue: Queue<u32, u32, End>,
    canceller: stream::Canceller<u32, End>,
}

impl Wake for Curious {
    fn wake(self: std::sync::Arc<Self>) {
        assert!(self.queue.waiting() <= 1);
        self.canceller.cancel();
    }
}

/// Wakers are called outside all locks.
#[test]
fn a_waker_may_use_what_wakes_it() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<u32, u32>(1, 8);
        let mut stream = queue.submit(5).unwrap();
        let curious = Curious { queue: queue.clone(), canceller: stream.canceller() };
        let waker = Waker::from(std::sync::Arc::new(curious));
        assert!(stream.poll_next(&mut Context::from_waker(&waker)).is_pending());
        let (_, mut sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        let worker = thread::spawn(move || {
            sink.send(1);
            assert!(sink.is_cancelled(), "by the waker");
            sink.finish(End::Cancelled);
        });
        assert_eq!(read_all(&mut stream), (vec![1], End::Cancelled));
        worker.join().unwrap();
    });
}

/// A request or an event that, when it is dropped, asks the queue and cancels a stream, its
/// own if it is an event.
struct Nosy(Queue<Nosy, Nosy, End>, Option<stream::Canceller<Nosy, End>>);

impl Drop for Nosy {
    fn drop(&mut self) {
        assert!(self.0.waiting() <= 2);
        if let Some(canceller) = &self.1 {
            canceller.cancel();
        }
    }
}

/// Requests and events are dropped outside all locks: refused, cancelled in the queue,
/// unread, sent to nobody, abandoned.
#[test]
fn payloads_may_use_the_desk_when_dropped() {
    all_orders(None, || {
        let (queue, mut receiver) = queue::<Nosy, Nosy>(2, 8);
        let submit = || queue.submit(Nosy(queue.clone(), None)).ok();
        let running = submit().unwrap();
        let canceller = running.canceller();
        let event = || Nosy(queue.clone(), Some(canceller.clone()));
        let (_, mut sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
        sink.send(event());
        drop(running);
        sink.send(event());
        drop(submit().unwrap());
        assert!(receiver.admit(|_| Verdict::Take).is_empty(), "the cancelled one is dropped");
        let _left = [submit().unwrap(), submit().unwrap()];
        assert!(submit().is_none());
        drop(receiver);
    });
}

/// Loom's own check: it does try orders.
#[test]
fn many_orders_are_tried() {
    let runs = all_orders(None, || {
        let (queue, receiver) = queue::<u32, u32>(1, 8);
        let client = thread::spawn(move || drop(queue.submit(5)));
        drop(receiver);
        client.join().unwrap();
    });
    assert!(runs > 10, "{runs} orders");
}
