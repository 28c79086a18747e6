//! A row panel unpacked for [`super::tile`]: 32 weight rows in the
//! lanes of registers, k running outside.
//!
//! ```text
//!         super-blocks
//! codes   [cols / 8][2 halves][2 h][4 q][2 rows][2][4 bytes]   unsigned, q + OFFSET
//! scales  [cols / 2·SUB][2][16 rows][2] i16
//! mins    the same, where there are minimums
//!         32-wide formats
//! codes   [cols / 4][2 halves][16 rows][4 bytes]
//!         both
//! floats  [blocks][2][d, dmin][16 rows] f32
//! ```
//! Of super-blocks two columns of four codes stand side by side, 32 apart, for two
//! sub-blocks (see `pack/threes.rs`). Their rows are `4q + 2h` and the
//! next of a half, which `packssdw` of h = 0 and 1 brings back into order.
//!
//! It holds [`STEP`](super::pack::STEP) columns at a time, 18 KiB, which stay in
//! the L1 cache while all rows of activations pass by. Of 32-wide formats with many rows
//! it holds all columns of the row panel (36 bytes per column: the L2 cache).

use std::arch::x86_64::*;
use std::marker::PhantomData;
use std::ops::Range;

use super::ahead::Ahead;
use super::decode::{GROUP, Put, SmallCodes, SuperScales};
use super::region::{Kernel, run};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{Avx512, Line, load32, prefetch, prefetch_lines, put, transpose};

/// An unpacked row panel.
#[derive(Debug, Default)]
pub(crate) struct Panel {
    pub(super) codes: Vec<Line>,
    pub(super) scales: Vec<Line>,
    pub(super) mins: Vec<Line>,
    pub(super) floats: Vec<Line>,
}

/// The rows `16 half ..` of a row panel; those that are not there repeat the last.
#[inline(always)]
pub(in crate::kernel::matmul) fn sixteen_rows<'a, B>(
    weights: &RowPanel<'a>,
    half: usize,
    blocks: impl Fn(&'a [u8]) -> &'a [B],
) -> [&'a [B]; 16] {
    let len = weights.bytes.len() / weights.rows;
    let mut rows: [&[B]; 16] = [&[]; 16];
    for (r, row) in rows.iter_mut().enumerate() {
        let n = (16 * half + r).min(weights.rows - 1);
        *row = blocks(&weights.bytes[n * len..(n + 1) * len]);
    }
    rows
}

/// Unpacks `columns` of `weights` into `panel`, of which format the function says; `ahead`
/// is fetched meanwhile.
pub(super) type Unpack = fn(Avx512, &RowPanel<'_>, Range<usize>, Ahead, &mut Panel);

/// Of a super-block format.
pub(super) fn unpack_super<F: SuperScales>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    columns: Range<usize>,
    ahead: Ahead,
    panel: &mut Panel,
) {
    run(simd, Super::<F>(weights, columns, ahead, panel, PhantomData));
}

struct Super<'a, F>(&'a RowPanel<'a>, Range<usize>, Ahead, &'a mut Panel, PhantomData<F>);

impl<F: SuperScales> Kernel for Super<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Super(weights, columns, ahead, panel, _) = self;
        panel.unpack_super::<F>(simd, weights, columns, ahead);
    }
}

/// Of a 32-wide format; nothing is fetched.
pub(super) fn unpack_small<F: SmallCodes>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    columns: Range<usize>,
    _: Ahead,
    panel: &mut Panel,
) {
    run(simd, Small::<F>(weights, columns, panel, PhantomData));
}

struct Small<'a, F>(&'a RowPanel<'a>, Range<usize>, &'a mut Panel, PhantomData<F>);

impl<F: SmallCodes> Kernel for Small<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Small(weights, columns, panel, _) = self;
        panel.unpack_small::<F>(simd, weights, columns);
    }
}

impl Panel {
    /// Unpacks a row panel of a super-block format.
    #[inline(always)]
    fn unpack_super<F: SuperScales>(
        &mut self,
        simd: Avx512,
        weights: &RowPanel<'_>,
        columns: Range<usize>,
        ahead: Ahead,
    ) {
        let (first, blocks) = (columns.start / 256, columns.len() / 256);
        self.codes.resize(blocks * 128, Line::default());
        self.scales.resize(blocks * 256 / F::SUB, Line::default());
        self.mins.resize(blocks * 256 / F::SUB, Line::default());
        self.floats.resize(blocks * 4, Line::default());
        for half in 0..2 {
            let rows = sixteen_rows(weights, half, F::blocks);
            for b in 0..blocks {
                let mut of_rows = [&rows[0][0]; 16];
                for (block, row) in of_rows.iter_mut().zip(rows) {
                    *block = &row[first + b];
                    // From L2, where it was fetched to: 2 % of a batch of 13 rows.
                    if let Some(next) = row.get(first + b + 1) {
                        let next = std::ptr::from_ref(next).cast();
                        prefetch_lines(simd, next, size_of::<F::Block>());
                    }
                }
                let codes = &mut self.codes[b * 128..(b + 1) * 128];
                let ahead = Ahead {
                    next: ahead
                        .next
                        .wrapping_add(64 * ahead.lines * (2 * first + half * blocks + b)),
                    ..ahead
                };
                F::columns(simd, &of_rows, &mut Half { codes, half, ahead });
                self.super_scales::<F>(simd, &of_rows, b, half);
            }
        }
    }

