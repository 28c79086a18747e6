//! Matrix products: format × instruction set × rows of activations, beside what
//! the machine can do. `cargo bench --bench kernels -- Q4_K/avx512` for a part.
#![allow(missing_docs, reason = "criterion's entry points")]
#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a bench talks and may fail")]

use std::cell::Cell;
use std::sync::Arc;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, Throughput};
use tramontane::bench::Multiplication;
use tramontane::machine;
use tramontane::quant::Format;
use tramontane::simd::Isa;

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

/// Bytes that are weights of any format: two of them read as f16 stay below 1.
fn weights(len: usize) -> Arc<[u8]> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8 & 0xbb
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

fn main() {
    // `cargo test --benches` and `-- --test` only run everything once.
    let quick = !std::env::args().any(|arg| arg == "--bench")
        || std::env::args().any(|arg| arg == "--test");
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(100))
        .measurement_time(Duration::from_millis(400))
        .configure_from_args();
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut lines = Vec::new();
    for format in Format::ALL {
        for isa in Isa::available() {
            let mut group = criterion.benchmark_group(format!("{format}/{isa}"));
            for batch in BATCHES {
                let row = format.row_bytes(COLS).unwrap();
                let wanted = if quick { row } else { weight_bytes(batch, isa) };
                let rows = (wanted / row).next_multiple_of(32);
                let (bytes, macs) = (rows * row, rows * COLS * batch);
                let (spent, runs) = (Cell::new(Duration::ZERO), Cell::new(0));
                let mut product = None;
                group.throughput(Throughput::Elements(macs as u64));
                group.bench_function(BenchmarkId::from_parameter(batch), |b| {
                    // Made only for rows that the filter lets through.
                    let product = product.get_or_insert_with(|| {
                        let inputs: Vec<f32> =
                            (0..batch * COLS).map(|i| (i as f32 * 0.37).sin()).collect();
                        Multiplication::new(format, isa, threads, COLS, weights(bytes), &inputs)
                            .unwrap()
                    });
                    b.iter_custom(|n| {
                        let start = Instant::now();
                        for _ in 0..n {
                            std::hint::black_box(product.run());
                        }
                        spent.set(spent.get() + start.elapsed());
                        runs.set(runs.get() + n);
                        start.elapsed()
                    });
                });
                if runs.get() > 0 {
                    let per_s = runs.get() as f64 / spent.get().as_secs_f64();
                    let name = format!("{format} × {batch}");
                    let (bytes_s, macs_s) = (bytes as f64 * per_s, macs as f64 * per_s);
                    lines.push(Line { name, isa, bytes_s, macs_s });
                }
            }
            group.finish();
        }
    }
    if !quick {
        table(&lines, threads);
    }
    criterion.final_summary();
}

/// What was reached, in per cent of what the machine can do now.
fn table(lines: &[Line], threads: usize) {
    let buffer = machine::buffer(512 << 20).unwrap();
    println!("| product | set | GB/s | of read | GMAC/s | of peak |");
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
