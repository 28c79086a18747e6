//! A few rows of activations: weights are decoded where they lie in the file, four
//! blocks of a row at a time, and multiplied with four rows of activations by one
//! instruction.
//!
//! Lanes are `[j][m]`: j, the 128 bits, is the block; m, the 32 bits within, the
//! activation row ([`super::interleave`] prepares them so).
//! ```text
//! codes[c]    [j][16 bytes]                    weights 16c .. of each block
//! w           the four bytes t of codes[c], four times in each 128 bits
//! a[j, m]    = Σ dpbusd(w, activations[c, t])  over one sub-block
//! isum[j, m] = Σ a[j, m] · scale[j]            over the block
//! t          = fma(isum, d, −(msum · dmin))    16 values at once
//! acc[m]     = fma(t[j, m], d8[j, m], acc[m])  j in order
//! ```
//! So nothing is added up across lanes, and what is decoded once serves every four
//! rows of activations. A row's blocks go by [`GROUPS`], all weight rows of the strip
//! for one part of the columns before the next part, so that the activations of the
//! part stay in the L1 cache.

#![allow(clippy::needless_range_loop, reason = "q indexes several arrays at once")]

use std::arch::x86_64::*;

use super::Avx512;
use super::interleave::{BLOCKS, Interleaved, d8_line, sums16_line, sums32_line, unit_lines};
use super::lanes::Lanes;
use super::matvec::AHEAD;
use super::panel::Line;
use super::vector::prefetch_lines;
use crate::simd::Strip;

/// Most rows of activations; from there on a panel is faster.
pub(in crate::simd) const MOST: usize = 8;

/// Groups of four blocks of a row before the next row follows: 4,096 columns.
const GROUPS: usize = 4;

/// The product of a strip of a super-block format with up to 4 `Q` rows of activations.
#[inline(always)]
pub(super) fn super_blocks<F: Lanes, const Q: usize>(
    simd: Avx512,
    strip: &Strip<'_>,
    interleaved: &mut Interleaved,
    out: &mut [f32],
) {
    let units = interleaved.of(simd, strip.activations);
    let blocks = strip.cols / 256;
    let mut first = 0;
    for units in units.chunks(GROUPS * Q * unit_lines(256)) {
        let end = blocks.min(first + GROUPS * BLOCKS);
        let ahead = Ahead::new(strip, first * size_of::<F::Block>(), end * size_of::<F::Block>());
        for n in 0..strip.rows {
            let mut acc = load::<Q>(simd, first == 0, n, strip.batch(), out);
            let row = &F::blocks(strip.row(n))[first..end];
            let mut next = ahead.of(n);
            let groups = row.chunks(BLOCKS).zip(units.chunks_exact(Q * unit_lines(256)));
            for (blocks, units) in groups {
                prefetch_lines(simd, next, size_of_val(blocks));
                next = next.wrapping_add(size_of_val(blocks));
                group::<F, Q>(simd, blocks, units, &mut acc);
            }
            store::<Q>(simd, acc, n, strip.batch(), out);
        }
        first = end;
    }
}

/// What to fetch while a row's blocks are multiplied: the same blocks of a later row,
/// about [`AHEAD`] bytes further in the order in which they are used.
struct Ahead {
    /// The first block of row 0, of the next blocks, or of the next strip.
    start: *const u8,
    next: *const u8,
    row_bytes: usize,
    rows: usize,
    /// Rows ahead.
    lead: usize,
}

impl Ahead {
    /// For the bytes `start .. end` of every row.
    #[inline(always)]
    fn new(strip: &Strip<'_>, start: usize, end: usize) -> Self {
        let row_bytes = strip.bytes.len() / strip.rows;
        let next = if end < row_bytes { end } else { strip.bytes.len() };
        Ahead {
            start: strip.bytes.as_ptr().wrapping_add(start),
            next: strip.bytes.as_ptr().wrapping_add(next),
            row_bytes,
            rows: strip.rows,
            lead: AHEAD.div_ceil(end - start),
        }
    }

    #[inline(always)]
    fn of(&self, n: usize) -> *const u8 {
        let at = n + self.lead;
        if at < self.rows {
            self.start.wrapping_add(at * self.row_bytes)
        } else {
            self.next.wrapping_add((at - self.rows) * self.row_bytes)
        }
    }
}

/// The sums of weight row `n` so far: zeros at the start of the row.
#[inline(always)]
fn load<const Q: usize>(
    _: Avx512,
    start: bool,
    n: usize,
    batch: usize,
    out: &[f32],
) -> [__m128; Q] {
    let mut values = [[0.0f32; 4]; Q];
    if !start {
        for (m, value) in values.as_flattened_mut().iter_mut().enumerate().take(batch) {
            *value = out[m * Strip::ROWS + n];
        }
    }
    // SAFETY: the set is proven; 16 bytes can be read from each.
    unsafe {
        let mut acc = [_mm_setzero_ps(); Q];
        for q in 0..Q {
            acc[q] = _mm_loadu_ps(values[q].as_ptr());
        }
        acc
    }
}

