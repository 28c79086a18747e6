//! Matrix products (format × instruction set × rows of activations) and attention
//! (type of keys and values × instruction set × depth), beside what the machine can
//! do. `cargo bench -p tramontane-benches --bench kernels -- Q4_K/avx512`, or `attention/I16`, for a part.
#![allow(missing_docs, reason = "criterion's entry points")]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench talks and may fail")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, BenchmarkId, Criterion, Throughput};
use tramontane::Format;
use tramontane::Isa;
use tramontane::KvType;
use tramontane::internal::machine;
use tramontane::internal::{Attention, Heads, Multiplication};

const COLS: usize = 4096;
const BATCHES: [usize; 7] = [1, 2, 3, 4, 8, 64, 512];

/// Bytes of weights: for few activations far more than the caches.
fn weight_bytes(batch: usize, isa: Isa) -> usize {
    match (batch, isa.name()) {
        // Bound by arithmetic at any size.
        (_, "portable") => (8 << 20) / batch.max(4),
        (1..=4, _) => 256 << 20,
        _ => (64 << 20) / batch,
    }
}

/// Bytes that are weights of any format: two of them read as f16 stay below 1. Exponents of
/// MXFP4 are about those of real weights: products that are subnormal numbers take longer.
fn weights(format: Format, len: usize) -> Arc<[u8]> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0xbb
    };
    let mut bytes: Vec<u8> = (0..len).map(next).collect();
    if format == Format::MXFP4 {
        bytes.chunks_exact_mut(format.block_bytes()).for_each(|block| block[0] = 120);
    }
    bytes.into()
}

/// Values around 0, shaped like a bell as activations are: large ones are rare.
fn bell(len: usize) -> Vec<f32> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes().iter().map(|&byte| f32::from(byte) - 127.5).sum()
    };
    (0..len).map(next).collect()
}

/// A line of the table at the end.
struct Line {
    name: String,
    isa: Isa,
    bytes_s: f64,
    macs_s: f64,
}

/// A row of the bench and what it costs: bytes and multiply-adds.
struct Row<'a, 'c> {
    group: &'a mut BenchmarkGroup<'c, WallTime>,
    id: BenchmarkId,
    name: String,
    isa: Isa,
    bytes: usize,
    macs: usize,
}

impl Row<'_, '_> {
    /// Runs what `make` makes; nothing is made for rows that the filter leaves out.
    fn measure<T>(self, make: impl Fn() -> T, run: impl Fn(&mut T)) -> Option<Line> {
        let Row { group, id, name, isa, bytes, macs } = self;
        let (spent, runs) = (Cell::new(Duration::ZERO), Cell::new(0));
        let mut made = None;
        group.throughput(Throughput::Elements(macs as u64));
        group.bench_function(id, |b| {
            let made = made.get_or_insert_with(&make);
            b.iter_custom(|n| {
                let start = Instant::now();
                for _ in 0..n {
                    run(made);
                }
                let time = start.elapsed();
                spent.set(spent.get() + time);
                runs.set(runs.get() + n);
                time
            });
        });
        let per_s = runs.get() as f64 / spent.get().as_secs_f64();
        let line = Line { name, isa, bytes_s: bytes as f64 * per_s, macs_s: macs as f64 * per_s };
        (runs.get() > 0).then_some(line)
    }
}

/// Whether everything only runs once: `cargo test --benches` and `-- --test`.
fn quick() -> bool {
    !std::env::args().any(|arg| arg == "--bench") || std::env::args().any(|arg| arg == "--test")
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lines = Vec::new();
    for isa in Isa::available() {
        for format in Format::ALL {
            products(&mut criterion, format, isa, threads, &mut lines);
        }
        for kv_type in [KvType::I16, KvType::Q8_0, KvType::F32] {
            attention(&mut criterion, kv_type, isa, threads, &mut lines);
        }
    }
    if !quick() {
        table(&lines, threads);
    }
    criterion.final_summary();
}

fn products(
    criterion: &mut Criterion,
    format: Format,
    isa: Isa,
    threads: usize,
    lines: &mut Vec<Line>,
) {
    let mut group = criterion.benchmark_group(format!("{format}/{isa}"));
    for batch in BATCHES {
        let row = format.row_bytes(COLS).unwrap();
        let wanted = if quick() { row } else { weight_bytes(batch, isa) };
        let rows = (wanted / row).next_multiple_of(32);
        let (bytes, macs) = (rows * row, rows * COLS * batch);
        let (id, name) = (BenchmarkId::from_parameter(batch), format!("{format} × {batch}"));
        let make = || {
            let inputs = bell(batch * COLS);
            Multiplication::new(format, isa, threads, COLS, weights(format, bytes), &inputs)
                .unwrap()
        };
        lines.extend(Row { group: &mut group, id, name, isa, bytes, macs }.measure(
            make,
            |product| {
                std::hint::black_box(product.run());
            },
        ));
    }
    group.finish();
}

/// One query at depths, of far more bytes than the caches, and 512 queries: the
/// heads of Mistral 7B and Llama 8B.
fn attention(
    criterion: &mut Criterion,
    kv_type: KvType,
    isa: Isa,
    threads: usize,
    lines: &mut Vec<Line>,
) {
    let mut group = criterion.benchmark_group(format!("attention/{kv_type:?}/{isa}"));
    let slow = isa.name() == "portable" || quick();
    for (kind, depth, rows) in [
        ("decode", 512, 1),
        ("decode", 2048, 1),
        ("decode", 8192, 1),
        ("prefill", 0, 512),
        ("prefill", 2048, 512),
    ] {
        // What is bound by arithmetic has the same speed with less to do.
        let (kv_heads, layers) = match (rows, slow) {
            (1, false) => (8, (64 << 10) / depth),
            (1, true) => (8, 1),
            (_, false) => (8, 1),
            (_, true) => (1, 1),
        };
        let depth = if quick() { depth / 64 } else { depth };
        let heads = Heads { kv_heads, group: 4, head_dim: 128, layers };
        let make = || Attention::new(heads, kv_type, isa, threads, depth, rows).unwrap();
        let (bytes, macs) = heads.cost(kv_type, depth, rows);
        let name = format!("attention {kv_type:?}, {kind} {depth}");
        let id = BenchmarkId::new(kind, depth);
        lines.extend(Row { group: &mut group, id, name, isa, bytes, macs }.measure(
            make,
            |attention| {
                std::hint::black_box(attention.run());
            },
        ));
    }
    group.finish();
}

/// What was reached, in per cent of what the machine can do now.
fn table(lines: &[Line], threads: usize) {
    let buffer = machine::buffer(512 << 20).unwrap();
    println!("| work | tier | GB/s | of read | GMAC/s | of peak |");
    println!("|---|---|---:|---:|---:|---:|");
    for isa in Isa::available() {
        let mine: Vec<_> = lines.iter().filter(|line| line.isa == isa).collect();
        if mine.is_empty() {
            continue;
        }
        let read = machine::read_bandwidth(&[&buffer], threads, isa).unwrap();
        let peak = machine::multiply_peak(threads, isa).unwrap();
        for Line { name, bytes_s, macs_s, .. } in mine {
            println!(
                "| {name} | {isa} | {:.1} | {:.0} % | {:.1} | {:.0} % |",
                bytes_s / 1e9,
                100.0 * bytes_s / read,
                macs_s / 1e9,
                100.0 * macs_s / peak
            );
        }
    }
}
