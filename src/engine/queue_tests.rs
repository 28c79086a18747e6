//! The queue and its streams with real threads, clocks and panics. What holds in every
//! order of events is tested by `tests/orders`.

use std::collections::VecDeque;
use std::num::NonZeroUsize;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::task::{Context, Poll, Wake, Waker};
use std::thread;
use std::time::{Duration, Instant};

use super::queue::{Limits, Queue, Receiver, Refusal, Refused, Verdict, Woken};
use super::stream::{self, Canceller, Item, Sink, Stream};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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

type TestDesk = (Queue<u32, u32, End>, Receiver<u32, u32, End>);

fn queue(queue: usize, backlog: usize) -> TestDesk {
    let [queue, backlog] = [queue, backlog].map(|n| NonZeroUsize::new(n).unwrap());
    super::queue::queue(Limits { queue, backlog })
}

/// One stream whose request the worker has taken.
fn running(backlog: usize) -> (Stream<u32, End>, Sink<u32, End>, TestDesk) {
    let (queue, mut receiver) = queue(1, backlog);
    let stream = queue.submit(0).unwrap();
    let (_, sink) = receiver.admit(|_| Verdict::Take).pop().unwrap();
    (stream, sink, (queue, receiver))
}

fn events(count: u32, end: End) -> Vec<Item<u32, End>> {
    (0..count).map(Item::Event).chain([Item::End(end)]).collect()
}

#[test]
fn sides_go_where_they_are_needed() {
    fn everywhere<T: Send + Sync>() {}
    fn elsewhere<T: Send>() {}
    everywhere::<Queue<u32, u32, End>>();
    everywhere::<Stream<u32, End>>();
    everywhere::<Canceller<u32, End>>();
    elsewhere::<Receiver<u32, u32, End>>();
    elsewhere::<Sink<u32, End>>();
}

#[test]
fn requests_are_taken_in_order_and_the_first_may_hold_up_the_rest() {
    let (queue, mut receiver) = queue(4, 8);
    let _streams: Vec<_> = (0..4).map(|request| queue.submit(request).unwrap()).collect();
    let mut taken = |until: u32| -> Vec<u32> {
        let mut asked = Vec::new();
        let admitted = receiver.admit(|&request| {
            asked.push(request);
            if request < until { Verdict::Take } else { Verdict::Leave }
        });
        assert!(asked.is_sorted() && asked.len() <= admitted.len() + 1, "{asked:?}");
        admitted.into_iter().map(|(request, _)| request).collect()
    };
    assert!(taken(0).is_empty());
    assert_eq!(taken(2), [0, 1]);
    assert_eq!(queue.waiting(), 2);
    assert_eq!(taken(9), [2, 3]);
    assert_eq!((taken(9), queue.waiting()), (vec![], 0));
}

#[test]
fn the_queue_is_bounded_and_cancelled_requests_do_not_count() {
    let (queue, _receiver) = queue(3, 8);
    let mut streams: Vec<_> = (0..3).map(|request| queue.submit(request).unwrap()).collect();
    let reason = Refusal::QueueFull { waiting: 3, allowed: 3 };
    assert_eq!(queue.submit(7).unwrap_err(), Refused { request: 7, reason });
    streams.remove(1);
    streams[0].cancel();
    assert_eq!(queue.waiting(), 1);
    let _more = [queue.submit(8).unwrap(), queue.submit(9).unwrap()];
    assert_eq!(queue.submit(7).unwrap_err(), Refused { request: 7, reason });
    queue.close();
    assert_eq!(queue.submit(7).unwrap_err(), Refused { request: 7, reason: Refusal::Closed });
}

#[test]
fn what_was_cancelled_in_the_queue_is_never_handed_out() {
    let (queue, mut receiver) = queue(3, 8);
    let streams = [0, 1, 2].map(|request| queue.submit(request).unwrap());
    streams[1].cancel();
    assert!(!receiver.take_interrupt(), "no pass need stop for it");
    let admitted = receiver.admit(|&request| {
        assert_ne!(request, 1);
        Verdict::Take
    });
    assert_eq!(admitted.len(), 2);
    let [_, cancelled, _] = streams;
    assert_eq!(cancelled.collect::<Vec<_>>(), events(0, End::Cancelled));
}

#[test]
fn reading_without_blocking_and_past_the_end() {
    let (mut stream, mut sink, _queue) = running(8);
    assert_eq!(stream.try_next(), Poll::Pending);
    sink.send(0);
    assert_eq!(stream.try_next(), Poll::Ready(Some(Item::Event(0))));
    assert_eq!(stream.try_next(), Poll::Pending);
    sink.finish(End::Done);
    assert_eq!(stream.try_next(), Poll::Ready(Some(Item::End(End::Done))));
    assert_eq!(stream.try_next(), Poll::Ready(None));
    assert_eq!(stream.next(), None);
    assert_eq!(stream.next_timeout(Duration::ZERO), Poll::Ready(None));
    assert_eq!(stream.poll_next(&mut Context::from_waker(Waker::noop())), Poll::Ready(None));
}

