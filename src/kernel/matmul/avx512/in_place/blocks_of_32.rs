//! [`super::one_row`] for the 32-wide formats: 16 blocks at a time.
//!
//! ```text
//! s[i]  = dpbusd(u, a)     blocks 2i (low half of the lanes) and 2i + 1
//! isum  = sums of eight lanes − OFFSET · (sum of 32 activations)
//! t     = fma(isum, d, msum · m)
//! ```

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::one_row::{Row, add_up};
use crate::kernel::matmul::avx512::decode::SmallCodes;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::ActivationRows;
use crate::simd::avx512::{AHEAD, Avx512, LINE, NEAR, load32, load64};

/// Blocks that are decoded together.
const GROUP: usize = 16;

/// Activations of 16 blocks.
#[derive(Clone, Copy)]
struct Group<'a> {
    q: &'a [i8; 32 * GROUP],
    sums32: &'a [i16; GROUP],
}

/// The product of a panel of a 32-wide format with `M` rows of activations.
#[inline(always)]
pub(in crate::kernel::matmul::avx512) fn small_blocks<F: SmallCodes, const M: usize>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    rows: &ActivationRows,
    values: &mut Vec<f32>,
    out: &mut [f32],
) {
    let blocks = weights.cols / 32;
    let stride = blocks.next_multiple_of(GROUP);
    values.resize(M * RowPanel::ROWS * stride, 0.0);
    let activations = Row::all::<M>(rows);
    let activations = activations.map(|row| (row.q.as_chunks().0, row.sums32.as_chunks().0));
    for (n, row) in weights.weight_rows().enumerate() {
        let (groups, tail) = F::blocks(row).as_chunks::<GROUP>();
        let mut last = None;
        if let [first, ..] = tail {
            // Blocks that are not there repeat one; their values are not used.
            let mut padded = [*first; GROUP];
            padded[..tail.len()].copy_from_slice(tail);
            last = Some(padded);
        }
        for (g, group) in groups.iter().chain(&last).enumerate() {
            let start = std::ptr::from_ref(group).cast::<u8>();
            let (near, far) = (start.wrapping_add(NEAR), start.wrapping_add(AHEAD));
            simd.fetch_during(far, 0..size_of_val(group));
            let activations = activations.map(|(q, sums32)| Group {
                q: q.get(g).unwrap_or(const { &[0; 32 * GROUP] }),
                sums32: sums32.get(g).unwrap_or(const { &[0; GROUP] }),
            });
            let t = group_values::<F, M>(simd, group, &activations);
            simd.fetch_after(near, far, size_of_val(group));
            for (m, t) in t.into_iter().enumerate() {
                let at = (m * RowPanel::ROWS + n) * stride + GROUP * g;
                if let Some(values) = values[at..].first_chunk_mut::<GROUP>() {
                    // SAFETY: the tier is proven; 64 bytes can be written.
                    unsafe { _mm512_storeu_ps(values.as_mut_ptr(), t) };
                }
            }
        }
    }
    add_up::<M>(simd, weights, rows, values, out);
}

/// The values t of 16 blocks of one weight row, for each row of activations.
#[inline(always)]
fn group_values<F: SmallCodes, const M: usize>(
    simd: Avx512,
    blocks: &[F::Block; GROUP],
    activations: &[Group<'_>; M],
) -> [__m512; M] {
    // SAFETY: the tier is proven.
    unsafe {
        let zero = _mm512_setzero_si512();
        let mut dots = [[zero; 8]; M];
        for (i, pair) in blocks.as_chunks::<2>().0.iter().enumerate() {
            let codes = F::codes(simd, [&pair[0], &pair[1]]);
            for (group, dots) in activations.iter().zip(&mut dots) {
                let q = load64(simd, &group.q.as_chunks::<64>().0[i]);
                dots[i] = _mm512_dpbusd_epi32(zero, codes, q);
            }
        }
        let d = scales::<F, 0>(simd, blocks);
        let mut t = [_mm512_setzero_ps(); M];
        for ((group, dots), t) in activations.iter().zip(dots).zip(&mut t) {
            let sums32 = _mm512_cvtepi16_epi32(load32(simd, group.sums32));
            let offset = _mm512_mullo_epi32(sums32, _mm512_set1_epi32(F::OFFSET.into()));
            let isum = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum_halves::<F>(simd, dots), offset));
            *t = if F::HAS_MIN {
                let m = scales::<F, 2>(simd, blocks);
                _mm512_fmadd_ps(isum, d, _mm512_mul_ps(_mm512_cvtepi32_ps(sums32), m))
            } else {
                _mm512_mul_ps(isum, d)
            };
        }
        t
    }
}

