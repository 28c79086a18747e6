//! The int8 tile: up to 6 rows of activations × 32 weight rows over all columns.
//!
//! ```text
//! a[m, r]   = Σ dpbusd(codes[k, r], activations[m, k]) − OFFSET · Σ activations[m, k]
//!                                                           over one sub-block
//! sup[m, r] = Σ a[m, r] · scale[r]                          over one super-block
//! t         = fma(sup, d, −(msum · dmin))      sums are exact
//! acc[m, r] = fma(t, d8[m], acc[m, r])         in order of k
//! ```
//! Two registers of weights and one broadcast feed two products per activation
//! row: with 6 rows 12 `dpbusd` per 8 loads; 24 of the 32 registers hold sums.

#![allow(clippy::needless_range_loop, reason = "m and r index several arrays at once")]

use std::arch::x86_64::*;
use std::ops::Range;

use super::Avx512;
use super::codes::SmallCodes;
use super::panel::{Line, Panel};
use super::products::Ahead;
use super::scales::SuperScales;
use crate::quant::ActivationRows;
use crate::simd::Strip;
use crate::simd::sixes::{ROWS, Six};

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
unsafe fn splat<T>(_: Avx512, p: *const T) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
}

/// # Safety
/// There are more than `at` lines.
#[inline(always)]
unsafe fn line(_: Avx512, lines: *const Line, at: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_load_si512(lines.add(at).cast()) }
}

/// The tile of a super-block format: `out[m, n]` with rows [`Strip::ROWS`] apart, of
/// the columns `start ..` that the panel holds.
#[inline(always)]
pub(super) fn super_tile<F: SuperScales, const M: usize>(
    simd: Avx512,
    panel: &Panel,
    blocks: &[Six],
    start: usize,
    ahead: Ahead,
    out: &mut [f32],
) {
    let (subs, pairs, count) = (256 / F::SUB, 128 / F::SUB, blocks.len());
    assert!(M <= ROWS && out.len() >= M * Strip::ROWS);
    assert!(panel.codes.len() >= count * 128 && panel.floats.len() >= count * 4);
    assert!(panel.scales.len() >= count * 2 * subs && panel.mins.len() >= count * 2 * pairs);
    let (codes, scales) = (panel.codes.as_ptr(), panel.scales.as_ptr());
    let (mins, floats) = (panel.mins.as_ptr(), panel.floats.as_ptr());
    // SAFETY: the set is proven. Lines: b < count and the lengths checked above.
    // Output: checked above.
    unsafe {
        let mut acc = load::<M>(simd, start == 0, out);
        for (b, six) in blocks.iter().enumerate() {
            ahead.step(simd, start / 256 + b);
            let sums = |m: usize, p: usize| match F::SUB {
                16 => splat(simd, &raw const six.sums16[p][m]),
                _ => splat(simd, &raw const six.sums32[p][m]),
            };
            let zero = _mm512_setzero_si512();
            let mut sup = [[zero; 2]; M];
            for s in 0..subs {
                let mut a = [[zero; 2]; M];
                if F::OFFSET != 0 {
                    // Shifts and differences leave the ports that multiply free.
                    let power = _mm_cvtsi32_si128(F::OFFSET.trailing_zeros().cast_signed());
                    for m in 0..M {
                        let pair = sums(m, s / 2);
                        let low = if s % 2 == 0 { _mm512_slli_epi32::<16>(pair) } else { pair };
                        let offset = _mm512_sll_epi32(_mm512_srai_epi32::<16>(low), power);
                        a[m] = [_mm512_sub_epi32(zero, offset); 2];
                    }
                }
                for g in 0..F::SUB / 4 {
                    let k = b * 64 + s * (F::SUB / 4) + g;
                    let w = [line(simd, codes, 2 * k), line(simd, codes, 2 * k + 1)];
                    for m in 0..M {
                        let x = splat(simd, &raw const six.codes[s * (F::SUB / 4) + g][m]);
                        a[m][0] = _mm512_dpbusd_epi32(a[m][0], w[0], x);
                        a[m][1] = _mm512_dpbusd_epi32(a[m][1], w[1], x);
                    }
                }
                for r in 0..2 {
                    let scale = line(simd, scales, (b * subs + s) * 2 + r);
                    for m in 0..M {
                        let scaled = _mm512_mullo_epi32(a[m][r], scale);
                        sup[m][r] = _mm512_add_epi32(sup[m][r], scaled);
                    }
                }
            }
            // Rows outside: a row's sums are broadcast once and not kept.
            for m in 0..M {
                let d8 = _mm512_set1_ps(six.d[m]);
                for r in 0..2 {
                    let d = _mm512_castsi512_ps(line(simd, floats, (b * 2 + r) * 2));
                    let isum = _mm512_cvtepi32_ps(sup[m][r]);
                    let t = if F::HAS_MIN {
                        let mut msum = _mm512_setzero_si512();
                        for p in 0..pairs {
                            let mins = line(simd, mins, (b * pairs + p) * 2 + r);
                            msum = _mm512_dpwssd_epi32(msum, mins, sums(m, p));
                        }
                        let dmin = line(simd, floats, (b * 2 + r) * 2 + 1);
                        let msum = _mm512_cvtepi32_ps(msum);
                        _mm512_fmsub_ps(isum, d, _mm512_mul_ps(msum, _mm512_castsi512_ps(dmin)))
                    } else {
                        _mm512_mul_ps(isum, d)
                    };
                    acc[m][r] = _mm512_fmadd_ps(t, d8, acc[m][r]);
                }
            }
        }
        store(simd, acc, out);
    }
}

