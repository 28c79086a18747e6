//! Decoding of the formats with blocks of 32. Layouts: `src/quant`.

use std::arch::x86_64::{__m256, __m256i};

use super::format::{Decode, bytes, half_at, nibbles};
use crate::quant::{IQ4_NL, IQ4_VALUES, MXFP4, MXFP4_VALUES, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0};
use crate::simd::avx2::Ops;

/// A block's one vector.
#[inline(always)]
fn one(ops: Ops, codes: __m256i) -> [__m256i; 8] {
    let mut all = [ops.zero(); 8];
    all[0] = codes;
    all
}

impl Decode for Q4_0 {
    const OFFSET: i16 = 8;
    const MAX: i32 = 15;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 18]) -> [__m256i; 8] {
        one(ops, nibbles(ops, bytes(block, 2)))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 18]) -> [u16; 2] {
        [half_at(block, 0), 0]
    }
}

impl Decode for Q4_1 {
    const OFFSET: i16 = 0;
    const MAX: i32 = 15;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 20]) -> [__m256i; 8] {
        one(ops, nibbles(ops, bytes(block, 4)))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 20]) -> [u16; 2] {
        [half_at(block, 0), half_at(block, 2) ^ 0x8000]
    }
}

/// The bits of a word, each in a byte of its own as 0 or 16: byte k gets the
/// word's byte k / 8, of which bit k % 8 is compared.
#[inline(always)]
fn fifth_bits(ops: Ops, qh: &[u8; 4]) -> __m256i {
    const SPREAD: [u8; 32] = {
        let mut spread = [0; 32];
        let mut k = 0;
        while k < 32 {
            spread[k] = (k / 8) as u8;
            k += 1;
        }
        spread
    };
    const BIT: [u8; 32] = {
        let mut bit = [0; 32];
        let mut k = 0;
        while k < 32 {
            bit[k] = 1 << (k % 8);
            k += 1;
        }
        bit
    };
    let word = ops.splat32(i32::from_le_bytes(*qh));
    let bit = ops.load(&BIT);
    let set = ops.cmpeq8(ops.and(ops.shuffle8(word, ops.load(&SPREAD)), bit), bit);
    ops.and(set, ops.splat8(16))
}

impl Decode for Q5_0 {
    const OFFSET: i16 = 16;
    const MAX: i32 = 31;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 22]) -> [__m256i; 8] {
        let high = fifth_bits(ops, bytes(block, 2));
        one(ops, ops.or(nibbles(ops, bytes(block, 6)), high))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 22]) -> [u16; 2] {
        [half_at(block, 0), 0]
    }
}

impl Decode for Q5_1 {
    const OFFSET: i16 = 0;
    const MAX: i32 = 31;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 24]) -> [__m256i; 8] {
        let high = fifth_bits(ops, bytes(block, 4));
        one(ops, ops.or(nibbles(ops, bytes(block, 8)), high))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 24]) -> [u16; 2] {
        [half_at(block, 0), half_at(block, 2) ^ 0x8000]
    }
}

impl Decode for Q8_0 {
    const OFFSET: i16 = 128;
    const MAX: i32 = 255;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 34]) -> [__m256i; 8] {
        one(ops, ops.xor(ops.load(bytes(block, 2)), ops.splat8(-128)))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 34]) -> [u16; 2] {
        [half_at(block, 0), 0]
    }
}

/// What nibbles stand for, plus `offset`, for both halves of a byte shuffle.
const fn table(values: [i8; 16], offset: i16) -> [u8; 32] {
    let mut table = [0; 32];
    let mut i = 0;
    while i < 32 {
        table[i] = (values[i % 16] as i16 + offset) as u8;
        i += 1;
    }
    table
}

/// What nibbles stand for in IQ4_NL and IQ4_XS, plus 128.
#[inline(always)]
pub(super) fn looked_up(ops: Ops, nibbles: __m256i) -> __m256i {
    ops.shuffle8(ops.load(const { &table(IQ4_VALUES, 128) }), nibbles)
}

impl Decode for IQ4_NL {
    const OFFSET: i16 = 128;
    const MAX: i32 = 255;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 18]) -> [__m256i; 8] {
        one(ops, looked_up(ops, nibbles(ops, bytes(block, 2))))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 18]) -> [u16; 2] {
        [half_at(block, 0), 0]
    }
}

impl Decode for MXFP4 {
    const OFFSET: i16 = 16;
    const MAX: i32 = 28;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 17]) -> [__m256i; 8] {
        const TABLE: [u8; 32] = table(MXFP4_VALUES, MXFP4::OFFSET);
        one(ops, ops.shuffle8(ops.load(&TABLE), nibbles(ops, bytes(block, 1))))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 17]) -> [u16; 2] {
        [block[0].into(), 0]
    }

    /// 2^(e − 128), of which those of e = 0 and 1 are subnormal: 2²¹ and 2²² as bits.
    #[inline(always)]
    fn to_f32(ops: Ops, [exponents, _]: [&[u16; 8]; 2]) -> [__m256; 2] {
        let e = ops.widen_u16(ops.load_u16(exponents));
        let normal = ops.slli32::<23>(ops.sub32(e, ops.splat32(1)));
        let next = ops.min32(ops.add32(e, ops.splat32(1)), ops.splat32(2));
        [ops.as_floats(ops.max32(normal, ops.slli32::<21>(next))), ops.splat_f32(0.0)]
    }
}
