//! Opening a model, and opening it up to the first token.
//! `TRAMONTANE_BENCH_MODEL` names a file; default: a small one of the tests.
#![allow(missing_docs, reason = "criterion's entry points")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench may fail")]

use criterion::{Criterion, criterion_group, criterion_main};
use tramontane::{Model, SessionOptions};

fn load(c: &mut Criterion) {
    let path = std::env::var("TRAMONTANE_BENCH_MODEL").unwrap_or_else(|_| {
        concat!(env!("CARGO_MANIFEST_DIR"), "/../models/storyteller-q4_k_m.gguf").into()
    });
    let mut group = c.benchmark_group("load");
    group.sample_size(10);
    group.bench_function("open", |b| b.iter(|| Model::open(&path).unwrap()));
    group.bench_function("open to first token", |b| {
        b.iter(|| {
            let model = Model::open(&path).unwrap();
            let mut session = model.session(&SessionOptions::default()).unwrap();
            let prompt: Vec<u32> = (1..=13).collect();
            session.feed(&prompt).unwrap().len()
        });
    });
    group.finish();
}

criterion_group!(benches, load);
criterion_main!(benches);
