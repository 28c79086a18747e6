//! A few rows of activations: weights are decoded where they lie in the file, four
//! blocks of a row at a time, and multiplied with every row while they are in registers.
//!
//! Lanes are `[j][i]`: j, the 128 bits, is the block; i, the 32 bits within, four of 16
//! weights ([`Interleaved`](super::super::pack::Interleaved) prepares the activations so).
//! ```text
//! codes[k]   [j][16 bytes]                            weights 16k .. of each block
//! a[m, s]    = Σ dpbusd(codes[k], activations[k, m])  over sub-block s: four sums of a
//!                                                     block, each fits 16 bits (but of
//!                                                     IQ4_XS: `mulld` for each)
//! isum[m]   += dpwssd(packs(a[m, s], a[m, s + 1]), scales s and s + 1)
//! isum[j, m] = Σ isum[m][j]                           the four sums added up
//! t          = fma(isum, d, −(msum · dmin))           16 values at once
//! acc[m]     = fma(t[j, m], d8[j, m], acc[m])         j in order
//! ```
//! What is decoded once serves every row of activations, and one multiplication takes the
//! scales of two sub-blocks. A row's blocks go by [`GROUPS`], all weight rows of the panel
//! for one part of the columns before the next part, so that the activations of the part
//! stay in the L1 cache.

#![allow(clippy::needless_range_loop, reason = "m and q index several arrays at once")]

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernel::matmul::avx512::decode::Lanes;
use crate::kernel::matmul::avx512::pack::{
    BLOCKS, D8, ROWS, SUMS32, columns, sums_line, unit_lines,
};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{AHEAD, Avx512, Line, NEAR, dpwssd};

/// Groups of four blocks of a row before the next row follows: 4,096 columns. Of longer
/// rows half as many for more than four rows of activations, which would be read from the
/// L2 cache for every row panel otherwise.
const GROUPS: usize = 4;

/// The sums of a weight row with four rows of activations, `Q` times.
type Sums<const Q: usize> = [[f32; ROWS]; Q];

/// The product of a panel of a super-block format with `batch` rows of activations, up to
/// `M`, `Q` times four or fewer.
#[inline(always)]
pub(in crate::kernel::matmul::avx512) fn super_blocks<F: Lanes, const M: usize, const Q: usize>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    (batch, units): (usize, &[Line]),
    out: &mut [f32],
) {
    const { assert!(Q == M.div_ceil(ROWS)) };
    let blocks = weights.cols / 256;
    let at_once = if blocks <= GROUPS * BLOCKS { GROUPS } else { GROUPS / Q };
    let mut sums = [[[0.0; ROWS]; Q]; RowPanel::ROWS];
    let mut first = 0;
    for units in units.chunks(at_once * unit_lines(M)) {
        let end = blocks.min(first + at_once * BLOCKS);
        let columns = first * size_of::<F::Block>()..end * size_of::<F::Block>();
        let (near, far) =
            (Ahead::new(weights, &columns, NEAR), Ahead::new(weights, &columns, AHEAD));
        for (n, (row, sums)) in weights.weight_rows().zip(&mut sums).enumerate() {
            let mut acc = load::<Q>(simd, sums);
            let (mut near, mut far) = (near.of(n), far.of(n));
            let (groups, rest) = F::blocks(row)[first..end].as_chunks::<BLOCKS>();
            let mut units = units.chunks_exact(unit_lines(M));
            for ([a, b, c, d], units) in groups.iter().zip(&mut units) {
                let len = BLOCKS * size_of::<F::Block>();
                simd.fetch_during(far, 0..len);
                group::<F, M, Q>(simd, [a, b, c, d], units, BLOCKS, &mut acc);
                simd.fetch_after(near, far, len);
                (near, far) = (near.wrapping_add(len), far.wrapping_add(len));
            }
            if let ([first, rest @ ..], Some(units)) = (rest, units.next()) {
                // Blocks that are not there repeat the first; their values are not used.
                let block = |i: usize| rest.get(i).unwrap_or(first);
                let blocks = [first, block(0), block(1), first];
                group::<F, M, Q>(simd, blocks, units, 1 + rest.len(), &mut acc);
            }
            store::<Q>(simd, acc, sums);
        }
        first = end;
    }
    for (m, out) in out.chunks_exact_mut(RowPanel::ROWS).take(batch).enumerate() {
        for (out, sums) in out.iter_mut().zip(&sums).take(weights.rows) {
            *out = sums.as_flattened()[m];
        }
    }
}

/// What to fetch while a row's blocks are multiplied: the same blocks of a later row,
/// a number of bytes further in the order in which they are used.
struct Ahead {
    /// The first block of row 0, of the next blocks, or of the next weights.
    start: *const u8,
    next: *const u8,
    row_bytes: usize,
    rows: usize,
    /// Rows ahead.
    lead: usize,
}

