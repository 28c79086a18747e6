//! The int8 tile of super-block formats: up to 3 rows of activations × 32 weight rows.
//!
//! Lanes of a register hold 8 weight rows twice: once for each of two sub-blocks
//! (see [`Panel`]), so four registers of sums a belong to 32 weight rows.
//! ```text
//! a[m, r, s] = Σ dpbusd(codes[k, r], activations[m, k]) − OFFSET · Σ activations[m, k]
//!                                                     over sub-block s, exact in i32
//! sup[m, r]  = Σ a[m, r, s] · scale[r, s]             over one super-block
//! t          = fma(sup, d, −(msum · dmin))            sums are exact
//! acc[m, r]  = fma(t, d8[m], acc[m, r])               in order of k
//! ```
//! Where all a of a block are known to fit 16 bits, `packssdw` joins the sums of two
//! sub-blocks, and one `dpwssd` multiplies and adds both. That halves the multiplications
//! that are not `dpbusd`, with which they share two ports (109 multiply-adds a cycle at
//! most in Q4_K; 104 with `mulld`). Else each is multiplied by itself.
//!
//! 18 of the 32 registers hold sums within a block, 24 with the row sums `acc`, so none
//! of them goes through memory (but `acc` where `mulld` is needed); four of weights and a
//! broadcast feed twelve `dpbusd` per seven loads.

#![allow(clippy::needless_range_loop, reason = "m and r index several arrays at once")]

use std::arch::x86_64::*;

use super::sums::{line, load, store};
use crate::kernel::matmul::avx512::ahead::Ahead;
use crate::kernel::matmul::avx512::class::{Class, SuperClass};
use crate::kernel::matmul::avx512::pack::{TILE_ROWS, Three};
use crate::kernel::matmul::avx512::panel::Panel;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{Avx512, Line, dpwssd};

/// Four bytes at `p` in every lane.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn splat<T>(_: Avx512, p: *const T) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_set1_epi32(p.cast::<i32>().read_unaligned()) }
}

/// Eight bytes at `p` in every pair of lanes.
///
/// # Safety
/// They can be read.
#[inline(always)]
unsafe fn splat_pair<T>(_: Avx512, p: *const T) -> __m512i {
    // SAFETY: the caller's promise.
    unsafe { _mm512_set1_epi64(p.cast::<i64>().read_unaligned()) }
}

/// Where a block of the panel lies.
#[derive(Clone, Copy)]
struct Block {
    codes: *const Line,
    scales: *const Line,
    mins: *const Line,
    floats: *const Line,
}

/// Pairs of sub-blocks in a block.
const fn pairs<C: SuperClass>() -> usize {
    128 / C::SUB
}