/// The float scale at byte `AT` of each block. (One by one, as words put into a register,
/// they took a sixth of Q4_0's time.)
#[inline(always)]
fn scales<F: SmallCodes, const AT: usize>(simd: Avx512, blocks: &[F::Block; GROUP]) -> __m512 {
    let start = std::ptr::from_ref(blocks).cast::<u8>();
    // SAFETY: the tier is proven; `Places::START` ends a line before the blocks do.
    unsafe {
        let mut bits = _mm512_setzero_si512();
        for i in 0..GROUP / Places::<F, AT>::AT_ONCE {
            let bytes = _mm512_loadu_si512(start.add(Places::<F, AT>::START[i]).cast());
            let order = load64(simd, &Places::<F, AT>::ORDER[i]);
            let words = Places::<F, AT>::WORDS[i];
            bits = _mm512_mask_permutexvar_epi8(bits, words, order, bytes);
        }
        F::to_f32(simd, _mm512_castsi512_si256(bits))
    }
}

/// Where a permutation of 64 bytes finds the numbers of [`scales`].
struct Places<F, const AT: usize>(PhantomData<F>);

impl<F: SmallCodes, const AT: usize> Places<F, AT> {
    const SIZE: usize = size_of::<F::Block>();

    /// Of how many blocks 64 bytes have the number.
    const AT_ONCE: usize = if 3 * Self::SIZE + AT + F::SCALE_BYTES <= LINE { 4 } else { 2 };

    /// Where the 64 bytes of each step lie.
    const START: [usize; GROUP / 2] = {
        let (mut start, mut i) = ([0; GROUP / 2], 0);
        while i < GROUP / Self::AT_ONCE {
            let (at, last) = (i * Self::AT_ONCE * Self::SIZE, GROUP * Self::SIZE - LINE);
            start[i] = if at < last { at } else { last };
            i += 1;
        }
        start
    };

    /// Which of them go into which words.
    const ORDER: [[u8; LINE]; GROUP / 2] = {
        let (mut order, mut block) = ([[0; LINE]; GROUP / 2], 0);
        while block < GROUP {
            let i = block / Self::AT_ONCE;
            let at = block * Self::SIZE + AT - Self::START[i];
            assert!(at + F::SCALE_BYTES <= LINE);
            order[i][2 * block] = at as u8;
            order[i][2 * block + 1] = at as u8 + 1;
            block += 1;
        }
        order
    };

    /// The bytes of the words that a step has; the others are zero.
    const WORDS: [u64; GROUP / 2] = {
        let (mut words, mut block) = ([0; GROUP / 2], 0);
        while block < GROUP {
            words[block / Self::AT_ONCE] |= (0b11 >> (2 - F::SCALE_BYTES)) << (2 * block);
            block += 1;
        }
        words
    };
}

/// The sums of the low and of the high eight lanes of eight vectors: vector 0
/// low, vector 0 high, vector 1 low, …
#[inline(always)]
fn sum_halves<F: SmallCodes>(simd: Avx512, v: [__m512i; 8]) -> __m512i {
    let [a, b, c, d, e, f, g, h] = v;
    let (low, high) =
        (sum_quarters::<F>(simd, [a, b, c, d]), sum_quarters::<F>(simd, [e, f, g, h]));
    // SAFETY: the tier is proven.
    unsafe {
        // Quarters now: low halves of 0–3, high halves of 0–3, of 4–7 the same.
        let sums = _mm512_add_epi32(
            _mm512_shuffle_i32x4::<0b10_00_10_00>(low, high),
            _mm512_shuffle_i32x4::<0b11_01_11_01>(low, high),
        );
        let order = _mm512_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15);
        _mm512_permutexvar_epi32(order, sums)
    }
}

/// The sums of each 128 bits of four vectors, side by side in those 128 bits.
#[inline(always)]
fn sum_quarters<F: SmallCodes>(_: Avx512, [a, b, c, d]: [__m512i; 4]) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        if 8 * F::MOST * 127 <= i32::from(i16::MAX) {
            // A sum of eight products fits a word: two operations instead of three.
            let one = _mm512_set1_epi16(1);
            let two = |a, b| _mm512_madd_epi16(_mm512_packs_epi32(a, b), one);
            two(two(a, b), two(c, d))
        } else {
            let pair =
                |a, b| _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
            let four =
                |a, b| _mm512_add_epi32(_mm512_unpacklo_epi64(a, b), _mm512_unpackhi_epi64(a, b));
            four(pair(a, b), pair(c, d))
        }
    }
}
