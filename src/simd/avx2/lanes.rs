//! Moves between lanes: sums across them and transposes.

use std::arch::x86_64::{__m128i, __m256, __m256i};

use super::ops::{Ops, Vector};

/// Lane i of the result is the sum of the lanes of `x[i]`.
#[inline(always)]
pub(super) fn sums32(ops: Ops, x: &[__m256i; 8]) -> __m256i {
    let two = |a, b| ops.add32(ops.unpacklo32(a, b), ops.unpackhi32(a, b));
    // Per half: a b a b.
    let (ab, cd, ef, gh) = (two(x[0], x[1]), two(x[2], x[3]), two(x[4], x[5]), two(x[6], x[7]));
    let four = |ab, cd| ops.add32(ops.unpacklo64(ab, cd), ops.unpackhi64(ab, cd));
    // Per half: a b c d.
    let (abcd, efgh) = (four(ab, cd), four(ef, gh));
    ops.add32(ops.permute128::<0x20>(abcd, efgh), ops.permute128::<0x31>(abcd, efgh))
}

/// Adds pairs of i16 within each half: 4 lanes of `a`, then 4 of `b`.
#[inline(always)]
pub(super) fn sums_of_2(ops: Ops, a: __m256i, b: __m256i) -> __m256i {
    ops.add16(ops.unpacklo64(a, b), ops.unpackhi64(a, b))
}

/// Adds fours of i16 within each half: 2 lanes of each of the four.
#[inline(always)]
pub(super) fn sums_of_4(ops: Ops, x: [__m256i; 4]) -> __m256i {
    let ab = ops.as_floats(sums_of_2(ops, x[0], x[1]));
    let cd = ops.as_floats(sums_of_2(ops, x[2], x[3]));
    let (even, odd) = (ops.shuffle_f32::<0x88>(ab, cd), ops.shuffle_f32::<0xdd>(ab, cd));
    ops.add16(ops.as_integers(even), ops.as_integers(odd))
}

/// 8 × 8 lanes of 32 bits from memory: result i holds lane i of each row.
#[inline(always)]
pub(super) fn transpose(ops: Ops, rows: [&Vector; 8]) -> [__m256i; 8] {
    // Halves first: they come from memory for free.
    let half = |r: usize, at: usize| -> __m256i {
        let part = |r: usize| -> __m128i {
            let bytes: &[[u8; 16]] = rows[r].0.as_chunks().0;
            ops.load_half(&bytes[at])
        };
        ops.join(part(r + 4), part(r))
    };
    let mut out = [ops.zero(); 8];
    for at in 0..2 {
        let [a, b, c, d] = [half(0, at), half(1, at), half(2, at), half(3, at)];
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

/// The value of 8 blocks: [`block_value`](crate::quant::block_value) in lanes.
/// Without a minimum `fma(isum, d, −0)` is the product.
#[inline(always)]
pub(super) fn block_values(
    ops: Ops,
    isum: __m256i,
    d: __m256,
    minimum: Option<(__m256i, __m256)>,
) -> __m256 {
    let isum = ops.to_f32(isum);
    match minimum {
        Some((msum, dmin)) => ops.fms(isum, d, ops.mul(ops.to_f32(msum), dmin)),
        None => ops.mul(isum, d),
    }
}
