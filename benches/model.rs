//! Prompts, decoding at depths, and several sequences together.
//! `TRAMONTANE_BENCH_MODEL` names a file. Default: a synthesized one in the shape
//! of Mistral 7B where disk and memory have room for it, else of Llama 1B; it stays
//! under `target/tmp/`. Lengths beyond a model's context are left out.
//! `cargo bench -p tramontane-benches --bench model -- prompt/512` for a part.
#![allow(missing_docs, reason = "criterion's entry points")]
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a bench talks and may fail")]

mod common;

use std::time::{Duration, Instant};

use criterion::{
    BenchmarkId, Criterion, SamplingMode, Throughput, criterion_group, criterion_main,
};
use tramontane::internal::feed_together;
use tramontane::{Model, Session, SessionOptions};

fn tokens(model: &Model, n: usize) -> Vec<u32> {
    (0..n).map(|i| (i * 7919 % model.n_vocab()) as u32).collect()
}

fn session(model: &Model) -> Session {
    let num_ctx = Some(model.context_length().min(8192 + 512));
    model.session(&SessionOptions::default().with_num_ctx(num_ctx)).unwrap()
}

fn model(c: &mut Criterion) {
    let model = common::open();
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
