//! A thousand requests from many threads: none is lost, nothing is left.

use std::sync::atomic::{AtomicUsize, Ordering};

use tramontane::engine::{Engine, Request};
use tramontane::{EngineOptions, FinishReason, KvType, SamplerOptions};

use crate::{
    Answer, Dice, End, alone, exclusive, greedy, is_empty_after_forgetting, piece, read, stories,
    text,
};

const THREADS: usize = 64;
const REQUESTS: usize = 1000;

/// Pages of this process in memory, in KiB.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

fn requests() -> Vec<(Request, Answer)> {
    let model = stories();
    let story = text(&model, 400);
    let lively = |seed| SamplerOptions::default().with_seed(seed);
    let request = |i: usize| {
        let start = 40 * (i % 4);
        let prompt = story[start..start + 10 + 3 * i].to_vec();
        let options = match i % 3 {
            0 => greedy(5 + i).with_sampler(lively(i as u64)),
            _ => greedy(5 + i),
        };
        Request::new(prompt, options)
    };
    (0..40)
        .map(|i| {
            let request = request(i);
            let answer = alone(&model, &request, KvType::default(), 512);
            (request, answer)
        })
        .collect()
}

/// Ends seen by clients, and streams that they dropped.
#[derive(Default)]
struct Count {
    finished: AtomicUsize,
    cancelled: AtomicUsize,
    dropped: AtomicUsize,
}

fn client(engine: &Engine, known: &[(Request, Answer)], dice: &mut Dice, count: &Count) {
    let (request, answer) = &known[dice.below(known.len())];
    let mut reply = engine.submit(request.clone()).unwrap();
    if !dice.one_in(3) {
        assert_eq!(read(&mut reply), *answer);
        count.finished.fetch_add(1, Ordering::Relaxed);
        return;
    }
    for expected in answer.pieces.iter().take(dice.below(8)) {
        assert_eq!(piece(&mut reply), *expected);
    }
    if dice.one_in(2) {
        drop(reply);
        count.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    reply.cancel();
    match read(&mut reply).end {
        End::Done(FinishReason::Cancelled, 0) => count.cancelled.fetch_add(1, Ordering::Relaxed),
        end => {
            assert_eq!(end, answer.end);
            count.finished.fetch_add(1, Ordering::Relaxed)
        }
    };
}

fn thousand(engine: &Engine, known: &[(Request, Answer)], seed: u64) {
    let (count, next) = (Count::default(), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..THREADS {
            let (count, next) = (&count, &next);
            let mut dice = Dice(seed + thread as u64);
            scope.spawn(move || {
                while next.fetch_add(1, Ordering::Relaxed) < REQUESTS {
                    client(engine, known, &mut dice, count);
                }
            });
        }
    });
    let Count { finished, cancelled, dropped } = count;
    let [finished, cancelled, dropped] =
        [finished, cancelled, dropped].map(AtomicUsize::into_inner);
    assert_eq!(finished + cancelled + dropped, REQUESTS);
    assert!(cancelled > 50 && dropped > 50, "{cancelled} cancelled, {dropped} dropped");
    is_empty_after_forgetting(engine);
}

/// Each request ends once. Afterwards the engine holds nothing, and after a second
/// thousand the process has as many pages in memory as before it (Linux: `VmRSS`), within
/// 2 % or a kilobyte per request.
#[test]
fn thousands_of_requests_leave_nothing() {
    let _alone = exclusive();
    let known = requests();
    let options = EngineOptions::default().with_num_ctx(512);
    let engine = Engine::new(&stories(), &options).unwrap();
    thousand(&engine, &known, 1);
    let first = resident();
    thousand(&engine, &known, 1000);
    if let (Some(first), Some(second)) = (first, resident()) {
        // A megabyte is what the allocator's arenas for 64 threads vary by.
        let allowed = first + (first / 50).max(1024);
        assert!(second <= allowed, "{first} KiB resident, then {second}");
    }
    assert_eq!(engine.generate("a", &greedy(0)).unwrap().wait().unwrap().text, "");
}
