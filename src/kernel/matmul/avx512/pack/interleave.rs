//! Activations for few rows in place: four blocks side by side.
//!
//! A unit is the blocks 4g .. 4g + 4 of `M` rows. With j the block in the 128-bit lanes
//! and m one of four rows in the 32-bit lanes of each:
//! ```text
//! codes   [block / 16][M][j]   16 bytes           columns 16k .. of the block
//! then for every four rows:
//! sums16  [8][j][m]            pairs of i16
//! sums32  [4][j][m]            pairs of i16
//! d8      [j][m]               f32
//! ```
//! Rows that are not there repeat the last; what blocks that are not there hold does
//! not matter.

use std::arch::x86_64::*;

use crate::kernel::pool::Team;
use crate::quant::ActivationRows;
use crate::simd::avx512::{Avx512, Line, load_four, put};

/// Blocks side by side.
pub(in crate::kernel::matmul::avx512) const BLOCKS: usize = 4;

/// Rows side by side, of what is not codes.
pub(in crate::kernel::matmul::avx512) const ROWS: usize = 4;

/// Lines of a unit: of `rows` rows.
pub(in crate::kernel::matmul::avx512) const fn unit_lines(rows: usize) -> usize {
    sums_line(rows, rows.div_ceil(ROWS))
}

/// Where the sums of the rows 4 `quad` .. begin: those of 16.
pub(in crate::kernel::matmul::avx512) const fn sums_line(rows: usize, quad: usize) -> usize {
    16 * rows + 13 * quad
}

/// Lines from [`sums_line`] to the sums of 32, and to the scales.
pub(in crate::kernel::matmul::avx512) const SUMS32: usize = 8;
pub(in crate::kernel::matmul::avx512) const D8: usize = 12;

/// Activations side by side.
#[derive(Debug, Default)]
pub(crate) struct Interleaved {
    /// Unit after unit.
    lines: Vec<Line>,
}

impl Interleaved {
    /// All of `activations`, in units of `rows` rows, at least as many as there are.
    pub fn fill(
        &mut self,
        team: &Team<'_>,
        simd: Avx512,
        activations: &ActivationRows,
        rows: usize,
    ) {
        let groups = (activations.cols() / 256).div_ceil(BLOCKS);
        self.lines.resize(groups * unit_lines(rows), Line::default());
        let mut units: Vec<_> = self.lines.chunks_exact_mut(unit_lines(rows)).collect();
        team.for_each(&mut units, |g, unit| fill_unit(simd, activations, rows, g, unit));
    }

    /// The units.
    pub fn units(&self) -> &[Line] {
        &self.lines
    }
}

/// Writes unit `g`.
fn fill_unit(simd: Avx512, activations: &ActivationRows, rows: usize, g: usize, unit: &mut [Line]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline(never)]
    fn region(
        simd: Avx512,
        activations: &ActivationRows,
        rows: usize,
        g: usize,
        unit: &mut [Line],
    ) {
        for m in 0..rows {
            let (q, ..) = row(activations, m);
            for k in 0..16 {
                let codes = four::<_, 16>(simd, q, 1024 * g + 16 * k, 256);
                put(simd, &mut unit[rows * k + m], codes);
            }
        }
        for quad in 0..rows.div_ceil(ROWS) {
            let unit = &mut unit[sums_line(rows, quad)..][..=D8];
            let mut sums: [(&[i16], &[i16]); ROWS] = [(&[], &[]); ROWS];
            for (m, sums) in sums.iter_mut().enumerate() {
                let (_, sums16, sums32) = row(activations, ROWS * quad + m);
                *sums = (sums16, sums32);
            }
            let [a, b, c, d] = sums;
            let (sums16, sums32) = ([a.0, b.0, c.0, d.0], [a.1, b.1, c.1, d.1]);
            side_by_side(simd, sums16, 64 * g, 16, &mut unit[0..4]);
            side_by_side(simd, sums16, 64 * g + 8, 16, &mut unit[4..8]);
            side_by_side(simd, sums32, 32 * g, 8, &mut unit[SUMS32..D8]);
            unit[D8] = scales(activations, g, quad);
        }
    }
    // SAFETY: `simd` proves that the CPU has the features.
    unsafe { region(simd, activations, rows, g, unit) }
}

/// Codes, sums of 16 and sums of 32 of row `m`, or of the last.
#[inline(always)]
fn row(activations: &ActivationRows, m: usize) -> (&[i8], &[i16], &[i16]) {
    activations.row_and_beyond(m.min(activations.rows() - 1)).unwrap_or_default()
}

/// `d8` of the blocks of group `g` and the rows of `quad`.
#[inline(always)]
fn scales(activations: &ActivationRows, g: usize, quad: usize) -> Line {
    let mut line = Line::default();
    for m in 0..ROWS {
        let row = activations.row((ROWS * quad + m).min(activations.rows() - 1));
        for (j, d) in row.d.iter().skip(BLOCKS * g).take(BLOCKS).enumerate() {
            line.0[ROWS * j + m] = d.to_bits();
        }
    }
    line
}

/// 16 bytes, `N` numbers, at `at` of each of four blocks of `block` numbers.
#[inline(always)]
fn four<T: Copy + Default, const N: usize>(
    simd: Avx512,
    row: &[T],
    at: usize,
    block: usize,
) -> __m512i {
    let none = [T::default(); N];
    let mut places = [&none; BLOCKS];
    for (j, place) in places.iter_mut().enumerate() {
        if let Some(numbers) = row.get(at + j * block..) {
            *place = numbers.first_chunk().unwrap_or(&none);
        }
    }
    load_four(simd, places)
}

/// 8 sums at `at` of four blocks of `block` sums, of four rows: four lines `[j][m]`, of
/// two sums each.
#[inline(always)]
fn side_by_side(simd: Avx512, rows: [&[i16]; ROWS], at: usize, block: usize, out: &mut [Line]) {
    let [a, b, c, d] = rows;
    let (a, b) = (four::<_, 8>(simd, a, at, block), four::<_, 8>(simd, b, at, block));
    let (c, d) = (four::<_, 8>(simd, c, at, block), four::<_, 8>(simd, d, at, block));
    for (out, column) in out.iter_mut().zip(columns(simd, [a, b, c, d])) {
        put(simd, out, column);
    }
}

/// Column t in each 128 bits: the 32-bit lanes t of four registers.
#[inline(always)]
pub(in crate::kernel::matmul::avx512) fn columns(_: Avx512, r: [__m512i; 4]) -> [__m512i; 4] {
    // SAFETY: the tier is proven.
    unsafe {
        let (a, b) = (_mm512_unpacklo_epi32(r[0], r[1]), _mm512_unpackhi_epi32(r[0], r[1]));
        let (c, d) = (_mm512_unpacklo_epi32(r[2], r[3]), _mm512_unpackhi_epi32(r[2], r[3]));
        [
            _mm512_unpacklo_epi64(a, c),
            _mm512_unpackhi_epi64(a, c),
            _mm512_unpacklo_epi64(b, d),
            _mm512_unpackhi_epi64(b, d),
        ]
    }
}