/// The tile: `out[m, n]` with rows [`RowPanel::ROWS`] apart, of the columns `start ..`
/// that the panel holds. A function of its own, so that what unpacking keeps in registers
/// does not take them from the sums.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
#[inline(never)]
fn region<C: SuperClass, const M: usize>(
    simd: Avx512,
    class: Class,
    panel: &Panel,
    blocks: &[Three],
    start: usize,
    ahead: Ahead,
    out: &mut [f32],
) {
    let (pairs, count) = (pairs::<C>(), blocks.len());
    assert!(M <= TILE_ROWS && out.len() >= M * RowPanel::ROWS);
    assert!(panel.codes.len() >= count * 128 && panel.floats.len() >= count * 4);
    assert!(panel.scales.len() >= count * 2 * pairs);
    assert!(!C::HAS_MIN || panel.mins.len() >= count * 2 * pairs);
    // SAFETY: the tier is proven. Lines: b < count and the lengths checked above; `mins`
    // of formats without are not read. Output: checked above.
    unsafe {
        let mut acc = load::<M>(simd, start == 0, out);
        for (b, three) in blocks.iter().enumerate() {
            ahead.step(simd, start / 256 + b);
            let block = Block {
                codes: panel.codes.as_ptr().add(b * 128),
                scales: panel.scales.as_ptr().add(b * 2 * pairs),
                mins: panel.mins.as_ptr().wrapping_add(b * 2 * pairs),
                floats: panel.floats.as_ptr().add(b * 4),
            };
            let sup = if fits::<C>(class, three) {
                narrow::<C, M>(simd, class, block, three)
            } else {
                wide::<C, M>(simd, class, block, three)
            };
            let msum = mins::<C, M>(simd, block, three);
            for r in 0..2 {
                let d = _mm512_castsi512_ps(line(simd, block.floats, 2 * r));
                let dmin = _mm512_castsi512_ps(line(simd, block.floats, 2 * r + 1));
                for m in 0..M {
                    let isum = _mm512_cvtepi32_ps(sup[m][r]);
                    let t = if C::HAS_MIN {
                        let msum = _mm512_cvtepi32_ps(msum[m][r]);
                        _mm512_fmsub_ps(isum, d, _mm512_mul_ps(msum, dmin))
                    } else {
                        _mm512_mul_ps(isum, d)
                    };
                    acc[m][r] = _mm512_fmadd_ps(t, _mm512_set1_ps(three.d[m]), acc[m][r]);
                }
            }
        }
        store(simd, acc, out);
    }
}

/// See [`region`].
#[inline(always)]
pub(in crate::kernel::matmul::avx512) fn super_tile<C: SuperClass, const M: usize>(
    simd: Avx512,
    class: Class,
    panel: &Panel,
    blocks: &[Three],
    start: usize,
    ahead: Ahead,
    out: &mut [f32],
) {
    // SAFETY: `simd` proves that the CPU has the features.
    unsafe { region::<C, M>(simd, class, panel, blocks, start, ahead, out) }
}

/// Whether all sums of a sub-block fit 16 bits: by the format alone, or for these
/// activations.
#[inline(always)]
fn fits<C: SuperClass>(class: Class, three: &Three) -> bool {
    const { assert!(C::SUB == 16 || C::HAS_MIN, "`side32` is for weights from 0 on") };
    let always = class.most * 128 * C::SUB as i32 <= i32::from(i16::MAX);
    let most = if C::SUB == 16 { three.spread16 } else { three.side32 };
    always || class.most * i32::from(most) <= i32::from(i16::MAX)
}

/// The sums of pair `p` of sub-blocks: lanes of register `2 half + h` hold weight rows
/// `16 half + 4 q + 2 h` and the one behind it, of the first and of the second sub-block,
/// in 128 bits q.
///
/// # Safety
/// `block` has 128 lines of codes, `p` is a pair of the block.
#[inline(always)]
unsafe fn products<C: SuperClass, const M: usize>(
    simd: Avx512,
    class: Class,
    block: Block,
    three: &Three,
    p: usize,
) -> [[__m512i; 4]; M] {
    // SAFETY: the tier is proven; lines: the caller's promise.
    unsafe {
        let mut a = [[_mm512_setzero_si512(); 4]; M];
        if !C::HAS_MIN {
            let power = _mm_cvtsi32_si128(class.offset.trailing_zeros().cast_signed());
            for m in 0..M {
                let sums = splat_pair(simd, &raw const three.starts[p][m]);
                a[m] = [_mm512_sll_epi32(sums, power); 4];
            }
        }
        for i in 0..C::SUB / 4 {
            let g = p * (C::SUB / 4) + i;
            let w = [
                line(simd, block.codes, 4 * g),
                line(simd, block.codes, 4 * g + 1),
                line(simd, block.codes, 4 * g + 2),
                line(simd, block.codes, 4 * g + 3),
            ];
            for m in 0..M {
                let x = splat_pair(simd, &raw const three.codes[g][m]);
                for j in 0..4 {
                    a[m][j] = _mm512_dpbusd_epi32(a[m][j], w[j], x);
                }
            }
        }
        a
    }
}