#[test]
fn patience_ends_and_is_not_needed_when_something_comes() {
    let (mut stream, mut sink, _queue) = running(8);
    let patience = Duration::from_millis(20);
    let start = Instant::now();
    assert_eq!(stream.next_timeout(patience), Poll::Pending);
    assert!(start.elapsed() >= patience);
    let reader = thread::spawn(move || {
        let long = stream.next_timeout(Duration::from_secs(600));
        (long, stream.next_timeout(Duration::MAX))
    });
    thread::sleep(Duration::from_millis(10));
    sink.send(3);
    thread::sleep(Duration::from_millis(10));
    sink.finish(End::Done);
    let read = [Item::Event(3), Item::End(End::Done)].map(|item| Poll::Ready(Some(item)));
    assert_eq!(<[_; 2]>::from(reader.join().unwrap()), read);
}

#[test]
fn a_slow_client_pauses_its_request_until_half_is_read() {
    let (mut stream, mut sink, (_queue, mut receiver)) = running(4);
    for event in 0..4 {
        assert!(!sink.must_pause());
        sink.send(event);
    }
    assert_eq!((sink.backlog(), sink.must_pause()), (4, true));
    stream.next();
    assert!(sink.must_pause(), "three unread");
    stream.next();
    assert!(!sink.must_pause(), "two unread");
    assert_eq!(receiver.wait(), Woken::Notified);

    sink.send(4);
    sink.send(5);
    assert!(sink.must_pause());
    stream.cancel();
    assert!(!sink.must_pause() && sink.is_cancelled());
}

#[test]
fn cancelling_twice_interrupts_once() {
    let (mut stream, sink, (_queue, mut receiver)) = running(8);
    let canceller = stream.canceller();
    assert!(!receiver.take_interrupt());
    canceller.cancel();
    assert!(receiver.interrupt().load(Ordering::Relaxed));
    assert!(receiver.take_interrupt() && !receiver.take_interrupt());
    stream.cancel();
    canceller.clone().cancel();
    assert!(!receiver.take_interrupt());
    sink.finish(End::Cancelled);
    assert_eq!(stream.next(), Some(Item::End(End::Cancelled)));
    drop(stream);
    canceller.cancel();
    assert!(!receiver.take_interrupt(), "nothing happens after the end");
}

#[test]
fn a_panic_of_the_worker_ends_all_streams() {
    let (queue, mut receiver) = queue(4, 8);
    let streams = [0, 1, 2].map(|request| queue.submit(request).unwrap());
    let worker = thread::spawn(move || {
        let mut admitted = receiver.admit(|&request| match request {
            0 => Verdict::Take,
            _ => Verdict::Leave,
        });
        admitted[0].1.send(0);
        receiver.admit(|_| panic!("on purpose, under the queue's lock"));
    });
    let read = streams.map(|stream| stream.collect::<Vec<_>>());
    assert!(worker.join().is_err());
    assert_eq!(read, [1, 0, 0].map(|count| events(count, End::Abandoned)));
    assert_eq!(queue.submit(3).unwrap_err().reason, Refusal::Closed);
}

/// The smallest executor: one task, its thread sleeps between polls.
struct Task {
    woken: Mutex<bool>,
    wake: Condvar,
}

impl Wake for Task {
    fn wake(self: Arc<Self>) {
        *self.woken.lock().unwrap() = true;
        self.wake.notify_one();
    }
}

fn block_on<F: Future>(future: F) -> F::Output {
    let task = Arc::new(Task { woken: Mutex::new(false), wake: Condvar::new() });
    let waker = Waker::from(task.clone());
    let mut future = pin!(future);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
            return output;
        }
        let woken = task.wake.wait_while(task.woken.lock().unwrap(), |woken| !*woken);
        *woken.unwrap() = false;
    }
}

#[test]
fn a_stream_is_read_without_blocking_a_thread() {
    let (queue, mut receiver) = queue(1, 8);
    let worker = thread::spawn(move || {
        while receiver.wait() != Woken::Closed {
            for (request, mut sink) in receiver.admit(|_| Verdict::Take) {
                for event in 0..request {
                    sink.send(event);
                    thread::sleep(Duration::from_micros(50));
                }
                sink.finish(End::Done);
            }
        }
    });
    let read = block_on(async {
        let mut stream = queue.submit(100).unwrap();
        let mut read = Vec::new();
        while let Some(item) = stream.next_async().await {
            read.push(item);
        }
        read
    });
    assert_eq!(read, events(100, End::Done));
    queue.close();
    worker.join().unwrap();
}

/// Counts its calls.
struct Counter(AtomicUsize);

