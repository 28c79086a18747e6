//! What is fetched while panels are unpacked and multiplied.

use std::ops::Range;

use super::pack::STEP;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{Avx512, prefetch, prefetch_lines, prefetch_to_write};

/// The panel behind this one is fetched while this one is unpacked and multiplied:
/// in the order of memory and evenly over the time, since requests in bursts fill
/// the queue of misses and hold up what is read from the next cache.
#[derive(Clone, Copy)]
pub(in crate::kernel::matmul) struct Ahead {
    /// Where to fetch from next.
    pub next: *const u8,
    /// Cache lines per step: half a block of all rows when unpacking, 256 columns
    /// of a tile.
    pub lines: usize,
}

impl Ahead {
    pub const NONE: Ahead = Ahead { next: std::ptr::null(), lines: 0 };

    /// For unpacking, and for each of `tiles` tiles (see [`Ahead::tile`]). A tile of
    /// three rows takes about a third of the time of unpacking.
    pub fn new(weights: &RowPanel<'_>, tiles: usize, unpacking: bool) -> (Ahead, Ahead) {
        let steps = weights.cols.div_ceil(256);
        let lines = weights.bytes.len().div_ceil(64);
        let first = if unpacking { (3 * lines).div_ceil(2 * steps * (3 + tiles)) } else { 0 };
        let end = weights.bytes.as_ptr().wrapping_add(weights.bytes.len());
        let done = 2 * steps * first;
        let each = lines.saturating_sub(done).div_ceil(steps * tiles);
        let rest = end.wrapping_add(64 * done);
        (Ahead { next: end, lines: first }, Ahead { next: rest, lines: each })
    }

    /// The share of tile `i`; nothing once the panel is fetched.
    pub fn tile(self, weights: &RowPanel<'_>, i: usize) -> Ahead {
        let at = 64 * i * self.lines * weights.cols.div_ceil(256);
        let lines = if at < weights.bytes.len() { self.lines } else { 0 };
        Ahead { next: self.next.wrapping_add(at), lines }
    }

    /// Fetches step `step`.
    #[inline(always)]
    pub fn step(self, simd: Avx512, step: usize) {
        for line in step * self.lines..(step + 1) * self.lines {
            prefetch(simd, self.next.wrapping_add(64 * line));
        }
    }
}

/// Asks for the columns `start ..` of weight row `n`, those of a step; at the end for the
/// first ones of the panel behind.
#[inline(always)]
pub(super) fn fetch_next_step(simd: Avx512, weights: &RowPanel<'_>, n: usize, start: usize) {
    let row = weights.bytes.len() / weights.rows;
    let block = row / (weights.cols / 256);
    let at = if start < weights.cols { block * (start / 256) } else { weights.bytes.len() };
    let first = weights.bytes.as_ptr().wrapping_add(n * row + at);
    prefetch_lines(simd, first, block * (STEP / 256) + 63);
}

/// Asks for the places where the product of panel number `panel` and `rows` goes.
#[inline(always)]
pub(in crate::kernel::matmul) fn fetch_target(
    simd: Avx512,
    weights: &RowPanel<'_>,
    panel: usize,
    rows: Range<usize>,
) {
    for m in rows {
        let at = m * weights.target.width + panel * RowPanel::ROWS;
        let place = weights.target.start.wrapping_add(at);
        for at in [0, 16, RowPanel::ROWS - 1] {
            prefetch_to_write(simd, place.wrapping_add(at));
        }
    }
}
