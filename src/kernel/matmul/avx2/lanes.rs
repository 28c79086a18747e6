//! Moves between lanes: sums across them and transposes.

use std::arch::x86_64::{__m256, __m256i};

use crate::simd::avx2::{Ops, Vector};

/// Lane i of the result is the sum of the lanes of `x[i]`.
#[inline(always)]
pub(super) fn sums32(ops: Ops, x: &[__m256i; 8]) -> __m256i {
    // Per half: a b a b, then a b c d.
    let [ab, cd] = [pairs32(ops, x[0], x[1]), pairs32(ops, x[2], x[3])];
    let [ef, gh] = [pairs32(ops, x[4], x[5]), pairs32(ops, x[6], x[7])];
    let abcd = ops.add32(ops.unpacklo64(ab, cd), ops.unpackhi64(ab, cd));
    let efgh = ops.add32(ops.unpacklo64(ef, gh), ops.unpackhi64(ef, gh));
    ops.add32(ops.permute128::<0x20>(abcd, efgh), ops.permute128::<0x31>(abcd, efgh))
}

/// Adds pairs of i32 within each half: a b a b.
#[inline(always)]
fn pairs32(ops: Ops, a: __m256i, b: __m256i) -> __m256i {
    ops.add32(ops.unpacklo32(a, b), ops.unpackhi32(a, b))
}

/// 8 × 8 lanes of 32 bits from memory: result i holds lane i of each row.
#[inline(always)]
pub(super) fn transpose(ops: Ops, rows: [&Vector; 8]) -> [__m256i; 8] {
    let mut out = [ops.zero(); 8];
    for at in 0..2 {
        // Halves first: they come from memory for free.
        let [a, b] = [halves(ops, rows[0], rows[4], at), halves(ops, rows[1], rows[5], at)];
        let [c, d] = [halves(ops, rows[2], rows[6], at), halves(ops, rows[3], rows[7], at)];
        // Per half: a0 b0 a1 b1; c0 d0 c1 d1; the rest.
        let (ab, cd) = (ops.unpacklo32(a, b), ops.unpacklo32(c, d));
        let (ab_high, cd_high) = (ops.unpackhi32(a, b), ops.unpackhi32(c, d));
        out[4 * at] = ops.unpacklo64(ab, cd);
        out[4 * at + 1] = ops.unpackhi64(ab, cd);
        out[4 * at + 2] = ops.unpacklo64(ab_high, cd_high);
        out[4 * at + 3] = ops.unpackhi64(ab_high, cd_high);
    }
    out
}

/// Half `at` of two vectors.
#[inline(always)]
fn halves(ops: Ops, low: &Vector, high: &Vector, at: usize) -> __m256i {
    let (low, high): (&[[u8; 16]], &[[u8; 16]]) = (low.0.as_chunks().0, high.0.as_chunks().0);
    ops.join(ops.load_half(&high[at]), ops.load_half(&low[at]))
}

/// The value of 8 blocks: [`block_value`](crate::quant::block_value) in lanes.
/// Without a minimum `fma(isum, d, −0)` is the product.
#[inline(always)]
pub(super) fn block_values(
    ops: Ops,
    has_min: bool,
    [isum, msum]: [__m256i; 2],
    [d, dmin]: [__m256; 2],
) -> __m256 {
    let isum = ops.to_f32(isum);
    if has_min { ops.fms(isum, d, ops.mul(ops.to_f32(msum), dmin)) } else { ops.mul(isum, d) }
}
