//! Which models are in memory: never too many, never one that is in use taken away.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::json;
use tramontane::{EngineOptions, GenerateOptions};

use crate::support::random::Random;
use tramontane_serve::schedule::{ScheduleError, Scheduler, SchedulerOptions, Source, Want};
use tramontane_serve::wire::KeepAlive;

fn options() -> SchedulerOptions {
    SchedulerOptions { threads: Some(1), num_ctx: 64, ..SchedulerOptions::default() }
}

/// Files of the built-in model.
fn models(folder: &Path, count: usize) -> Vec<Source> {
    let file = |n: usize| {
        let path = folder.join(format!("{n}.gguf"));
        std::fs::write(&path, tramontane_serve::builtin::BYTES).unwrap();
        Source::File(path)
    };
    (0..count).map(file).collect()
}

fn names(scheduler: &Scheduler) -> Vec<String> {
    let mut names: Vec<_> = scheduler.loaded().into_iter().map(|model| model.name).collect();
    names.sort();
    names
}

/// Bytes that one model takes with room for four conversations.
fn size_of_one() -> u64 {
    let options = EngineOptions::default().with_num_ctx(64);
    let model =
        tramontane_serve::builtin::model(&tramontane::ModelOptions::default().with_threads(1));
    tramontane::MemoryEstimate::of(&model.unwrap(), &options).unwrap().total() as u64
}