#[inline(always)]
fn store<const Q: usize>(_: Avx512, acc: [__m128; Q], n: usize, batch: usize, out: &mut [f32]) {
    let mut values = [[0.0f32; 4]; Q];
    for q in 0..Q {
        // SAFETY: the set is proven; 16 bytes can be written.
        unsafe { _mm_storeu_ps(values[q].as_mut_ptr(), acc[q]) };
    }
    for (m, value) in values.as_flattened().iter().enumerate().take(batch) {
        out[m * Strip::ROWS + n] = *value;
    }
}

/// Up to four blocks of a weight row times all rows of activations.
#[inline(always)]
fn group<F: Lanes, const Q: usize>(
    simd: Avx512,
    row: &[F::Block],
    units: &[Line],
    acc: &mut [__m128; Q],
) {
    assert!(units.len() == Q * unit_lines(256));
    // Blocks that are not there repeat the first; their values are not used.
    let [first, rest @ ..] = row else { return };
    let block = |i: usize| rest.get(i).unwrap_or(first);
    let blocks = [first, block(0), block(1), block(2)];
    let head = F::head(simd, blocks);
    let decoded = F::lanes(simd, &head);
    // SAFETY: the set is proven.
    let zero = unsafe { _mm512_setzero_si512() };
    let mut isum = [zero; Q];
    if F::OFFSET != 0 {
        sides::<F, Q>(simd, &decoded, units, &mut isum);
    }
    // Four calls, not a loop: what is chosen by the number of the quarter must be
    // known to the compiler.
    quarter::<F, Q, 0>(simd, blocks, &decoded, units, &mut isum);
    quarter::<F, Q, 1>(simd, blocks, &decoded, units, &mut isum);
    quarter::<F, Q, 2>(simd, blocks, &decoded, units, &mut isum);
    quarter::<F, Q, 3>(simd, blocks, &decoded, units, &mut isum);
    let mut msum = [zero; Q];
    if F::HAS_MIN {
        sides::<F, Q>(simd, &decoded, units, &mut msum);
    }
    let (d, dmin) = F::floats(simd, blocks, &head);
    let (d, dmin) = (each(simd, d), each(simd, dmin));
    for q in 0..Q {
        // SAFETY: the set is proven; the number of lines was checked.
        unsafe {
            let isum = _mm512_cvtepi32_ps(isum[q]);
            let t = if F::HAS_MIN {
                let msum = _mm512_cvtepi32_ps(msum[q]);
                _mm512_fmsub_ps(isum, d, _mm512_mul_ps(msum, dmin))
            } else {
                _mm512_mul_ps(isum, d)
            };
            let d8 = _mm512_castsi512_ps(line(simd, units, q * unit_lines(256) + d8_line(256)));
            acc[q] = chain(simd, t, d8, row.len(), acc[q]);
        }
    }
}

/// Adds `Σ scale · Σ code · activation` over the weights 64 `C` .. of each block.
#[inline(always)]
fn quarter<F: Lanes, const Q: usize, const C: usize>(
    simd: Avx512,
    blocks: [&F::Block; BLOCKS],
    decoded: &F::Decoded,
    units: &[Line],
    isum: &mut [__m512i; Q],
) {
    let codes = F::quarter(simd, blocks, C);
    for half in 0..2 {
        let k = 4 * C + 2 * half;
        let mut a = sixteen::<Q>(simd, codes[2 * half], units, k);
        let b = sixteen::<Q>(simd, codes[2 * half + 1], units, k + 1);
        if F::SUB == 16 {
            scaled::<F, Q>(simd, decoded, k, &a, isum);
            scaled::<F, Q>(simd, decoded, k + 1, &b, isum);
        } else {
            for q in 0..Q {
                // SAFETY: the set is proven.
                a[q] = unsafe { _mm512_add_epi32(a[q], b[q]) };
            }
            scaled::<F, Q>(simd, decoded, k / 2, &a, isum);
        }
    }
}

/// `isum += a · scale[s]`
#[inline(always)]
fn scaled<F: Lanes, const Q: usize>(
    simd: Avx512,
    decoded: &F::Decoded,
    s: usize,
    a: &[__m512i; Q],
    isum: &mut [__m512i; Q],
) {
    let scale = F::scale(simd, decoded, s);
    for q in 0..Q {
        // SAFETY: the set is proven.
        unsafe {
            isum[q] = _mm512_add_epi32(isum[q], _mm512_mullo_epi32(a[q], scale));
        }
    }
}

