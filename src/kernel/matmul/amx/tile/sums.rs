//! What both kinds of formats share: sums of tiles on their way to the output, and what is
//! fetched meanwhile.

use std::arch::x86_64::*;

use crate::kernel::matmul::amx::pack::{COLS, Sixteen};
use crate::kernel::matmul::avx512::fetch_target;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{Avx512, Line, ROWS, lines_to_l2, transpose};

/// Tiles of activations that are multiplied at once.
pub(in crate::kernel::matmul::amx) const PAIR: usize = 2;

/// Products so far: `[half][weight row]`, 16 rows of activations in a line.
pub(in crate::kernel::matmul::amx) type Acc = [[Line; ROWS]; 2];

#[inline(always)]
pub(in crate::kernel::matmul::amx) fn line(_: Avx512, line: &Line) -> __m512i {
    // SAFETY: the tier is proven; a line is 64 aligned bytes.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

/// Writes `acc` to `out[m, n]`, rows [`RowPanel::ROWS`] apart.
#[inline(always)]
pub(in crate::kernel::matmul::amx) fn put(
    simd: Avx512,
    acc: &[Acc],
    batch: usize,
    out: &mut [f32],
) {
    for (i, halves) in acc.iter().enumerate() {
        for (h, lines) in halves.iter().enumerate() {
            // SAFETY: the tier is proven.
            let mut columns = [unsafe { _mm512_setzero_si512() }; ROWS];
            for (column, x) in columns.iter_mut().zip(lines) {
                *column = line(simd, x);
            }
            for (m, row) in transpose(simd, columns).into_iter().enumerate() {
                let r = i * ROWS + m;
                if r < batch {
                    let out = &mut out[r * RowPanel::ROWS + h * ROWS..][..ROWS];
                    // SAFETY: the tier is proven; `out` has 16 floats.
                    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(row)) };
                }
            }
        }
    }
}

/// What is fetched while [`COLS`] columns of a panel are multiplied: the same of the next
/// panel, and a share of the activations' next; with the last columns, where the panel's
/// product goes.
#[derive(Clone, Copy)]
pub(in crate::kernel::matmul::amx) struct Ahead<'a, S> {
    pub panels: &'a RowPanel<'a>,
    /// Rows of activations.
    pub batch: usize,
    pub panel: usize,
    /// Which columns: `COLS · at ..`.
    pub at: usize,
    /// The activations' next columns.
    pub next: &'a [Sixteen<S>],
    /// Multiplications per panel.
    pub steps: usize,
}

impl<S> Ahead<'_, S> {
    /// During multiplication `step`.
    #[inline(always)]
    pub fn fetch(&self, simd: Avx512, step: usize) {
        let RowPanel { bytes, rows, cols, .. } = *self.panels;
        let (panels, row) = (rows.div_ceil(RowPanel::ROWS), bytes.len() / rows);
        let len = row / (cols / 32) * (COLS / 32);
        // The next panel, or the first one's next columns, or the panel behind all.
        let (first, at) = match (self.panel + 1 < panels, (self.at + 1) * COLS < cols) {
            (true, _) => ((self.panel + 1) * RowPanel::ROWS, self.at),
            (false, true) => (0, self.at + 1),
            (false, false) => (rows, 0),
        };
        let share =
            |len: usize, step: usize, steps: usize| (len * step / steps, len * (step + 1) / steps);
        // Into L2: the queue of L1 misses is left to the tiles.
        let (from, to) = share(RowPanel::ROWS, step, self.steps);
        for n in from..to {
            let start = (first + n) * row + at * len;
            lines_to_l2(simd, bytes.as_ptr().wrapping_add(start), len + 63);
        }
        if (self.at + 1) * COLS >= cols {
            let (from, to) = share(self.batch, step, self.steps);
            fetch_target(simd, self.panels, self.panel, from..to);
        }
        let step = self.panel * self.steps + step;
        let (from, to) = share(size_of_val(self.next), step, panels * self.steps);
        lines_to_l2(simd, self.next.as_ptr().cast::<u8>().wrapping_add(from), to - from);
    }
}
