//! Decoding of the formats with super-blocks of 256. Layouts: `src/quant`.

use std::arch::x86_64::{__m256, __m256i};

use super::blocks_of_32::looked_up;
use super::format::{Decode, bytes, half_at, nibbles};
use crate::quant::wide::{BIAS, CODES, WideBlock, integer_scales};
use crate::quant::{IQ4_XS, Q2_K, Q3_K, Q4_K, Q5_K, Q6_K, Wide};
use crate::simd::avx2::Ops;

const LOW: u32 = 0x0f0f_0f0f;
const HIGH: u32 = 0x3030_3030;
const SIX: u32 = 0x3f3f_3f3f;

/// Word `at` of a block's packed scales.
#[inline(always)]
fn word<const BLOCK: usize>(block: &[u8; BLOCK], at: usize) -> u32 {
    u32::from_le_bytes(*bytes(block, at))
}

/// Eight bytes, each twice, as i16.
#[inline(always)]
fn twice(ops: Ops, low: u32, high: u32) -> __m256i {
    let eight = ops.low64((u64::from(low) | u64::from(high) << 32) as i64);
    ops.widen_u8(ops.duplicate8(eight, eight))
}

/// The scales of Q4_K and Q5_K, four at a time in the bytes of a word.
#[inline(always)]
fn scales_of_12<const BLOCK: usize>(ops: Ops, block: &[u8; BLOCK]) -> __m256i {
    let (a, c) = (word(block, 4), word(block, 12));
    twice(ops, a & SIX, c & LOW | a >> 2 & HIGH)
}

/// Their minimums.
#[inline(always)]
fn mins_of_12<const BLOCK: usize>(ops: Ops, block: &[u8; BLOCK]) -> __m256i {
    let (b, c) = (word(block, 8), word(block, 12));
    twice(ops, b & SIX, c >> 4 & LOW | b >> 2 & HIGH)
}

impl Decode for Q4_K {
    const OFFSET: i16 = 0;
    const MAX: i32 = 15;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 144]) -> [__m256i; 8] {
        let mut codes = [ops.zero(); 8];
        let low = ops.splat8(15);
        for c in 0..4 {
            let qs = ops.load(bytes(block, 16 + 32 * c));
            codes[2 * c] = ops.and(qs, low);
            codes[2 * c + 1] = ops.and(ops.srli16::<4>(qs), low);
        }
        codes
    }

    #[inline(always)]
    fn integer_scales(ops: Ops, block: &[u8; 144]) -> __m256i {
        scales_of_12(ops, block)
    }

    #[inline(always)]
    fn integer_mins(ops: Ops, block: &[u8; 144]) -> __m256i {
        mins_of_12(ops, block)
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 144]) -> [u16; 2] {
        [half_at(block, 0), half_at(block, 2)]
    }
}

impl Decode for Q5_K {
    const OFFSET: i16 = 0;
    const MAX: i32 = 31;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 176]) -> [__m256i; 8] {
        let mut codes = [ops.zero(); 8];
        let (low, bit) = (ops.splat8(15), ops.splat8(16));
        let qh = ops.load(bytes(block, 16));
        // Bit s of qh to bit 4; what shifts across bytes is masked away.
        let high = [
            ops.slli16::<4>(qh),
            ops.slli16::<3>(qh),
            ops.slli16::<2>(qh),
            ops.slli16::<1>(qh),
            qh,
            ops.srli16::<1>(qh),
            ops.srli16::<2>(qh),
            ops.srli16::<3>(qh),
        ];
        for c in 0..4 {
            let qs = ops.load(bytes(block, 48 + 32 * c));
            let qs = [qs, ops.srli16::<4>(qs)];
            for (i, qs) in qs.into_iter().enumerate() {
                let fifth = ops.and(high[2 * c + i], bit);
                codes[2 * c + i] = ops.or(ops.and(qs, low), fifth);
            }
        }
        codes
    }

    #[inline(always)]
    fn integer_scales(ops: Ops, block: &[u8; 176]) -> __m256i {
        scales_of_12(ops, block)
    }

    #[inline(always)]
    fn integer_mins(ops: Ops, block: &[u8; 176]) -> __m256i {
        mins_of_12(ops, block)
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 176]) -> [u16; 2] {
        [half_at(block, 0), half_at(block, 2)]
    }
}

impl Decode for Q6_K {
    const OFFSET: i16 = 32;
    const MAX: i32 = 63;
    const SUB: usize = 16;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 210]) -> [__m256i; 8] {
        let mut codes = [ops.zero(); 8];
        let (low, high) = (ops.splat8(15), ops.splat8(48));
        for h in 0..2 {
            let even = ops.load(bytes(block, 64 * h));
            let odd = ops.load(bytes(block, 64 * h + 32));
            let qh = ops.load(bytes(block, 128 + 32 * h));
            let nibbles = [even, odd, ops.srli16::<4>(even), ops.srli16::<4>(odd)];
            let bits = [ops.slli16::<4>(qh), ops.slli16::<2>(qh), qh, ops.srli16::<2>(qh)];
            for j in 0..4 {
                codes[4 * h + j] = ops.or(ops.and(nibbles[j], low), ops.and(bits[j], high));
            }
        }
        codes
    }

    #[inline(always)]
    fn integer_scales(ops: Ops, block: &[u8; 210]) -> __m256i {
        ops.widen_i8(ops.load_half(bytes(block, 192)))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 210]) -> [u16; 2] {
        [half_at(block, 208), 0]
    }
}