impl Wake for Counter {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn the_last_task_that_polled_is_woken_once_and_wakers_are_not_kept() {
    let (mut stream, mut sink, _queue) = running(8);
    let tasks = [0, 1].map(|_| Arc::new(Counter(AtomicUsize::new(0))));
    for task in &tasks {
        let waker = Waker::from(task.clone());
        assert!(stream.poll_next(&mut Context::from_waker(&waker)).is_pending());
    }
    assert_eq!(Arc::strong_count(&tasks[0]), 1, "the first is forgotten");
    sink.send(0);
    sink.send(1);
    sink.finish(End::Done);
    assert_eq!(tasks.clone().map(|task| task.0.load(Ordering::Relaxed)), [0, 1]);
    assert_eq!(Arc::strong_count(&tasks[1]), 1);

    let (mut stream, _sink, _queue) = running(8);
    let waker = Waker::from(tasks[0].clone());
    assert!(stream.poll_next(&mut Context::from_waker(&waker)).is_pending());
    drop((stream, waker));
    assert_eq!(Arc::strong_count(&tasks[0]), 1, "a dropped stream keeps none");
}

/// A sequence of random numbers, the same in every run.
struct Random(u32);

impl Random {
    fn below(&mut self, n: u32) -> u32 {
        self.0 = self.0.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (self.0 >> 16) % n
    }
}

/// A worker of up to eight requests at once, one event each per step.
fn worker(mut receiver: Receiver<u32, u32, End>) -> usize {
    let mut running: VecDeque<(u32, u32, Sink<u32, End>)> = VecDeque::new();
    let mut ended = 0;
    loop {
        let idle = running.iter().all(|(.., sink)| sink.must_pause());
        let closed = if idle { receiver.wait() == Woken::Closed } else { receiver.is_closed() };
        receiver.take_interrupt();
        let mut places = 8 - running.len();
        let admitted = receiver.admit(|_| match places.checked_sub(1) {
            Some(left) => {
                places = left;
                Verdict::Take
            }
            None => Verdict::Leave,
        });
        running.extend(admitted.into_iter().map(|(request, sink)| (request, 0, sink)));
        if closed && running.is_empty() {
            return ended;
        }
        for _ in 0..running.len() {
            let (request, next, mut sink) = running.pop_front().unwrap();
            if sink.is_cancelled() || next == request {
                ended += 1;
                sink.finish(if next == request { End::Done } else { End::Cancelled });
            } else if sink.must_pause() {
                running.push_back((request, next, sink));
            } else {
                sink.send(next);
                assert!(sink.backlog() <= 3);
                running.push_back((request, next + 1, sink));
            }
        }
    }
}

/// One client's requests. How many were served, cancelled and dropped.
fn client(queue: &Queue<u32, u32, End>, seed: u32, requests: usize) -> [usize; 3] {
    let mut random = Random(seed);
    let mut counts = [0; 3];
    for _ in 0..requests {
        let length = random.below(12);
        let mut stream = loop {
            match queue.submit(length) {
                Ok(stream) => break stream,
                Err(Refused { reason: Refusal::QueueFull { .. }, .. }) => thread::yield_now(),
                Err(refused) => panic!("{refused:?}"),
            }
        };
        let cancel_at = random.below(20);
        let mut expected = 0;
        loop {
            if expected == cancel_at && random.below(2) == 0 {
                counts[2] += 1;
                break;
            }
            if expected == cancel_at {
                stream.cancel();
            }
            let item =
                if random.below(2) == 0 { block_on(stream.next_async()) } else { stream.next() };
            match item.unwrap() {
                Item::Event(event) => {
                    assert_eq!(event, expected);
                    expected += 1;
                }
                Item::End(End::Done) => {
                    assert_eq!(expected, length);
                    counts[0] += 1;
                    break;
                }
                Item::End(End::Cancelled) => {
                    assert!(expected >= cancel_at);
                    counts[1] += 1;
                    break;
                }
                Item::End(End::Abandoned) => panic!("the worker lives"),
            }
        }
    }
    counts
}

#[test]
fn sixty_four_clients_with_random_cancels_all_come_to_their_end() {
    let (queue, receiver) = queue(16, 3);
    let worker = thread::spawn(move || worker(receiver));
    let clients: Vec<_> = (0..64)
        .map(|seed| {
            let queue = queue.clone();
            thread::spawn(move || client(&queue, seed, 50))
        })
        .collect();
    let counts = clients.into_iter().map(|client| client.join().unwrap());
    let sums = counts.fold([0; 3], |sum, counts| [0, 1, 2].map(|i| sum[i] + counts[i]));
    assert_eq!(sums.iter().sum::<usize>(), 64 * 50);
    assert!(sums.iter().all(|&sum| sum > 100), "{sums:?}");
    queue.close();
    let ended = worker.join().unwrap();
    assert!(ended >= sums[0] && ended <= 64 * 50, "{ended} {sums:?}");
    assert_eq!(queue.waiting(), 0);
}
