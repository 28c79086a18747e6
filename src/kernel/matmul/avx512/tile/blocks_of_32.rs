//! The int8 tile of 32-wide formats: up to 6 rows of activations × 32 weight rows.
//!
//! ```text
//! a[m, r]   = Σ dpbusd(codes[k, r], activations[m, k]) − OFFSET · Σ activations[m, k]
//!                                                     over one block, exact in i32
//! t         = fma(a, d, sum[m] · m[r])
//! acc[m, r] = fma(t, d8[m], acc[m, r])                in order of k
//! ```
//! Two registers of weights and one broadcast feed two products per activation
//! row: with 6 rows 12 `dpbusd` per 8 loads; 24 of the 32 registers hold sums.

#![allow(clippy::needless_range_loop, reason = "m and r index several arrays at once")]

use std::arch::x86_64::*;
use std::ops::Range;

use super::sums::{line, load, store};
use crate::kernel::matmul::avx512::ahead::Ahead;
use crate::kernel::matmul::avx512::class::Class;
use crate::kernel::matmul::avx512::panel::Panel;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::ActivationRows;
use crate::simd::avx512::Avx512;

/// Rows of a tile.
pub(in crate::kernel::matmul::avx512) const ROWS: usize = 6;

/// The rows of tile `i` of `batch` rows: all tiles are of about one size.
pub(in crate::kernel::matmul::avx512) fn rows_of_tile(batch: usize, i: usize) -> Range<usize> {
    let tiles = batch.div_ceil(ROWS);
    batch * i / tiles..batch * (i + 1) / tiles
}

/// Where `columns` of the rows `first ..` of the activations lie.
struct Pointers<const M: usize> {
    q: [*const i8; M],
    sums32: [*const i16; M],
    d: [*const f32; M],
}

impl<const M: usize> Pointers<M> {
    #[inline(always)]
    fn new(activations: &ActivationRows, first: usize, columns: &Range<usize>) -> Self {
        let (k, blocks) = (columns.start, columns.start / activations.block_len());
        let mut rows = Pointers {
            q: [std::ptr::null(); M],
            sums32: [std::ptr::null(); M],
            d: [std::ptr::null(); M],
        };
        for m in 0..M {
            let row = activations.row(first + m);
            rows.q[m] = row.q[k..].as_ptr();
            rows.sums32[m] = row.sums32[k / 32..].as_ptr();
            rows.d[m] = row.d[blocks..].as_ptr();
        }
        rows
    }
}

/// Four bytes at `p` in every lane.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn splat(_: Avx512, p: *const i8) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
}

/// The tile of 32-wide formats, with minimums or with an offset: a scale per 32 columns, no
/// integer scales.
#[allow(clippy::too_many_arguments, reason = "what a tile is made of")]
#[inline(always)]
pub(in crate::kernel::matmul::avx512) fn small_tile<const HAS_MIN: bool, const M: usize>(
    simd: Avx512,
    class: Class,
    panel: &Panel,
    activations: &ActivationRows,
    first: usize,
    columns: &Range<usize>,
    ahead: Ahead,
    out: &mut [f32],
) {
    // SAFETY: `simd` proves that the CPU has the features.
    unsafe {
        region::<HAS_MIN, M>(simd, class, panel, activations, first, columns, ahead, out);
    }
}

/// See [`small_tile`]. A function of its own, which formats share.
#[allow(clippy::too_many_arguments, reason = "those of `small_tile`")]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
#[inline(never)]
fn region<const HAS_MIN: bool, const M: usize>(
    simd: Avx512,
    class: Class,
    panel: &Panel,
    activations: &ActivationRows,
    first: usize,
    columns: &Range<usize>,
    ahead: Ahead,
    out: &mut [f32],
) {
    let blocks = columns.len() / 32;
    assert!(columns.end <= activations.cols() && out.len() >= M * RowPanel::ROWS);
    assert!(panel.codes.len() >= blocks * 16 && panel.floats.len() >= blocks * 4);
    let rows = Pointers::<M>::new(activations, first, columns);
    let (codes, floats) = (panel.codes.as_ptr(), panel.floats.as_ptr());
    // SAFETY: the tier is proven. Lines: b < blocks and the lengths checked above.
    // Activations: `Pointers` took the rest of each row from the first column on,
    // and the columns end within the row. Output: checked above.
    unsafe {
        let mut acc = load::<M>(simd, columns.start == 0, out);
        for b in 0..blocks {
            if b % 8 == 0 {
                ahead.step(simd, (columns.start / 32 + b) / 8);
            }
            let sum = |m: usize| i32::from(*rows.sums32[m].add(b));
            let mut a = [[_mm512_setzero_si512(); 2]; M];
            if !HAS_MIN {
                for (m, a) in a.iter_mut().enumerate() {
                    *a = [_mm512_set1_epi32(-i32::from(class.offset) * sum(m)); 2];
                }
            }
            for k in b * 8..(b + 1) * 8 {
                let w = [line(simd, codes, 2 * k), line(simd, codes, 2 * k + 1)];
                for m in 0..M {
                    let x = splat(simd, rows.q[m].add(4 * k));
                    a[m][0] = _mm512_dpbusd_epi32(a[m][0], w[0], x);
                    a[m][1] = _mm512_dpbusd_epi32(a[m][1], w[1], x);
                }
            }
            for r in 0..2 {
                let d = _mm512_castsi512_ps(line(simd, floats, (b * 2 + r) * 2));
                let min = _mm512_castsi512_ps(line(simd, floats, (b * 2 + r) * 2 + 1));
                for m in 0..M {
                    let isum = _mm512_cvtepi32_ps(a[m][r]);
                    let t = if HAS_MIN {
                        let msum = _mm512_set1_ps(sum(m) as f32);
                        _mm512_fmadd_ps(isum, d, _mm512_mul_ps(msum, min))
                    } else {
                        _mm512_mul_ps(isum, d)
                    };
                    let d8 = _mm512_set1_ps(*rows.d[m].add(b));
                    acc[m][r] = _mm512_fmadd_ps(t, d8, acc[m][r]);
                }
            }
        }
        store(simd, acc, out);
    }
}