/// `Σ side · (sum of activations)` over the pairs of sub-blocks.
#[inline(always)]
fn sides<F: Lanes, const Q: usize>(
    simd: Avx512,
    decoded: &F::Decoded,
    units: &[Line],
    sums: &mut [__m512i; Q],
) {
    let at = if F::SUB == 16 { sums16_line(256) } else { sums32_line(256) };
    for p in 0..128 / F::SUB {
        let side = F::side(simd, decoded, p);
        for q in 0..Q {
            // SAFETY: the set is proven; `group` checked the number of lines.
            unsafe {
                let x = line(simd, units, q * unit_lines(256) + at + p);
                sums[q] = _mm512_dpwssd_epi32(sums[q], side, x);
            }
        }
    }
}

/// The products of the 16 weights `k` of each block.
#[inline(always)]
fn sixteen<const Q: usize>(simd: Avx512, codes: __m512i, units: &[Line], k: usize) -> [__m512i; Q] {
    // SAFETY: the set is proven.
    let mut a = [unsafe { _mm512_setzero_si512() }; Q];
    dot::<Q, 0>(simd, codes, units, k, &mut a);
    dot::<Q, 1>(simd, codes, units, k, &mut a);
    dot::<Q, 2>(simd, codes, units, k, &mut a);
    dot::<Q, 3>(simd, codes, units, k, &mut a);
    a
}

/// Adds the products of bytes 4 `T` .. of the 16 weights `k`.
#[inline(always)]
fn dot<const Q: usize, const T: i32>(
    simd: Avx512,
    codes: __m512i,
    units: &[Line],
    k: usize,
    a: &mut [__m512i; Q],
) {
    // SAFETY: the set is proven; `group` checked the number of lines, k < 16, T < 4.
    unsafe {
        let w = splat4::<T>(simd, codes);
        for q in 0..Q {
            let x = line_in_order(simd, units, q * unit_lines(256) + 4 * k + T as usize);
            a[q] = _mm512_dpbusd_epi32(a[q], w, x);
        }
    }
}

/// Lane `T` of each 128 bits in all four.
#[inline(always)]
fn splat4<const T: i32>(_: Avx512, x: __m512i) -> __m512i {
    // SAFETY: the set is proven.
    unsafe {
        match T {
            0 => _mm512_shuffle_epi32::<0b00_00_00_00>(x),
            1 => _mm512_shuffle_epi32::<0b01_01_01_01>(x),
            2 => _mm512_shuffle_epi32::<0b10_10_10_10>(x),
            _ => _mm512_shuffle_epi32::<0b11_11_11_11>(x),
        }
    }
}

/// Lane j four times, for each j.
#[inline(always)]
pub(super) fn each(_: Avx512, x: __m128) -> __m512 {
    // SAFETY: the set is proven.
    unsafe {
        let order = _mm512_setr_epi32(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
        _mm512_permutexvar_ps(order, _mm512_castps128_ps512(x))
    }
}

/// # Safety
/// There are more than `at` lines.
#[inline(always)]
unsafe fn line(_: Avx512, lines: &[Line], at: usize) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_load_si512(lines.as_ptr().add(at).cast()) }
}

/// As [`line`], and not moved before or behind others: else the compiler computes all
/// sums of four activation rows before those of the next four and keeps every decoded
/// weight in memory meanwhile (Q4_K, 8 rows: 50 instead of 33 cycles).
///
/// # Safety
/// There are more than `at` lines.
#[inline(always)]
unsafe fn line_in_order(_: Avx512, lines: &[Line], at: usize) -> __m512i {
    // SAFETY: the caller's promise; lines are aligned to 64 bytes.
    unsafe { lines.as_ptr().add(at).cast::<__m512i>().read_volatile() }
}

/// `acc = fma(t[j], d8[j], acc)` over the first `count` blocks.
#[inline(always)]
fn chain(_: Avx512, t: __m512, d8: __m512, count: usize, acc: __m128) -> __m128 {
    // SAFETY: the set is proven.
    unsafe {
        let mut acc = _mm_fmadd_ps(_mm512_castps512_ps128(t), _mm512_castps512_ps128(d8), acc);
        if count > 1 {
            let (t, d8) = (_mm512_extractf32x4_ps::<1>(t), _mm512_extractf32x4_ps::<1>(d8));
            acc = _mm_fmadd_ps(t, d8, acc);
        }
        if count > 2 {
            let (t, d8) = (_mm512_extractf32x4_ps::<2>(t), _mm512_extractf32x4_ps::<2>(d8));
            acc = _mm_fmadd_ps(t, d8, acc);
        }
        if count > 3 {
            let (t, d8) = (_mm512_extractf32x4_ps::<3>(t), _mm512_extractf32x4_ps::<3>(d8));
            acc = _mm_fmadd_ps(t, d8, acc);
        }
        acc
    }
}
