//! What a format supplies: one block in registers. The algorithms are written
//! once over it.
//!
//! ```text
//! isum = Σ scale[k / 16] · (u[k] − OFFSET) · a[k],   u: u8, 0 ..= MAX
//! ```
//! Two products u · a in an i16: 2 · MAX · 127, so [`Decode::ADDABLE`] such pairs
//! can be added before they must be widened (Q4_K 8, Q5_K 4, Q6_K 2).

use std::arch::x86_64::{__m128i, __m256, __m256i};

use crate::quant::BlockFormat;
use crate::simd::avx2::Ops;

/// A format decoded with AVX2.
pub(in crate::kernel::matmul::avx2) trait Decode:
    BlockFormat
{
    /// What is added to a code to make it unsigned.
    const OFFSET: i16;
    /// The largest unsigned code.
    const MAX: i32;
    /// Weights per integer scale: 16 or 32; blocks of 32 have the one scale 1.
    const SUB: usize;

    /// Pairs of products that i16 can hold; 0 if not even one.
    const ADDABLE: usize = (32767 / (2 * 127 * Self::MAX)) as usize;
    /// Codes of 8 bits: |q| is multiplied by the activation with q's sign, which
    /// fits for any q (2 · 128 · 127 = 32,512).
    const WIDE_CODES: bool = Self::ADDABLE == 0;
    /// Whether a block is 32 weights with nothing but float scales.
    const SMALL: bool = Self::LEN == 32;

    /// The unsigned codes, 32 in a vector; the first `LEN / 32` vectors count.
    fn codes(ops: Ops, block: &Self::Block) -> [__m256i; 8];

    /// 16 integer scales as i16, one per 16 weights. Not called for small blocks.
    fn integer_scales(ops: Ops, _: &Self::Block) -> __m256i {
        ops.splat16(1)
    }

    /// 16 integer minimums as i16, one per 16 weights. Not called for small
    /// blocks, whose minimum is 1, and formats without.
    fn integer_mins(ops: Ops, _: &Self::Block) -> __m256i {
        ops.splat16(1)
    }

    /// The bits of `d` and `dmin` as they are stored.
    fn float_scales(block: &Self::Block) -> [u16; 2];

    /// Such bits of eight blocks as numbers `d` and `dmin`: of half precision if the format
    /// says nothing else.
    #[inline(always)]
    fn to_f32(ops: Ops, [d, dmin]: [&[u16; 8]; 2]) -> [__m256; 2] {
        [ops.halves_to_f32(ops.load_u16(d)), ops.halves_to_f32(ops.load_u16(dmin))]
    }
}

/// The `N` bytes at offset `at` of a block. Both are constants of the layout, so
/// the check disappears.
#[inline(always)]
pub(in crate::kernel::matmul::avx2) fn bytes<const N: usize, const BLOCK: usize>(
    block: &[u8; BLOCK],
    at: usize,
) -> &[u8; N] {
    match block[at..].first_chunk() {
        Some(bytes) => bytes,
        None => unreachable!("a layout reaches over its block's end"),
    }
}

/// The bits of the half-precision value at offset `at`.
#[inline(always)]
pub(in crate::kernel::matmul::avx2) fn half_at<const BLOCK: usize>(
    block: &[u8; BLOCK],
    at: usize,
) -> u16 {
    u16::from_le_bytes(*bytes(block, at))
}

/// The 32 nibbles of 16 bytes: low ones first, then high ones.
#[inline(always)]
pub(in crate::kernel::matmul::avx2) fn nibbles(ops: Ops, qs: &[u8; 16]) -> __m256i {
    let qs: __m128i = ops.load_half(qs);
    // The low lane keeps its bits; the high lane is shifted by 4.
    let both = ops.join(qs, qs);
    let shifted = ops.srli16::<4>(both);
    ops.and(ops.blend32::<0xf0>(both, shifted), ops.splat8(15))
}
