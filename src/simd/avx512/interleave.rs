//! Activations for [`super::quads`]: four blocks of four rows side by side.
//!
//! A unit is the blocks 4g .. 4g + 4 of the rows 4i .. 4i + 4. With j the block
//! in the 128-bit lanes and m the row in the 32-bit lanes of each:
//! ```text
//! codes   [block / 16][4 t][j][m]  4 bytes    columns 16c + 4t .. of the block
//! sums16  [8][j][m]  pairs of i16             blocks of 256 only
//! sums32  [4][j][m]  pairs of i16             blocks of 32: [1][j][m] i32
//! d8      [j][m]  f32
//! ```
//! Units are ordered `[g][i]`. Rows that are not there repeat the last; what blocks
//! that are not there hold does not matter.

use std::arch::x86_64::*;

use super::Avx512;
use super::panel::{Line, put};
use super::vector::load_four;
use crate::quant::{ActivationRow, ActivationRows};

/// Rows of activations side by side.
pub(super) const ROWS: usize = 4;

/// Blocks side by side.
pub(super) const BLOCKS: usize = 4;

/// Activations side by side; made anew when a thread meets other ones.
#[derive(Debug, Default)]
pub(in crate::simd) struct Interleaved {
    /// Which activations these are: [`ActivationRows::version`].
    version: u64,
    lines: Vec<Line>,
}

/// Lines of a unit.
pub(super) const fn unit_lines(block_len: usize) -> usize {
    d8_line(block_len) + 1
}

/// Where the sums of 16 begin.
pub(super) const fn sums16_line(block_len: usize) -> usize {
    block_len / 4
}

/// Where the sums of 32 begin.
pub(super) const fn sums32_line(block_len: usize) -> usize {
    if block_len == 256 { sums16_line(block_len) + 8 } else { sums16_line(block_len) }
}

/// Where the scales are.
pub(super) const fn d8_line(block_len: usize) -> usize {
    if block_len == 256 { sums32_line(block_len) + 4 } else { sums32_line(block_len) + 1 }
}

impl Interleaved {
    /// All rows of `activations`.
    #[inline(always)]
    pub(super) fn of(&mut self, simd: Avx512, activations: &ActivationRows) -> &[Line] {
        if self.version != activations.version() {
            self.version = activations.version();
            self.fill(simd, activations);
        }
        &self.lines
    }

    fn fill(&mut self, simd: Avx512, activations: &ActivationRows) {
        #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
        #[inline(never)]
        fn region(this: &mut Interleaved, simd: Avx512, activations: &ActivationRows) {
            this.fill_lines(simd, activations);
        }
        // SAFETY: `simd` proves that the CPU has the features.
        unsafe { region(self, simd, activations) }
    }

    #[inline(always)]
    fn fill_lines(&mut self, simd: Avx512, activations: &ActivationRows) {
        let len = activations.block_len();
        let groups = (activations.cols() / len).div_ceil(BLOCKS);
        let quads = activations.rows().div_ceil(ROWS);
        self.lines.resize(groups * quads * unit_lines(len), Line::default());
        let mut units = self.lines.chunks_exact_mut(unit_lines(len));
        for g in 0..groups {
            for (i, unit) in (0..quads).zip(&mut units) {
                if len == 256 {
                    unit256(simd, activations, g, i, unit);
                } else {
                    unit32(simd, activations, g, i, unit);
                }
            }
        }
    }
}

/// The numbers of activation row `4 i + m`.
#[inline(always)]
fn row(activations: &ActivationRows, i: usize, m: usize) -> usize {
    (ROWS * i + m).min(activations.rows() - 1)
}