/// The 2-bit codes of 32 bytes, lowest bits first.
#[inline(always)]
fn two_bits(ops: Ops, qs: __m256i) -> [__m256i; 4] {
    let mut codes = [qs, ops.srli16::<2>(qs), ops.srli16::<4>(qs), ops.srli16::<6>(qs)];
    for code in &mut codes {
        *code = ops.and(*code, ops.splat8(3));
    }
    codes
}

impl Decode for Q2_K {
    const OFFSET: i16 = 0;
    const MAX: i32 = 3;
    const SUB: usize = 16;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 84]) -> [__m256i; 8] {
        let [a, b, c, d] = two_bits(ops, ops.load(bytes(block, 16)));
        let [e, f, g, h] = two_bits(ops, ops.load(bytes(block, 48)));
        [a, b, c, d, e, f, g, h]
    }

    #[inline(always)]
    fn integer_scales(ops: Ops, block: &[u8; 84]) -> __m256i {
        ops.and(ops.widen_u8(ops.load_half(bytes(block, 0))), ops.splat16(15))
    }

    #[inline(always)]
    fn integer_mins(ops: Ops, block: &[u8; 84]) -> __m256i {
        ops.srli16::<4>(ops.widen_u8(ops.load_half(bytes(block, 0))))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 84]) -> [u16; 2] {
        [half_at(block, 80), half_at(block, 82)]
    }
}

impl Decode for Q3_K {
    const OFFSET: i16 = 4;
    const MAX: i32 = 7;
    const SUB: usize = 16;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 110]) -> [__m256i; 8] {
        let mask = ops.load(bytes(block, 0));
        // Bit i to bit 2; what shifts across bytes is masked away.
        let bits = [
            ops.slli16::<2>(mask),
            ops.slli16::<1>(mask),
            mask,
            ops.srli16::<1>(mask),
            ops.srli16::<2>(mask),
            ops.srli16::<3>(mask),
            ops.srli16::<4>(mask),
            ops.srli16::<5>(mask),
        ];
        let [a, b, c, d] = two_bits(ops, ops.load(bytes(block, 32)));
        let [e, f, g, h] = two_bits(ops, ops.load(bytes(block, 64)));
        let mut codes = [a, b, c, d, e, f, g, h];
        for (code, bits) in codes.iter_mut().zip(bits) {
            *code = ops.or(*code, ops.and(bits, ops.splat8(4)));
        }
        codes
    }

    #[inline(always)]
    fn integer_scales(ops: Ops, block: &[u8; 110]) -> __m256i {
        let (a, b, high) = (word(block, 96), word(block, 100), word(block, 104));
        let join = |a: u32, b: u32| (u64::from(a) | u64::from(b) << 32) as i64;
        let low = join(a & LOW | high << 4 & HIGH, b & LOW | high << 2 & HIGH);
        let upper = join(a >> 4 & LOW | high & HIGH, b >> 4 & LOW | high >> 2 & HIGH);
        let scales = ops.join64(ops.low64(low), ops.low64(upper));
        ops.sub16(ops.widen_u8(scales), ops.splat16(32))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 110]) -> [u16; 2] {
        [half_at(block, 108), 0]
    }
}

impl Decode for IQ4_XS {
    const OFFSET: i16 = 128;
    const MAX: i32 = 255;
    const SUB: usize = 32;

    #[inline(always)]
    fn codes(ops: Ops, block: &[u8; 136]) -> [__m256i; 8] {
        let mut codes = [ops.zero(); 8];
        for (s, codes) in codes.iter_mut().enumerate() {
            *codes = looked_up(ops, nibbles(ops, bytes(block, 8 + 16 * s)));
        }
        codes
    }

    #[inline(always)]
    fn integer_scales(ops: Ops, block: &[u8; 136]) -> __m256i {
        let (high, low) = (u32::from(half_at(block, 2)), word(block, 4));
        let mut scales = 0u64;
        for s in 0..8 {
            let scale = low >> (4 * s) & 15 | (high >> (2 * s) & 3) << 4;
            scales |= u64::from(scale) << (8 * s);
        }
        ops.sub16(twice(ops, scales as u32, (scales >> 32) as u32), ops.splat16(32))
    }

    #[inline(always)]
    fn float_scales(block: &[u8; 136]) -> [u16; 2] {
        [half_at(block, 0), 0]
    }
}

impl Decode for Wide {
    const OFFSET: i16 = BIAS as i16;
    const MAX: i32 = 127;
    const SUB: usize = 16;

    #[inline(always)]
    fn codes(ops: Ops, block: &WideBlock) -> [__m256i; 8] {
        let mut codes = [ops.zero(); 8];
        for (c, codes) in codes.iter_mut().enumerate() {
            *codes = ops.load(bytes(block, CODES + 32 * c));
        }
        codes
    }

    #[inline(always)]
    fn integer_scales(ops: Ops, block: &WideBlock) -> __m256i {
        ops.load_i16(&integer_scales(block))
    }

    /// The low and the high half of `d`.
    #[inline(always)]
    fn float_scales(block: &WideBlock) -> [u16; 2] {
        [half_at(block, 0), half_at(block, 2)]
    }

    #[inline(always)]
    fn to_f32(ops: Ops, [low, high]: [&[u16; 8]; 2]) -> [__m256; 2] {
        let [low, high] = [low, high].map(|half| ops.widen_u16(ops.load_u16(half)));
        [ops.as_floats(ops.or(low, ops.slli32::<16>(high))), ops.splat_f32(0.0)]
    }
}
