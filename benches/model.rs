//! Prompts, decoding at depths, and several sequences together.
//! `TRAMONTANE_BENCH_MODEL` names a file. Default: a synthesized one in the shape
//! of Mistral 7B where disk and memory have room for it, else of Llama 1B; it stays
//! under `target/tmp/`. Lengths beyond a model's context are left out.
//! `cargo bench --bench model -- prompt/512` for a part.
#![allow(missing_docs, reason = "criterion's entry points")]
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a bench talks and may fail")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use tramontane::bench::synthesize::{Mix, Shape, Synthesis};
use tramontane::{Model, Session, SessionOptions, feed_together};

/// What else a bench needs beside the file: keys and values, buffers, the system.
const SPARE: u64 = 1 << 30;

fn open() -> Model {
    // `cargo test --benches` and `-- --test` only run everything once.
    let quick = !std::env::args().any(|arg| arg == "--bench")
        || std::env::args().any(|arg| arg == "--test");
    match std::env::var_os("TRAMONTANE_BENCH_MODEL") {
        Some(path) => Model::open(path).unwrap(),
        None if quick => tramontane::builtin().unwrap(),
        None => Model::open(synthesized()).unwrap(),
    }
}

/// The largest file that there is room for; made if it is not there yet.
fn synthesized() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(folder).unwrap();
    let disk = free_disk(folder);
    let memory = free_memory();
    let files = ["mistral-7b", "llama-1b"].map(|name| {
        let (shape, mix) = (Shape::find(name).unwrap(), Mix::find("q4_k_m").unwrap());
        let file = Synthesis { shape, mix, seed: 1 };
        (folder.join(format!("bench-{name}-{}.gguf", mix.name)), file)
    });
    let fits = |path: &Path, file: &Synthesis| {
        let bytes = file.bytes().unwrap();
        let on_disk = file.is_at(path) || disk.is_some_and(|free| free >= bytes + SPARE);
        on_disk && memory.is_some_and(|free| free >= bytes + SPARE)
    };
    let [large, small] = files;
    let (path, file) = if fits(&large.0, &large.1) { large } else { small };
    if file.is_at(&path) {
        eprintln!("{}: from an earlier run", path.display());
    } else {
        create(&path, &file);
    }
    path
}

/// Writes the file and says how far it is, every tenth.
fn create(path: &Path, file: &Synthesis) {
    let (bytes, done) = (file.bytes().unwrap(), std::cell::Cell::new(0));
    let start = Instant::now();
    eprintln!("writing random weights to {}, {:.1} GB", path.display(), bytes as f64 / 1e9);
    file.create(path, None, |n| {
        let before = done.replace(done.get() + n);
        let (before, now) = (10 * before / bytes, 10 * done.get() / bytes);
        if now > before {
            eprintln!("  {} %, {:.0} s", 10 * now, start.elapsed().as_secs_f64());
        }
    })
    .unwrap();
}

/// Bytes that may be written to the file system of `folder`, as `df` says.
fn free_disk(folder: &Path) -> Option<u64> {
    let said = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let kilobytes: u64 = said.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Bytes that can be had without swapping, where the system says it like Linux.
fn free_memory() -> Option<u64> {
    let said = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = said.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}

fn tokens(model: &Model, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % model.n_vocab()) as u32).collect()
}

fn session(model: &Model) -> Session {
    let num_ctx = Some(model.context_length().min(8192 + 512));
    model.session(&SessionOptions { num_ctx, ..SessionOptions::default() }).unwrap()
}

fn model(c: &mut Criterion) {
    let model = open();
    let mut group = c.benchmark_group("prompt");
    // A prompt may take a minute: no more of them than samples.
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    group.warm_up_time(Duration::from_millis(1));
    for n in [128, 512, 2048].into_iter().filter(|n| *n <= model.context_length()) {
        let prompt = tokens(&model, n);
        group.throughput(Throughput::Elements(n as u64));
        group.bench_function(BenchmarkId::from_parameter(n), |b| {
            b.iter(|| session(&model).feed(&prompt).unwrap().len());
        });
    }
    group.finish();

    let mut group = c.benchmark_group("decode");
    group.sample_size(10).sampling_mode(SamplingMode::Flat);
    for depth in [0, 2048, 8192].into_iter().filter(|d| d + 64 < model.context_length()) {
        let mut base = None;
        for batch in [1, 2, 4, 8] {
            group.throughput(Throughput::Elements(batch));
            let id = BenchmarkId::new(format!("depth {depth}"), batch);
            group.bench_function(id, |b| {
                // Computed only for rows that the filter lets through.
                let base = base.get_or_insert_with(|| {
                    if depth > 0 {
                        eprintln!("computing {depth} positions");
                    }
                    let mut base = session(&model);
                    base.feed(&tokens(&model, depth + 1)).unwrap();
                    base
                });
                let mut sessions: Vec<Session> = (0..batch).map(|_| base.fork()).collect();
                b.iter_custom(|n| (0..n).map(|_| step(&mut sessions)).sum());
            });
        }
    }
    group.finish();
}

/// The time of one token for every session; it is forgotten afterwards.
fn step(sessions: &mut [Session]) -> Duration {
    let len = sessions[0].tokens().len();
    let mut feeds: Vec<(&mut Session, &[u32])> =
        sessions.iter_mut().map(|session| (session, &[5][..])).collect();
    let start = Instant::now();
    std::hint::black_box(feed_together(&mut feeds).unwrap());
    let time = start.elapsed();
    for session in sessions {
        session.truncate(len).unwrap();
    }
    time
}

criterion_group!(benches, model);
criterion_main!(benches);