#[inline(always)]
fn unit256(simd: Avx512, activations: &ActivationRows, g: usize, i: usize, unit: &mut [Line]) {
    let mut rows: [(&[i8], &[i16], &[i16]); ROWS] = [(&[], &[], &[]); ROWS];
    for (m, rows) in rows.iter_mut().enumerate() {
        let (q, sums, sums32) =
            activations.row_and_beyond(row(activations, i, m)).unwrap_or_default();
        *rows = (&q[g * 1024..], &sums[g * 64..], &sums32[g * 32..]);
    }
    let [(a, ..), (b, ..), (c, ..), (d, ..)] = rows;
    for k in 0..16 {
        side_by_side::<_, 16>(simd, [a, b, c, d], 16 * k, 256, &mut unit[4 * k..4 * k + 4]);
    }
    let at = sums16_line(256);
    let [(_, a, _), (_, b, _), (_, c, _), (_, d, _)] = rows;
    side_by_side::<_, 8>(simd, [a, b, c, d], 0, 16, &mut unit[at..at + 4]);
    side_by_side::<_, 8>(simd, [a, b, c, d], 8, 16, &mut unit[at + 4..at + 8]);
    let at = sums32_line(256);
    let [(.., a), (.., b), (.., c), (.., d)] = rows;
    side_by_side::<_, 8>(simd, [a, b, c, d], 0, 8, &mut unit[at..at + 4]);
    unit[d8_line(256)] = lanes(activations, g, i, |row, b| row.d[b].to_bits());
}

#[inline(always)]
fn unit32(simd: Avx512, activations: &ActivationRows, g: usize, i: usize, unit: &mut [Line]) {
    let mut rows: [&[i8]; ROWS] = [&[]; ROWS];
    for (m, rows) in rows.iter_mut().enumerate() {
        let (q, ..) = activations.row_and_beyond(row(activations, i, m)).unwrap_or_default();
        *rows = &q[g * 128..];
    }
    side_by_side::<_, 16>(simd, rows, 0, 32, &mut unit[0..4]);
    side_by_side::<_, 16>(simd, rows, 16, 32, &mut unit[4..8]);
    unit[sums32_line(32)] =
        lanes(activations, g, i, |row, b| i32::from(row.sums32[b]).cast_unsigned());
    unit[d8_line(32)] = lanes(activations, g, i, |row, b| row.d[b].to_bits());
}

/// A number of every block and row of a unit.
#[inline(always)]
fn lanes(
    activations: &ActivationRows,
    g: usize,
    i: usize,
    number: impl Fn(&ActivationRow<'_>, usize) -> u32,
) -> Line {
    let mut line = Line::default();
    let blocks = activations.cols() / activations.block_len();
    for m in 0..ROWS {
        let row = activations.row(row(activations, i, m));
        for j in 0..BLOCKS.min(blocks - BLOCKS * g) {
            line.0[ROWS * j + m] = number(&row, BLOCKS * g + j);
        }
    }
    line
}

/// 16 bytes, `N` numbers, at `at` of four blocks of `block` numbers, of four rows:
/// four lines `[j][m]`, of bytes 4t .. 4t + 4.
#[inline(always)]
fn side_by_side<T: Copy + Default, const N: usize>(
    simd: Avx512,
    rows: [&[T]; ROWS],
    at: usize,
    block: usize,
    out: &mut [Line],
) {
    let none = [T::default(); N];
    // SAFETY: the set is proven.
    unsafe {
        let mut r = [_mm512_setzero_si512(); ROWS];
        for (r, row) in r.iter_mut().zip(rows) {
            let mut places = [&none; BLOCKS];
            for (j, place) in places.iter_mut().enumerate() {
                *place = row[at + j * block..].first_chunk().unwrap_or(&none);
            }
            *r = load_four(simd, places);
        }
        let (a, b) = (_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[0], r[1]));
        let (c, d) = (_mm512_unpacklo_epi32(r[2], r[3]), _mm512_unpackhi_epi32(r[2], r[3]));
        put(simd, &mut out[0], _mm512_unpacklo_epi64(a, c));
        put(simd, &mut out[1], _mm512_unpackhi_epi64(a, c));
        put(simd, &mut out[2], _mm512_unpacklo_epi64(b, d));
        put(simd, &mut out[3], _mm512_unpackhi_epi64(b, d));
    }
}