/// `sup` of the file's comment, of sums that [`fits`] checked.
///
/// # Safety
/// `block` has the lines that its format needs.
#[inline(always)]
unsafe fn narrow<C: SuperClass, const M: usize>(
    simd: Avx512,
    class: Class,
    block: Block,
    three: &Three,
) -> [[__m512i; 2]; M] {
    // SAFETY: the tier is proven; lines: the caller's promise, p is below the pairs.
    unsafe {
        let mut sup = [[_mm512_setzero_si512(); 2]; M];
        for p in 0..pairs::<C>() {
            let a = products::<C, M>(simd, class, block, three, p);
            for r in 0..2 {
                let scales = line(simd, block.scales, 2 * p + r);
                for m in 0..M {
                    // In 128 bits: rows 4q, 4q + 1 of the first, 4q + 2, 4q + 3 of the other.
                    let both = _mm512_packs_epi32(a[m][2 * r], a[m][2 * r + 1]);
                    sup[m][r] = dpwssd(sup[m][r], both, scales);
                }
            }
        }
        sup
    }
}

/// `sup` of the file's comment, of any sums.
///
/// # Safety
/// `block` has the lines that its format needs.
#[inline(always)]
unsafe fn wide<C: SuperClass, const M: usize>(
    simd: Avx512,
    class: Class,
    block: Block,
    three: &Three,
) -> [[__m512i; 2]; M] {
    // SAFETY: the tier is proven; lines: the caller's promise, p is below the pairs.
    unsafe {
        let mut sums = [[_mm512_setzero_si512(); 4]; M];
        for p in 0..pairs::<C>() {
            let a = products::<C, M>(simd, class, block, three, p);
            for r in 0..2 {
                let scales = line(simd, block.scales, 2 * p + r);
                // Words to lanes, in the order of the sums.
                let low = _mm512_srai_epi32::<16>(_mm512_unpacklo_epi16(scales, scales));
                let high = _mm512_srai_epi32::<16>(_mm512_unpackhi_epi16(scales, scales));
                for m in 0..M {
                    for (j, scale) in [(2 * r, low), (2 * r + 1, high)] {
                        let scaled = _mm512_mullo_epi32(a[m][j], scale);
                        sums[m][j] = _mm512_add_epi32(sums[m][j], scaled);
                    }
                }
            }
        }
        let mut sup = [[_mm512_setzero_si512(); 2]; M];
        for m in 0..M {
            for r in 0..2 {
                let low = _mm512_castsi512_ps(sums[m][2 * r]);
                let high = _mm512_castsi512_ps(sums[m][2 * r + 1]);
                let first = _mm512_shuffle_ps::<0b10_00_10_00>(low, high);
                let second = _mm512_shuffle_ps::<0b11_01_11_01>(low, high);
                sup[m][r] =
                    _mm512_add_epi32(_mm512_castps_si512(first), _mm512_castps_si512(second));
            }
        }
        sup
    }
}

/// `msum` of the file's comment, 0 for formats without minimums.
///
/// # Safety
/// `block` has the lines that its format needs.
#[inline(always)]
unsafe fn mins<C: SuperClass, const M: usize>(
    simd: Avx512,
    block: Block,
    three: &Three,
) -> [[__m512i; 2]; M] {
    // SAFETY: the tier is proven; lines: the caller's promise, p is below the pairs.
    unsafe {
        let mut msum = [[_mm512_setzero_si512(); 2]; M];
        if C::HAS_MIN {
            for m in 0..M {
                for r in 0..2 {
                    for p in 0..pairs::<C>() {
                        let sums = match C::SUB {
                            16 => splat(simd, &raw const three.sums16[p][m]),
                            _ => splat(simd, &raw const three.sums32[p][m]),
                        };
                        msum[m][r] = dpwssd(msum[m][r], line(simd, block.mins, 2 * p + r), sums);
                    }
                }
            }
        }
        msum
    }
}