/// The tile of a 32-wide format: a scale per 32 columns, no integer scales.
#[inline(always)]
pub(super) fn small_tile<F: SmallCodes, const M: usize>(
    simd: Avx512,
    panel: &Panel,
    activations: &ActivationRows,
    first: usize,
    columns: &Range<usize>,
    ahead: Ahead,
    out: &mut [f32],
) {
    let blocks = columns.len() / 32;
    assert!(columns.end <= activations.cols() && out.len() >= M * Strip::ROWS);
    assert!(panel.codes.len() >= blocks * 16 && panel.floats.len() >= blocks * 4);
    let rows = Pointers::<M>::new(activations, first, columns);
    let (codes, floats) = (panel.codes.as_ptr(), panel.floats.as_ptr());
    // SAFETY: the set is proven. Lines: b < blocks and the lengths checked above.
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
            if F::OFFSET != 0 {
                for (m, a) in a.iter_mut().enumerate() {
                    *a = [_mm512_set1_epi32(-i32::from(F::OFFSET) * sum(m)); 2];
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
                    let t = if F::HAS_MIN {
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

/// The sums so far: zeros at the start of the rows.
///
/// # Safety
/// `out` holds `M` rows of [`Strip::ROWS`] floats.
#[inline(always)]
unsafe fn load<const M: usize>(_: Avx512, start: bool, out: &[f32]) -> [[__m512; 2]; M] {
    // SAFETY: the set is proven; the caller's promise.
    unsafe {
        let mut acc = [[_mm512_setzero_ps(); 2]; M];
        if !start {
            for m in 0..M {
                for r in 0..2 {
                    acc[m][r] = _mm512_loadu_ps(out.as_ptr().add(m * Strip::ROWS + 16 * r));
                }
            }
        }
        acc
    }
}

/// # Safety
/// `out` holds `M` rows of [`Strip::ROWS`] floats.
#[inline(always)]
unsafe fn store<const M: usize>(_: Avx512, acc: [[__m512; 2]; M], out: &mut [f32]) {
    for (m, acc) in acc.into_iter().enumerate() {
        for (r, acc) in acc.into_iter().enumerate() {
            // SAFETY: the caller's promise.
            unsafe { _mm512_storeu_ps(out.as_mut_ptr().add(m * Strip::ROWS + 16 * r), acc) };
        }
    }
}