impl Ahead {
    /// For the bytes `columns` of every row, about `distance` bytes ahead.
    #[inline(always)]
    fn new(weights: &RowPanel<'_>, columns: &Range<usize>, distance: usize) -> Self {
        let &Range { start, end } = columns;
        let row_bytes = weights.bytes.len() / weights.rows;
        let next = if end < row_bytes { end } else { weights.bytes.len() };
        Ahead {
            start: weights.bytes.as_ptr().wrapping_add(start),
            next: weights.bytes.as_ptr().wrapping_add(next),
            row_bytes,
            rows: weights.rows,
            lead: distance.div_ceil(end - start),
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

#[inline(always)]
fn load<const Q: usize>(_: Avx512, sums: &Sums<Q>) -> [__m128; Q] {
    // SAFETY: the tier is proven; 16 bytes can be read from each.
    unsafe {
        let mut acc = [_mm_setzero_ps(); Q];
        for q in 0..Q {
            acc[q] = _mm_loadu_ps(sums[q].as_ptr());
        }
        acc
    }
}

#[inline(always)]
fn store<const Q: usize>(_: Avx512, acc: [__m128; Q], sums: &mut Sums<Q>) {
    for q in 0..Q {
        // SAFETY: the tier is proven; 16 bytes can be written to each.
        unsafe { _mm_storeu_ps(sums[q].as_mut_ptr(), acc[q]) };
    }
}

/// The first `count` of four blocks of a weight row times all rows of activations.
#[inline(always)]
fn group<F: Lanes, const M: usize, const Q: usize>(
    simd: Avx512,
    blocks: [&F::Block; BLOCKS],
    units: &[Line],
    count: usize,
    acc: &mut [__m128; Q],
) {
    assert!(units.len() == unit_lines(M));
    let head = F::head(simd, blocks);
    let decoded = F::lanes(simd, &head);
    // SAFETY: the tier is proven.
    let mut isum = [unsafe { _mm512_setzero_si512() }; M];
    // Four calls, not a loop: what is chosen by the number of the quarter must be
    // known to the compiler.
    quarter::<F, M, 0>(simd, blocks, &decoded, units, &mut isum);
    quarter::<F, M, 1>(simd, blocks, &decoded, units, &mut isum);
    quarter::<F, M, 2>(simd, blocks, &decoded, units, &mut isum);
    quarter::<F, M, 3>(simd, blocks, &decoded, units, &mut isum);
    let (d, dmin) = F::floats(simd, blocks, &head);
    let (d, dmin) = (each(simd, d), each(simd, dmin));
    for q in 0..Q {
        let sums = added_up::<M>(simd, &isum, q);
        let sides = sides::<F>(simd, &decoded, &units[sums_line(M, q)..]);
        // SAFETY: the tier is proven; the number of lines was checked.
        unsafe {
            let t = if F::HAS_MIN {
                let msum = _mm512_mul_ps(_mm512_cvtepi32_ps(sides), dmin);
                _mm512_fmsub_ps(_mm512_cvtepi32_ps(sums), d, msum)
            } else {
                _mm512_mul_ps(_mm512_cvtepi32_ps(_mm512_add_epi32(sums, sides)), d)
            };
            let d8 = _mm512_castsi512_ps(line(simd, units, sums_line(M, q) + D8));
            acc[q] = chain(simd, t, d8, count, acc[q]);
        }
    }
}

/// Adds `Σ scale · Σ code · activation` over the weights 64 `C` .. of each block.
#[inline(always)]
fn quarter<F: Lanes, const M: usize, const C: usize>(
    simd: Avx512,
    blocks: [&F::Block; BLOCKS],
    decoded: &F::Decoded,
    units: &[Line],
    isum: &mut [__m512i; M],
) {
    let codes = F::quarter(simd, blocks, C);
    if F::SUB == 32 {
        let scales = F::scale_pair(simd, decoded, 2 * C);
        for m in 0..M {
            let a = two::<M, 0>(simd, &codes, units, 4 * C, m);
            let b = two::<M, 2>(simd, &codes, units, 4 * C, m);
            isum[m] = scaled::<F>(simd, isum[m], a, b, scales);
        }
    } else {
        let first = F::scale_pair(simd, decoded, 4 * C);
        let second = F::scale_pair(simd, decoded, 4 * C + 2);
        for m in 0..M {
            let a = one::<M, 0>(simd, &codes, units, 4 * C, m);
            let b = one::<M, 1>(simd, &codes, units, 4 * C, m);
            isum[m] = scaled::<F>(simd, isum[m], a, b, first);
            let a = one::<M, 2>(simd, &codes, units, 4 * C, m);
            let b = one::<M, 3>(simd, &codes, units, 4 * C, m);
            isum[m] = scaled::<F>(simd, isum[m], a, b, second);
        }
    }
}

/// The products of register `A` of the codes.
#[inline(always)]
fn one<const M: usize, const A: usize>(
    simd: Avx512,
    codes: &[__m512i; 4],
    units: &[Line],
    k: usize,
    m: usize,
) -> __m512i {
    // SAFETY: the tier is proven; `group` checked the number of lines: k + A < 16, m < M.
    unsafe {
        let x = line(simd, units, (k + A) * M + m);
        _mm512_dpbusd_epi32(_mm512_setzero_si512(), codes[A], x)
    }
}

/// The products of the registers `A` and `A + 1` of the codes.
#[inline(always)]
fn two<const M: usize, const A: usize>(
    simd: Avx512,
    codes: &[__m512i; 4],
    units: &[Line],
    k: usize,
    m: usize,
) -> __m512i {
    // SAFETY: as in `one`.
    unsafe {
        let x = line(simd, units, (k + A + 1) * M + m);
        _mm512_dpbusd_epi32(one::<M, A>(simd, codes, units, k, m), codes[A + 1], x)
    }
}

/// `sum + a · s + b · s'` with the scales s in the low and s' in the high half of each
/// 128 bits.
#[inline(always)]
fn scaled<F: Lanes>(_: Avx512, sum: __m512i, a: __m512i, b: __m512i, scales: __m512i) -> __m512i {
    // |a| and |b|: a sum of SUB / 4 products.
    let fit = (F::MOST + F::OFFSET as i32) * 128 * (F::SUB / 4) as i32 <= 1 << 15;
    // SAFETY: the tier is proven.
    unsafe {
        if fit {
            return dpwssd(sum, _mm512_packs_epi32(a, b), scales);
        }
        let low = _mm512_srai_epi32::<16>(_mm512_shuffle_epi32::<0b00_00_00_00>(scales));
        let high = _mm512_srai_epi32::<16>(_mm512_shuffle_epi32::<0b11_11_11_11>(scales));
        let (a, b) = (_mm512_mullo_epi32(a, low), _mm512_mullo_epi32(b, high));
        _mm512_add_epi32(sum, _mm512_add_epi32(a, b))
    }
}

/// The four sums of each block added up, of the rows 4 `q` ..: `[j][m]`.
#[inline(always)]
fn added_up<const M: usize>(simd: Avx512, isum: &[__m512i; M], q: usize) -> __m512i {
    let mut rows = [isum[M - 1]; ROWS];
    for (m, row) in rows.iter_mut().enumerate() {
        *row = isum[(ROWS * q + m).min(M - 1)];
    }
    let [a, b, c, d] = columns(simd, rows);
    // SAFETY: the tier is proven.
    unsafe { _mm512_add_epi32(_mm512_add_epi32(a, b), _mm512_add_epi32(c, d)) }
}

/// `Σ side · (sum of activations)` over the pairs of sub-blocks: `[j][m]`.
#[inline(always)]
fn sides<F: Lanes>(simd: Avx512, decoded: &F::Decoded, sums: &[Line]) -> __m512i {
    assert!(sums.len() > D8);
    let at = if F::SUB == 16 { 0 } else { SUMS32 };
    // SAFETY: the tier is proven; at most 8 lines of 16 or 4 of 32 are read.
    unsafe {
        let mut sum = _mm512_setzero_si512();
        for p in 0..128 / F::SUB {
            let side = F::side(simd, decoded, p);
            sum = _mm512_dpwssd_epi32(sum, side, line(simd, sums, at + p));
        }
        sum
    }
}

/// Lane j four times, for each j.
#[inline(always)]
pub(super) fn each(_: Avx512, x: __m128) -> __m512 {
    // SAFETY: the tier is proven.
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

/// `acc = fma(t[j], d8[j], acc)` over the first `count` blocks.
#[inline(always)]
fn chain(_: Avx512, t: __m512, d8: __m512, count: usize, acc: __m128) -> __m128 {
    // SAFETY: the tier is proven.
    unsafe {
        let acc = _mm_fmadd_ps(_mm512_castps512_ps128(t), _mm512_castps512_ps128(d8), acc);
        if count < 2 {
            return acc;
        }
        let (t1, d1) = (_mm512_extractf32x4_ps::<1>(t), _mm512_extractf32x4_ps::<1>(d8));
        let acc = _mm_fmadd_ps(t1, d1, acc);
        if count < 3 {
            return acc;
        }
        let (t2, d2) = (_mm512_extractf32x4_ps::<2>(t), _mm512_extractf32x4_ps::<2>(d8));
        let acc = _mm_fmadd_ps(t2, d2, acc);
        if count < 4 {
            return acc;
        }
        let (t3, d3) = (_mm512_extractf32x4_ps::<3>(t), _mm512_extractf32x4_ps::<3>(d8));
        _mm_fmadd_ps(t3, d3, acc)
    }
}
