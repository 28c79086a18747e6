//! What this machine can do at best: the figures that speed is a per cent of.
//!
//! Measure them in the same minute as what you compare: clocks and neighbours
//! change both.

use std::time::{Duration, Instant};

use crate::error::{Bounded, Error, Result};
use crate::kernel::pool::{Pool, part};
use crate::simd::{Isa, Simd, Task};

/// Measurements of one kind.
const ROUNDS: usize = 3;

/// Bytes per second that `threads` threads read together from `parts`, by the best
/// of three ways (one, two or four places at once), of which the median round counts.
///
/// The parts may be a model's tensors, in their order: every thread reads its
/// contiguous share of each, as the products do. Together they must be much
/// larger than the caches. Pages are touched once before the clock runs.
///
/// # Errors
/// [`Error::Misuse`] for an impossible number of threads, or no bytes.
pub fn read_bandwidth(parts: &[&[u8]], threads: usize, isa: Isa) -> Result<f64> {
    let bytes: usize = parts.iter().map(|part| part.len()).sum();
    if bytes == 0 {
        return Err(Error::misuse("reading no bytes has no bandwidth"));
    }
    let pool = Pool::new(threads)?;
    let read = |streams| {
        pool.region(|team| {
            let start = Instant::now();
            team.run(&|worker| {
                for bytes in parts {
                    let bytes = &bytes[part(bytes.len(), threads, worker)];
                    std::hint::black_box(isa.run(Read { bytes, streams }));
                }
            });
            start.elapsed()
        })
    };
    read(1);
    let ways = [1, 2, 4].map(|streams| {
        let mut times: Vec<Duration> = (0..ROUNDS).map(|_| read(streams)).collect();
        times.sort_unstable();
        times[ROUNDS / 2]
    });
    Ok(bytes as f64 / seconds(ways.into_iter().min().unwrap_or_default()))
}

/// `len` bytes of anonymous memory, every page written.
///
/// # Errors
/// [`Error::Limit`] if the memory cannot be had.
pub fn buffer(len: usize) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    bytes.try_reserve_exact(len).map_err(|_| {
        Error::limit(Bounded::Memory("bytes for a buffer to read"), len, isize::MAX as usize)
    })?;
    bytes.resize(len, 0xA5);
    Ok(bytes)
}

/// Int8 multiply-adds per second that `threads` threads reach with the best
/// multiply instructions of `isa` and nothing else: in registers, without a load
/// (the portable tier: its dot product, from the nearest cache). The best of
/// several rounds of about 10 ms.
///
/// # Errors
/// [`Error::Misuse`] for an impossible number of threads.
pub fn multiply_peak(threads: usize, isa: Isa) -> Result<f64> {
    let pool = Pool::new(threads)?;
    let run = |rounds| {
        pool.region(|team| {
            let start = Instant::now();
            team.run(&|_| _ = isa.run(Multiply { rounds }));
            start.elapsed()
        })
    };
    // Finds how many rounds take 10 ms; that also wakes the clock.
    let mut rounds = 1000;
    while run(rounds) < Duration::from_millis(10) && rounds < 1 << 40 {
        rounds *= 2;
    }
    let per_thread = isa.run(Multiply { rounds });
    let best = (0..2 * ROUNDS).map(|_| run(rounds)).min().unwrap_or_default();
    Ok(per_thread as f64 * threads as f64 / seconds(best))
}

fn seconds(time: Duration) -> f64 {
    time.as_secs_f64().max(1e-9)
}

struct Multiply {
    rounds: usize,
}

impl Task for Multiply {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) -> u64 {
        simd.multiply_chains(self.rounds)
    }
}

/// Folds all bytes into one word, from `streams` places at once.
struct Read<'a> {
    bytes: &'a [u8],
    streams: usize,
}

/// One step of a stream: a page.
const STEP: usize = 4096;

impl Task for Read<'_> {
    type Output = u64;

    #[inline(always)]
    fn run<S: Simd>(self, _: S) -> u64 {
        match self.streams {
            4 => fold::<4>(self.bytes),
            2 => fold::<2>(self.bytes),
            _ => fold::<1>(self.bytes),
        }
    }
}

#[inline(always)]
fn fold<const STREAMS: usize>(bytes: &[u8]) -> u64 {
    let (steps, rest) = bytes.as_chunks::<STEP>();
    let len = steps.len() / STREAMS;
    let streams: [&[[u8; STEP]]; STREAMS] = std::array::from_fn(|s| &steps[s * len..][..len]);
    let mut all = 0;
    for step in 0..len {
        for stream in streams {
            all ^= xor(&stream[step]);
        }
    }
    let left = steps[STREAMS * len..].iter().fold(all, |all, step| all ^ xor(step));
    rest.iter().fold(left, |all, &byte| all ^ u64::from(byte))
}

/// Exclusive or needs no order, so the compiler uses the tier's widest loads and
/// several of them at once.
#[inline(always)]
fn xor(step: &[u8; STEP]) -> u64 {
    step.as_chunks::<8>().0.iter().fold(0, |all, word| all ^ u64::from_le_bytes(*word))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte is read, whatever the number of streams.
    #[test]
    fn reading_reaches_every_byte() {
        for len in [1, 4095, 4096, 4097, 40_000] {
            for isa in Isa::available() {
                for streams in [1, 2, 4] {
                    let mut bytes = vec![0; len];
                    for at in [0, len / 3, len / 2, len - 1] {
                        bytes[at] = 1;
                        let folded = isa.run(Read { bytes: &bytes, streams });
                        assert_eq!(folded.count_ones(), 1, "{isa} {len} {streams} byte {at}");
                        bytes[at] = 0;
                    }
                }
            }
        }
    }

    #[test]
    fn limits_are_positive_and_impossible_requests_are_refused() {
        let bytes = buffer(1 << 20).unwrap();
        for isa in Isa::available() {
            assert!(read_bandwidth(&[&bytes[..7], &bytes], 2, isa).unwrap() > 1e6);
            assert!(multiply_peak(1, isa).unwrap() > 1e6);
            assert!(multiply_peak(0, isa).is_err());
            assert!(read_bandwidth(&[&[]], 1, isa).is_err());
        }
    }
}