    #[inline(always)]
    fn super_scales<F: SuperScales>(
        &mut self,
        simd: Avx512,
        blocks: &[&F::Block; 16],
        b: usize,
        half: usize,
    ) {
        let [r0, r1, r2, r3] = *blocks.as_chunks::<GROUP>().0 else { return };
        let heads = [F::head(simd, r0), F::head(simd, r1), F::head(simd, r2), F::head(simd, r3)];
        let (scales, mins) = F::pairs(simd, &heads);
        let count = 128 / F::SUB;
        // SAFETY: the tier is proven.
        unsafe {
            for p in 0..count {
                let at = (b * count + p) * 2 + half;
                put(simd, &mut self.scales[at], scales[p]);
                if F::HAS_MIN {
                    put(simd, &mut self.mins[at], mins[p]);
                }
            }
            let [f0, f1, f2, f3] = [
                F::floats(simd, r0, &heads[0]),
                F::floats(simd, r1, &heads[1]),
                F::floats(simd, r2, &heads[2]),
                F::floats(simd, r3, &heads[3]),
            ];
            let sixteen = |a, b, c, d| {
                let x = _mm512_insertf32x4::<1>(_mm512_castps128_ps512(a), b);
                let x = _mm512_insertf32x4::<3>(_mm512_insertf32x4::<2>(x, c), d);
                _mm512_castps_si512(x)
            };
            let at = (b * 2 + half) * 2;
            put(simd, &mut self.floats[at], sixteen(f0.0, f1.0, f2.0, f3.0));
            put(simd, &mut self.floats[at + 1], sixteen(f0.1, f1.1, f2.1, f3.1));
        }
    }

    /// Unpacks a row panel of a 32-wide format. Blocks go in pairs; of an odd number
    /// the last pair repeats its block.
    #[inline(always)]
    fn unpack_small<F: SmallCodes>(
        &mut self,
        simd: Avx512,
        weights: &RowPanel<'_>,
        columns: Range<usize>,
    ) {
        let (start, blocks) = (columns.start / 32, columns.len() / 32);
        let pairs = blocks.div_ceil(2);
        self.codes.resize(pairs * 32, Line::default());
        self.floats.resize(pairs * 8, Line::default());
        for half in 0..2 {
            let rows = sixteen_rows(weights, half, F::blocks);
            for pair in 0..pairs {
                let (first, second) = (2 * pair, (2 * pair + 1).min(blocks - 1));
                // SAFETY: the tier is proven.
                let mut lanes = [unsafe { _mm512_setzero_si512() }; 16];
                for (lanes, row) in lanes.iter_mut().zip(rows) {
                    *lanes = F::codes(simd, [&row[start + first], &row[start + second]]);
                }
                let codes = &mut self.codes[pair * 32..(pair + 1) * 32];
                for (k, column) in transpose(simd, lanes).into_iter().enumerate() {
                    put(simd, &mut codes[2 * k + half], column);
                }
                for b in [first, second] {
                    let at = (b * 2 + half) * 2;
                    put(simd, &mut self.floats[at], scales::<F>(simd, &rows, start + b, 0));
                    if F::HAS_MIN {
                        put(simd, &mut self.floats[at + 1], scales::<F>(simd, &rows, start + b, 2));
                    }
                }
            }
        }
    }
}

/// A half's rows of a block; with each group two lines of the next panel are fetched.
struct Half<'a> {
    codes: &'a mut [Line],
    half: usize,
    ahead: Ahead,
}

impl Put for Half<'_> {
    #[inline(always)]
    fn put(&mut self, simd: Avx512, group: usize, [a, b]: [__m512i; 2]) {
        let at = 4 * group + 2 * self.half;
        // SAFETY: the tier is proven.
        unsafe {
            put(simd, &mut self.codes[at], _mm512_unpacklo_epi32(a, b));
            put(simd, &mut self.codes[at + 1], _mm512_unpackhi_epi32(a, b));
        }
        for line in 2 * group..self.ahead.lines.min(2 * group + 2) {
            prefetch(simd, self.ahead.next.wrapping_add(64 * line));
        }
    }
}

/// The float scale at byte `at` of block `b` of 16 rows, as f32.
#[inline(always)]
pub(in crate::kernel::matmul) fn scales<F: SmallCodes>(
    simd: Avx512,
    rows: &[&[F::Block]; 16],
    b: usize,
    at: usize,
) -> __m512i {
    let mut bits = [0u16; 16];
    for (bits, row) in bits.iter_mut().zip(rows) {
        *bits = F::scale(&row[b], at);
    }
    // SAFETY: the tier is proven.
    unsafe { _mm512_castps_si512(F::to_f32(simd, load32(simd, &bits))) }
}
