//! Encoding and decoding: bytes of text per second, by vocabulary.
#![allow(missing_docs, reason = "criterion's entry points")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a bench may fail")]

#[path = "../tests/support/files.rs"]
mod files;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tramontane::{EncodeOptions, Gguf, Tokenizer};

fn tokenizer(c: &mut Criterion) {
    let text = std::fs::read_to_string(files::data("corpora/wiki.test.raw")).unwrap();
    for name in ["llama-spm", "mistral-v3", "llama-bpe", "qwen2"] {
        let file = Gguf::open(files::data(&format!("vocab/ggml-vocab-{name}.gguf"))).unwrap();
        let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
        let tokens = tokenizer.encode(&text, EncodeOptions::default());
        let mut group = c.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Bytes(text.len() as u64));
        let encode = || tokenizer.encode(&text, EncodeOptions::default());
        group.bench_function("encode", |b| b.iter(encode));
        group.bench_function("decode", |b| b.iter(|| tokenizer.decode(&tokens)));
        group.finish();
    }
}

criterion_group!(benches, tokenizer);
criterion_main!(benches);
