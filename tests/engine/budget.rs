//! Memory for keys and values: never over the budget, and nobody is lost for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use tramontane::engine::{Engine, Request};
use tramontane::{Bounded, ContextFull, EngineOptions, Error, KvType, Model};

use crate::{
    Answer, Dice, alone, cost, greedy, is_empty_after_forgetting, piece, read, shared, stories,
    text, tiny,
};

/// A text that may come to use `num_ctx` positions, and uses few.
fn reserving(prompt: &[u32], num_ctx: usize, num_predict: usize) -> Request {
    let context_full = ContextFull::Shift { num_keep: 4 };
    let options = greedy(num_predict).with_context_full(context_full);
    let mut request = Request::new(prompt.to_vec(), options);
    request.num_ctx = Some(num_ctx);
    request
}

/// Hands in everything at once and compares; all the while somebody looks at the memory.
fn serve(model: &Model, options: &EngineOptions, known: &[(Request, Answer)]) {
    let engine = Engine::new(model, options).unwrap();
    let (limit, done) = (options.kv_bytes.unwrap(), AtomicBool::new(false));
    std::thread::scope(|scope| {
        let watch = scope.spawn(|| {
            let (mut looks, mut most) = (0, 0);
            while !done.load(Ordering::Relaxed) {
                let stats = engine.stats();
                most = most.max(stats.kv_bytes + stats.kv_reserved);
                assert!(most <= limit, "{stats:?}, allowed {limit}");
                looks += 1;
                std::thread::sleep(Duration::from_micros(20));
            }
            (looks, most)
        });
        let replies: Vec<_> =
            known.iter().map(|(request, _)| engine.submit(request.clone()).unwrap()).collect();
        for (mut reply, (request, answer)) in replies.into_iter().zip(known) {
            assert_eq!(read(&mut reply), *answer, "{options:?}, {request:?}");
        }
        done.store(true, Ordering::Relaxed);
        let (looks, most) = watch.join().unwrap();
        assert!(looks > 10 && most > limit / 2, "{looks} looks saw up to {most} of {limit}");
    });
    is_empty_after_forgetting(&engine);
}

#[test]
fn a_hundred_requests_share_a_small_budget() {
    let _guard = shared();
    let model = stories();
    let mut options = EngineOptions::default().with_num_batch(64);
    // A few pages at once, so that costs grow in steps.
    let limit = cost(&model, 3000, &options);
    let costs = [400, 1500, 2500, 3000].map(|positions| cost(&model, positions, &options));
    assert!(costs.is_sorted() && costs[0] * 2 <= limit && costs[0] * 4 > limit, "{costs:?}");
    options.kv_bytes = Some(limit);
    let (story, mut dice) = (text(&model, 500), Dice(3));
    let known: Vec<_> = (0..100)
        .map(|_| {
            let start = 100 * dice.below(3);
            let prompt = &story[start..start + 1 + dice.below(150)];
            let num_ctx = dice.pick(&[400, 1500, 2500, 3000]);
            let request = reserving(prompt, num_ctx, dice.below(40));
            let answer = alone(&model, &request, KvType::default(), 0);
            (request, answer)
        })
        .collect();
    for keep_prefixes in [true, false] {
        serve(&model, &options.clone().with_keep_prefixes(keep_prefixes), &known);
    }
}

/// Windows take their pages by turns: guesses and what is made ready ahead must be
/// among what was set aside, also where a pass is meant to have one row.
#[test]
fn a_window_lives_within_its_share() {
    let _guard = shared();
    for window in [64, 65, 128] {
        let model = tiny("Q4_0", Some(window));
        // Repeats itself, so that there are guesses.
        let prompt: Vec<u32> = text(&model, 30).repeat(4);
        let known: Vec<_> = [700, 350, 520]
            .map(|positions| {
                let request = reserving(&prompt, positions, 300);
                let answer = alone(&model, &request, KvType::default(), 0);
                (request, answer)
            })
            .to_vec();
        for (num_batch, shares) in [(1, 1), (7, 1), (1, 2)] {
            let num_batch = Some(num_batch);
            let mut options = EngineOptions::default().with_num_batch(num_batch);
            options.kv_bytes = Some(shares * cost(&model, 700, &options));
            serve(&model, &options, &known);
        }
    }
}