async fn soon(what: &str, mut holds: impl FnMut() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(10), "{what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

#[test]
fn keep_alive_is_read_as_ollama_reads_it() {
    let seconds = |seconds| Ok(KeepAlive::For(Duration::from_secs_f64(seconds)));
    let error = |text: &str| Err(text.to_owned());
    for (value, wanted) in [
        (json!(0), seconds(0.0)),
        (json!(90), seconds(90.0)),
        (json!(1.5), seconds(1.5)),
        (json!(-1), Ok(KeepAlive::Forever)),
        (json!(-0.5), Ok(KeepAlive::Forever)),
        (json!("5m"), seconds(300.0)),
        (json!("1h30m"), seconds(5400.0)),
        (json!("1.5h"), seconds(5400.0)),
        (json!("300ms"), seconds(0.3)),
        (json!("0"), seconds(0.0)),
        (json!("-1m"), Ok(KeepAlive::Forever)),
        (json!(1e300), Ok(KeepAlive::Forever)),
        (json!("99999999999h"), Ok(KeepAlive::Forever)),
        (json!("5"), seconds(5.0)),
        (json!(" 100.0 "), seconds(100.0)),
        (json!("-1"), Ok(KeepAlive::Forever)),
        (json!("5m3"), error("time: missing unit in duration \"5m3\"")),
        (json!("x"), error("time: invalid duration \"x\"")),
        (json!(""), error("time: invalid duration \"\"")),
        (json!("5 m"), error("time: unknown unit \" m\" in duration \"5 m\"")),
        (json!("1x"), error("time: unknown unit \"x\" in duration \"1x\"")),
        (json!("."), error("time: invalid duration \".\"")),
        (json!(true), error("Unsupported type: 'bool'")),
        (json!({}), error("Unsupported type: 'map[string]interface {}'")),
    ] {
        assert_eq!(KeepAlive::from_json(&value), wanted, "{value}");
    }
    for (text, wanted) in [("10", 10), ("10m", 600), ("0", 0)] {
        let wanted = KeepAlive::For(Duration::from_secs(wanted));
        assert_eq!(KeepAlive::from_text(text), Ok(wanted), "{text}");
    }
    assert_eq!(KeepAlive::from_text("-1"), Ok(KeepAlive::Forever));
    assert!(KeepAlive::from_text("junk").is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_stay_as_long_as_their_last_request_says() {
    let scheduler = Scheduler::new(options());
    let want = |keep_alive| Want { keep_alive: Some(keep_alive), ..Want::default() };
    let short = want(KeepAlive::For(Duration::from_millis(80)));
    let lease = scheduler.acquire("a", &Source::Builtin, short.clone()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(120)).await;
    assert_eq!(names(&scheduler), ["a"], "in use");
    drop(lease);
    assert_eq!(names(&scheduler), ["a"]);
    let start = Instant::now();
    soon("it goes", || names(&scheduler).is_empty()).await;
    assert!(start.elapsed() > Duration::from_millis(60));
    // The last request counts.
    drop(scheduler.acquire("a", &Source::Builtin, short).await.unwrap());
    drop(scheduler.acquire("a", &Source::Builtin, want(KeepAlive::Forever)).await.unwrap());
    tokio::time::sleep(Duration::from_millis(150)).await;
    assert_eq!(scheduler.loaded()[0].expires_at, None);
    drop(
        scheduler
            .acquire("a", &Source::Builtin, want(KeepAlive::For(Duration::ZERO)))
            .await
            .unwrap(),
    );
    assert!(names(&scheduler).is_empty());
    assert_eq!(scheduler.totals().loads, 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_least_recently_used_goes_first() {
    let folder = tempfile::tempdir().unwrap();
    let sources = models(folder.path(), 4);
    for by_memory in [false, true] {
        let (max_loaded, memory) =
            if by_memory { (9, Some(size_of_one() * 5 / 2)) } else { (2, None) };
        let scheduler = Scheduler::new(SchedulerOptions { max_loaded, memory, ..options() });
        let take = |n: usize| {
            let (scheduler, source) = (scheduler.clone(), sources[n].clone());
            async move { scheduler.acquire(&n.to_string(), &source, Want::default()).await }
        };
        drop(take(0).await.unwrap());
        drop(take(1).await.unwrap());
        drop(take(0).await.unwrap());
        drop(take(2).await.unwrap());
        assert_eq!(names(&scheduler), ["0", "2"], "by memory: {by_memory}");
        // Those in use stay: the newcomer waits.
        let (held0, held2) = (take(0).await.unwrap(), take(2).await.unwrap());
        let waiting = tokio::spawn(take(3));
        tokio::time::sleep(Duration::from_millis(50)).await;
        assert!(!waiting.is_finished());
        assert_eq!(scheduler.totals().waiting, 1);
        drop(held2);
        let third = waiting.await.unwrap().unwrap();
        assert_eq!(names(&scheduler), ["0", "3"]);
        assert_eq!(scheduler.totals().evictions, 2);
        drop((held0, third));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_does_not_fit_is_refused_with_figures() {
    let scheduler = Scheduler::new(SchedulerOptions { memory: Some(3 << 20), ..options() });
    let refused = scheduler.acquire("a", &Source::Builtin, Want::default()).await.err().unwrap();
    let text = refused.to_string();
    assert!(text.starts_with("model requires more system memory ("), "{text}");
    assert!(matches!(refused, ScheduleError::TooLarge { .. }));
    // A long context takes more than a short one.
    let folder = tempfile::tempdir().unwrap();
    let source = models(folder.path(), 1).remove(0);
    let tight = Scheduler::new(SchedulerOptions { memory: Some(size_of_one()), ..options() });
    let long = Want { num_ctx: Some(100_000), ..Want::default() };
    let lease = tight.acquire("a", &source, long).await;
    if let Ok(lease) = lease {
        assert_eq!(lease.num_ctx(), lease.model().context_length());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_larger_context_reloads_only_if_it_must() {
    let scheduler = Scheduler::new(SchedulerOptions { num_parallel: 2, ..options() });
    let want = |num_ctx| Want { num_ctx: Some(num_ctx), ..Want::default() };
    for (num_ctx, loads) in [(32, 1), (64, 1), (10, 1), (512, 2), (64, 2), (512, 2), (600, 2)] {
        let lease = scheduler.acquire("a", &Source::Builtin, want(num_ctx)).await.unwrap();
        assert_eq!(lease.num_ctx(), num_ctx.min(512));
        assert_eq!(scheduler.totals().loads, loads, "{num_ctx}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_queue_is_bounded_and_giving_up_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let sources = models(folder.path(), 2);
    let limits = SchedulerOptions { max_loaded: 1, max_queue: 3, ..options() };
    let scheduler = Scheduler::new(limits);
    let held = scheduler.acquire("0", &sources[0], Want::default()).await.unwrap();
    let ask = || {
        let (scheduler, source) = (scheduler.clone(), sources[1].clone());
        async move { scheduler.acquire("1", &source, Want::default()).await }
    };
    let waiting: Vec<_> = (0..3).map(|_| tokio::spawn(ask())).collect();
    soon("three wait", || scheduler.totals().waiting == 3).await;
    let refused = ask().await.err().unwrap();
    assert_eq!(
        refused.to_string(),
        "server busy, please try again.  maximum pending requests exceeded"
    );
    assert_eq!(scheduler.totals().refusals, 1);
    // The loaded one is not behind the queue.
    drop(scheduler.acquire("0", &sources[0], Want::default()).await.unwrap());
    waiting[0].abort();
    waiting[1].abort();
    soon("one waits", || scheduler.totals().waiting == 1).await;
    drop(held);
    for task in waiting.into_iter().skip(2) {
        assert!(task.await.unwrap().is_ok());
    }
    assert_eq!((names(&scheduler), scheduler.totals().waiting), (vec!["1".to_owned()], 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_file_is_loaded_once_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let source = models(folder.path(), 1).remove(0);
    let scheduler = Scheduler::new(options());
    let tasks: Vec<_> = (0..20)
        .map(|n| {
            let (scheduler, source) = (scheduler.clone(), source.clone());
            tokio::spawn(async move {
                scheduler.acquire(&format!("name-{n}"), &source, Want::default()).await.map(drop)
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap().unwrap();
    }
    assert_eq!((scheduler.totals().loads, scheduler.loaded().len()), (1, 1));
    assert_eq!(scheduler.loaded()[0].source, source);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damaged_and_missing_files_hurt_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let good = models(folder.path(), 1).remove(0);
    let damaged = folder.path().join("damaged.gguf");
    std::fs::write(&damaged, &tramontane_serve::builtin::BYTES[..5000]).unwrap();
    let scheduler = Scheduler::new(options());
    let ask = |source: Source| {
        let scheduler = scheduler.clone();
        async move { scheduler.acquire("x", &source, Want::default()).await }
    };
    assert!(matches!(ask(Source::File(damaged)).await, Err(ScheduleError::Load(_))));
    let missing = PathBuf::from("/nowhere/x.gguf");
    assert!(matches!(ask(Source::File(missing)).await, Err(ScheduleError::NotFound)));
    assert!(ask(good).await.is_ok());
    assert_eq!(scheduler.totals().waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unloading_waits_for_those_who_use_it() {
    let scheduler = Scheduler::new(options());
    assert!(!scheduler.unload(&Source::Builtin));
    let lease = scheduler.acquire("a", &Source::Builtin, Want::default()).await.unwrap();
    assert!(scheduler.unload(&Source::Builtin));
    assert_eq!(names(&scheduler), ["a"]);
    let reply =
        lease.engine().unwrap().generate("Once", &GenerateOptions::default().with_num_predict(3));
    assert!(reply.unwrap().wait().is_ok());
    drop(lease);
    assert!(names(&scheduler).is_empty());
}

/// Three models, room for one, everybody in a hurry, some give up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_ends_with_everyone_served_by_the_right_model() {
    let folder = tempfile::tempdir().unwrap();
    let sources = models(folder.path(), 3);
    let limits = SchedulerOptions { max_loaded: 1, max_queue: 1000, ..options() };
    let scheduler = Scheduler::new(limits);
    let mut random = Random(11);
    let mut tasks = Vec::new();
    for n in 0..300usize {
        let which = random.below(3) as usize;
        let (scheduler, source) = (scheduler.clone(), sources[which].clone());
        let keep_alive = KeepAlive::For(Duration::from_millis(random.below(2) * 3));
        let want = Want { keep_alive: Some(keep_alive), ..Want::default() };
        let gives_up = (random.below(5) == 0).then(|| Duration::from_micros(random.below(20_000)));
        tasks.push(tokio::spawn(async move {
            let work = async {
                let lease = scheduler.acquire(&which.to_string(), &source, want).await.unwrap();
                assert_eq!(scheduler.loaded().len(), 1);
                assert_eq!(scheduler.loaded()[0].source, source, "{n} got another model");
                let options = GenerateOptions::default().with_num_predict(2);
                let reply = lease.engine().unwrap().generate("Once", &options).unwrap();
                assert!(reply.await.is_ok());
            };
            match gives_up {
                Some(patience) => tokio::time::timeout(patience, work).await.is_ok(),
                None => {
                    work.await;
                    true
                }
            }
        }));
    }
    let mut served = 0;
    for task in tasks {
        served += usize::from(task.await.unwrap());
    }
    assert!(served >= 200, "{served}");
    soon("nothing is left", || names(&scheduler).is_empty()).await;
    assert_eq!(scheduler.totals().waiting, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn draining_waits_and_then_cuts_off() {
    let scheduler = Scheduler::new(options());
    let lease = scheduler.acquire("a", &Source::Builtin, Want::default()).await.unwrap();
    let mut cut = scheduler.cut_off();
    let draining = {
        let scheduler = scheduler.clone();
        tokio::spawn(async move { scheduler.drain(Duration::from_secs(1)).await })
    };
    soon("it drains", || scheduler.is_draining()).await;
    let refused = scheduler.acquire("a", &Source::Builtin, Want::default()).await;
    assert!(matches!(refused, Err(ScheduleError::ShuttingDown)));
    assert!(!*cut.borrow());
    tokio::time::timeout(Duration::from_secs(5), cut.wait_for(|cut| *cut)).await.unwrap().unwrap();
    draining.await.unwrap();
    drop(lease);
    assert!(names(&scheduler).is_empty());
    // Without work it takes no time.
    let idle = Scheduler::new(options());
    let start = Instant::now();
    idle.drain(Duration::from_secs(30)).await;
    assert!(start.elapsed() < Duration::from_secs(1));
}