/// What a text drops to make room may be shared, so it may have to wait for new memory:
/// small requests that keep coming do not take it all.
#[test]
fn a_text_that_starts_again_is_not_starved() {
    let _guard = shared();
    let model = stories();
    let mut options = EngineOptions::default().with_num_ctx(2400);
    let set = cost(&model, 1000, &options);
    assert_eq!([2370, 1400].map(|positions| cost(&model, positions, &options)), [3 * set, 2 * set]);
    options.kv_bytes = Some(5 * set);
    let story = text(&model, 2300);
    // Its context is full when 70 tokens are generated.
    let long = reserving(&story, 2370, 120);
    let answer = alone(&model, &long, KvType::default(), 0);
    let engine = Engine::new(&model, &options).unwrap();
    let mut long = engine.submit(long).unwrap();
    piece(&mut long);
    // Shares the first of the three sets of pages, and stays: nobody reads it.
    let beginning = Request::new([&story[..1030], &[9]].concat(), greedy(350));
    let mut sharing = engine.submit(beginning).unwrap();
    piece(&mut sharing);
    let (done, served) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for thread in 0..8 {
            let (engine, done, served) = (&engine, &done, &served);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) && served.load(Ordering::Relaxed) < 150 {
                    let request =
                        Request::new(vec![50 + thread; 3], greedy(60 + 7 * thread as usize));
                    let mut reply = engine.submit(request).unwrap();
                    assert_eq!(read(&mut reply).pieces.len(), 60 + 7 * thread as usize);
                    served.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let reader = scope.spawn(move || read(&mut long));
        std::thread::sleep(Duration::from_millis(200));
        assert_eq!(read(&mut sharing).pieces.len(), 349);
        let got = reader.join().unwrap();
        done.store(true, Ordering::Relaxed);
        assert_eq!((&got.pieces[..], got.end), (&answer.pieces[1..], answer.end));
    });
    let served = served.into_inner();
    assert!(served < 150, "{served} others first");
    is_empty_after_forgetting(&engine);
}

#[test]
fn what_can_never_fit_is_refused_at_once() {
    let _guard = shared();
    let model = stories();
    let mut options = EngineOptions::default();
    options.kv_bytes = Some(cost(&model, 1000, &options));
    let engine = Engine::new(&model, &options).unwrap();
    let error = engine.submit(reserving(&[1, 2], 5000, 3)).unwrap_err();
    let Error::Limit { what, needed, allowed } = error else { panic!("{error}") };
    assert_eq!(what, Bounded::KvMemory);
    let what = what.to_string();
    assert!(what.contains("kv_bytes") && what.contains("keys and values"), "{what}");
    assert_eq!(
        (needed, allowed),
        (cost(&model, 5000, &options) as u64, options.kv_bytes.unwrap() as u64,)
    );
    let prompt = vec![5; 5000];
    assert!(matches!(
        engine.embed(&prompt, &tramontane::EmbedOptions::default().with_num_ctx(6000)),
        Err(Error::Limit { .. })
    ));
    assert!(matches!(engine.submit(reserving(&[], 10, 3)), Err(Error::Misuse(_))));
    assert!(matches!(engine.submit(reserving(&[999_999], 10, 3)), Err(Error::Misuse(_))));
    assert_eq!(engine.stats().waiting, 0);
    let mut reply = engine.submit(reserving(&[1, 2], 1000, 3)).unwrap();
    assert_eq!(read(&mut reply).pieces.len(), 3);
}

#[test]
fn a_full_queue_refuses_and_loses_nobody() {
    let _guard = shared();
    let model = stories();
    let options = EngineOptions::default().with_max_running(1).with_max_queue(4).with_num_ctx(2000);
    let engine = Engine::new(&model, &options).unwrap();
    // It is not read, so it pauses and stays.
    let mut first = engine.submit(Request::new(vec![1, 2, 3], greedy(800))).unwrap();
    piece(&mut first);
    let request = || Request::new(vec![1, 7], greedy(5));
    let mut waiting: Vec<_> = (0..4).map(|_| engine.submit(request()).unwrap()).collect();
    assert_eq!(engine.stats().waiting, 4);
    for _ in 0..3 {
        let error = engine.submit(request()).unwrap_err();
        assert!(matches!(error, Error::QueueFull { waiting: 4, allowed: 4 }), "{error}");
    }
    // A place is free as soon as one gives up.
    drop(waiting.pop());
    assert_eq!(engine.stats().waiting, 3);
    waiting.push(engine.submit(request()).unwrap());
    assert!(matches!(engine.submit(request()), Err(Error::QueueFull { .. })));
    assert_eq!(read(&mut first).pieces.len(), 799);
    let answer = alone(&model, &request(), KvType::default(), 2000);
    waiting.iter_mut().for_each(|reply| assert_eq!(read(reply), answer));
}
