//! Storage formats in registers: codes as unsigned bytes in natural order.
//!
//! `u = q + OFFSET` makes codes unsigned, as `dpbusd` wants them: lane l of
//! register c then sums the products k = 64c + 4l .. 64c + 4l + 4.
//!
//! Bit fields move by `gf2p8affine`, which multiplies each byte by an 8 × 8 bit
//! matrix, one matrix per 8 bytes: with the same 32 bytes loaded into both
//! halves, one instruction takes two different fields out of them.

use std::arch::x86_64::*;

use crate::quant::wide::{BIAS, CODES, WideBlock};
use crate::quant::{self, BlockFormat, field};
use crate::simd::avx512::{Avx512, load16, load32, load64, transpose};

/// The codes of a super-block format.
pub(in crate::kernel::matmul) trait SuperCodes: BlockFormat {
    /// What is added to make codes unsigned.
    const OFFSET: i16;

    /// 256 codes.
    fn codes(simd: Avx512, block: &Self::Block) -> [__m512i; 4];

    /// The largest magnitude of a code.
    const MOST: i32;

    /// The codes of 16 rows' blocks as columns of four codes of each row: calls
    /// `put(8c + g, [a, b])` with the codes 64c + 4g .. and 64c + 32 + 4g .. for every
    /// c below 4 and g below 8.
    #[inline(always)]
    fn columns(simd: Avx512, blocks: &[&Self::Block; 16], put: &mut impl Put) {
        columns::<Self, 0>(simd, blocks, put);
        columns::<Self, 1>(simd, blocks, put);
        columns::<Self, 2>(simd, blocks, put);
        columns::<Self, 3>(simd, blocks, put);
    }
}

/// Takes the columns of [`SuperCodes::columns`].
pub(in crate::kernel::matmul) trait Put {
    fn put(&mut self, simd: Avx512, group: usize, columns: [__m512i; 2]);
}

/// The codes `64 C ..` of 16 rows.
#[inline(always)]
fn columns<F: SuperCodes + ?Sized, const C: usize>(
    simd: Avx512,
    blocks: &[&F::Block; 16],
    put: &mut impl Put,
) {
    // SAFETY: the tier is proven.
    let mut lanes = [unsafe { _mm512_setzero_si512() }; 16];
    for (lanes, block) in lanes.iter_mut().zip(blocks) {
        *lanes = F::codes(simd, block)[C];
    }
    let lanes = transpose(simd, lanes);
    for g in 0..8 {
        put.put(simd, 8 * C + g, [lanes[g], lanes[8 + g]]);
    }
}

/// The 64 bytes at `at` of 16 rows' blocks as columns of four bytes: packed codes
/// cost fewer shuffles than unpacked ones.
#[inline(always)]
fn bytes<const N: usize>(simd: Avx512, blocks: &[&[u8; N]; 16], at: usize) -> [__m512i; 16] {
    // SAFETY: the tier is proven.
    let mut lanes = [unsafe { _mm512_setzero_si512() }; 16];
    for (lanes, block) in lanes.iter_mut().zip(blocks) {
        *lanes = load64::<u8, 64>(simd, field(block, at));
    }
    transpose(simd, lanes)
}

/// The same field of every byte.
#[inline(always)]
fn all(simd: Avx512, bytes: __m512i, matrix: i64) -> __m512i {
    fields(simd, bytes, matrix, matrix)
}

const LOW: i64 = bits(0, 4, 0);
const HIGH: i64 = bits(4, 4, 0);

/// The codes of a 32-wide format.
pub(in crate::kernel::matmul) trait SmallCodes: BlockFormat {
    /// What is added to make codes unsigned.
    const OFFSET: i16;

    /// The largest unsigned code.
    const MOST: i32;

    /// The codes of two blocks.
    fn codes(simd: Avx512, blocks: [&Self::Block; 2]) -> __m512i;

    /// Bytes of a float scale: of half precision if the format says nothing else.
    const SCALE_BYTES: usize = 2;

    /// The bits of the float scale at byte `at`: 0 is `d`, 2 is `m` in the formats that
    /// have it.
    fn scale(block: &Self::Block, at: usize) -> u16;

    /// Such bits of 16 blocks as numbers.
    #[inline(always)]
    fn to_f32(_: Avx512, bits: __m256i) -> __m512 {
        // SAFETY: the tier is proven.
        unsafe { _mm512_cvtph_ps(bits) }
    }
}

/// The matrix that moves bits `from .. from + len` of a byte to `to ..` and
/// clears the others. Byte 7 − i of it says which input bits add up to bit i.
const fn bits(from: u32, len: u32, to: u32) -> i64 {
    let (mut matrix, mut i) = (0u64, 0);
    while i < len {
        matrix |= 1 << (from + i) << (8 * (7 - (to + i)));
        i += 1;
    }
    matrix as i64
}

/// One field of the low 32 bytes, another of the high ones.
#[inline(always)]
fn fields(_: Avx512, bytes: __m512i, low: i64, high: i64) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        let matrix = _mm512_setr_epi64(low, low, low, low, high, high, high, high);
        _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix)
    }
}

/// One field of bytes 0–15 and 32–47, another of the rest.
#[inline(always)]
fn fields16(_: Avx512, bytes: __m512i, first: i64, second: i64) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        let (a, b) = (first, second);
        let matrix = _mm512_setr_epi64(a, a, b, b, a, a, b, b);
        _mm512_gf2p8affine_epi64_epi8::<0>(bytes, matrix)
    }
}

/// 32 bytes, twice.
#[inline(always)]
fn twice(simd: Avx512, x: &[u8; 32]) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe { _mm512_broadcast_i64x4(load32(simd, x)) }
}

/// 16 bytes of two places, each twice.
#[inline(always)]
fn twice16(simd: Avx512, x: [&[u8; 16]; 2]) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        let first = _mm512_broadcast_i32x4(load16(simd, x[0]));
        _mm512_mask_broadcast_i32x4(first, 0xff00, load16(simd, x[1]))
    }
}

/// 32 bytes of each of two places.
#[inline(always)]
fn both(simd: Avx512, x: [&[u8; 32]; 2]) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        let first = _mm512_castsi256_si512(load32(simd, x[0]));
        _mm512_inserti64x4::<1>(first, load32(simd, x[1]))
    }
}

#[inline(always)]
fn or(_: Avx512, a: __m512i, b: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe { _mm512_or_si512(a, b) }
}

/// Low nibbles of the low half's bytes, high nibbles of the high half's.
#[inline(always)]
fn nibbles(simd: Avx512, bytes: __m512i) -> __m512i {
    fields(simd, bytes, LOW, HIGH)
}

/// Both nibbles of 16 bytes of two blocks, low ones first.
#[inline(always)]
fn nibbles16(simd: Avx512, qs: [&[u8; 16]; 2]) -> __m512i {
    fields16(simd, twice16(simd, qs), LOW, HIGH)
}

/// 16 in every byte whose bit is set, the bits of two words in order.
#[inline(always)]
fn fifth_bits(_: Avx512, qh: [&[u8; 4]; 2]) -> __m512i {
    let mask = qh.map(|qh| u64::from(u32::from_le_bytes(*qh)));
    // SAFETY: the tier is proven.
    unsafe { _mm512_maskz_set1_epi8(mask[0] | mask[1] << 32, 16) }
}

/// What nibbles stand for, plus `offset`.
const fn table(values: [i8; 16], offset: i16) -> [u8; 16] {
    let (mut table, mut i) = ([0; 16], 0);
    while i < 16 {
        table[i] = (values[i] as i16 + offset) as u8;
        i += 1;
    }
    table
}

/// `table[nibble]`
#[inline(always)]
fn look_up(simd: Avx512, table: &[u8; 16], nibbles: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe { _mm512_shuffle_epi8(_mm512_broadcast_i32x4(load16(simd, table)), nibbles) }
}

/// `VALUES[nibble] + 128` of IQ4's table.
#[inline(always)]
fn iq4(simd: Avx512, nibbles: __m512i) -> __m512i {
    look_up(simd, const { &table(quant::IQ4_VALUES, 128) }, nibbles)
}

impl SuperCodes for quant::Q4_K {
    const OFFSET: i16 = 0;
    const MOST: i32 = 15;

    #[inline(always)]
    fn codes(simd: Avx512, block: &[u8; 144]) -> [__m512i; 4] {
        let chunk = |c: usize| nibbles(simd, twice(simd, field(block, 16 + 32 * c)));
        [chunk(0), chunk(1), chunk(2), chunk(3)]
    }

    /// Column w of each half of `qs` holds group w in its two nibbles.
    #[allow(clippy::needless_range_loop, reason = "an iterator keeps the columns on the stack")]
    #[inline(always)]
    fn columns(simd: Avx512, blocks: &[&[u8; 144]; 16], put: &mut impl Put) {
        for half in 0..2 {
            let qs = bytes(simd, blocks, 16 + 64 * half);
            for w in 0..16 {
                put.put(simd, 16 * half + w, [all(simd, qs[w], LOW), all(simd, qs[w], HIGH)]);
            }
        }
    }
}

impl SuperCodes for quant::Q5_K {
    const OFFSET: i16 = 0;
    const MOST: i32 = 31;

    #[inline(always)]
    fn codes(simd: Avx512, block: &[u8; 176]) -> [__m512i; 4] {
        let qh = twice(simd, field(block, 16));
        let low = |c: usize| nibbles(simd, twice(simd, field(block, 48 + 32 * c)));
        [
            or(simd, low(0), fields(simd, qh, const { bits(0, 1, 4) }, const { bits(1, 1, 4) })),
            or(simd, low(1), fields(simd, qh, const { bits(2, 1, 4) }, const { bits(3, 1, 4) })),
            or(simd, low(2), fields(simd, qh, const { bits(4, 1, 4) }, const { bits(5, 1, 4) })),
            or(simd, low(3), fields(simd, qh, const { bits(6, 1, 4) }, const { bits(7, 1, 4) })),
        ]
    }
}

impl SuperCodes for quant::Q6_K {
    const OFFSET: i16 = 32;
    const MOST: i32 = 32;

    #[inline(always)]
    fn codes(simd: Avx512, block: &[u8; 210]) -> [__m512i; 4] {
        let [a, b] = six_bits(simd, field(block, 0), field(block, 128));
        let [c, d] = six_bits(simd, field(block, 64), field(block, 160));
        [a, b, c, d]
    }

    /// Column j of group 16h + 8c + i (i < 8): low bits in nibble c of column 8j + i of
    /// half h of `ql`, high bits in bits 4c + 2j of column 8h + i of `qh`.
    #[inline(always)]
    fn columns(simd: Avx512, blocks: &[&[u8; 210]; 16], put: &mut impl Put) {
        const TOP: [i64; 4] = [bits(0, 2, 4), bits(2, 2, 4), bits(4, 2, 4), bits(6, 2, 4)];
        let qh = bytes(simd, blocks, 128);
        for h in 0..2 {
            let ql = bytes(simd, blocks, 64 * h);
            for i in 0..8 {
                let top = qh[8 * h + i];
                let (even, odd) = (ql[i], ql[8 + i]);
                let a = or(simd, all(simd, even, LOW), all(simd, top, TOP[0]));
                let b = or(simd, all(simd, odd, LOW), all(simd, top, TOP[1]));
                put.put(simd, 16 * h + i, [a, b]);
                let a = or(simd, all(simd, even, HIGH), all(simd, top, TOP[2]));
                let b = or(simd, all(simd, odd, HIGH), all(simd, top, TOP[3]));
                put.put(simd, 16 * h + 8 + i, [a, b]);
            }
        }
    }
}

/// 128 codes of Q6_K. (A function, not a closure: those are not always inlined.)
#[inline(always)]
fn six_bits(simd: Avx512, ql: &[u8; 64], qh: &[u8; 32]) -> [__m512i; 2] {
    let (ql, qh) = (load64(simd, ql), twice(simd, qh));
    let a = fields(simd, qh, const { bits(0, 2, 4) }, const { bits(2, 2, 4) });
    let b = fields(simd, qh, const { bits(4, 2, 4) }, const { bits(6, 2, 4) });
    // With `and` instead of a matrix the first is one `vpternlog`.
    // SAFETY: the tier is proven.
    let low = unsafe { _mm512_and_si512(ql, _mm512_set1_epi8(15)) };
    [or(simd, low, a), or(simd, all(simd, ql, HIGH), b)]
}

/// The 2-bit fields of Q2_K and Q3_K.
#[inline(always)]
fn two_bits(simd: Avx512, qs: [&[u8; 32]; 2]) -> [__m512i; 4] {
    let [a, b] = [twice(simd, qs[0]), twice(simd, qs[1])];
    let low = |x| fields(simd, x, const { bits(0, 2, 0) }, const { bits(2, 2, 0) });
    let high = |x| fields(simd, x, const { bits(4, 2, 0) }, const { bits(6, 2, 0) });
    [low(a), high(a), low(b), high(b)]
}

impl SuperCodes for quant::Q2_K {
    const OFFSET: i16 = 0;
    const MOST: i32 = 3;

    #[inline(always)]
    fn codes(simd: Avx512, block: &[u8; 84]) -> [__m512i; 4] {
        two_bits(simd, [field(block, 16), field(block, 48)])
    }
}

impl SuperCodes for quant::Q3_K {
    const OFFSET: i16 = 4;
    const MOST: i32 = 4;

    #[inline(always)]
    fn codes(simd: Avx512, block: &[u8; 110]) -> [__m512i; 4] {
        let [a, b, c, d] = two_bits(simd, [field(block, 32), field(block, 64)]);
        let hmask = twice(simd, field(block, 0));
        [
            or(simd, a, fields(simd, hmask, const { bits(0, 1, 2) }, const { bits(1, 1, 2) })),
            or(simd, b, fields(simd, hmask, const { bits(2, 1, 2) }, const { bits(3, 1, 2) })),
            or(simd, c, fields(simd, hmask, const { bits(4, 1, 2) }, const { bits(5, 1, 2) })),
            or(simd, d, fields(simd, hmask, const { bits(6, 1, 2) }, const { bits(7, 1, 2) })),
        ]
    }
}

impl SuperCodes for quant::IQ4_XS {
    const OFFSET: i16 = 128;
    const MOST: i32 = 127;

    #[inline(always)]
    fn codes(simd: Avx512, block: &[u8; 136]) -> [__m512i; 4] {
        let chunk = |c: usize| {
            iq4(simd, nibbles16(simd, [field(block, 8 + 32 * c), field(block, 24 + 32 * c)]))
        };
        [chunk(0), chunk(1), chunk(2), chunk(3)]
    }
}

impl SuperCodes for quant::Wide {
    const OFFSET: i16 = BIAS as i16;
    const MOST: i32 = 63;

    #[inline(always)]
    fn codes(simd: Avx512, block: &WideBlock) -> [__m512i; 4] {
        let chunk = |c: usize| load64::<u8, 64>(simd, field(block, CODES + 64 * c));
        [chunk(0), chunk(1), chunk(2), chunk(3)]
    }
}

impl SmallCodes for quant::Q8_0 {
    const OFFSET: i16 = 128;
    const MOST: i32 = 255;

    #[inline(always)]
    fn codes(simd: Avx512, blocks: [&[u8; 34]; 2]) -> __m512i {
        let codes = both(simd, blocks.map(|block| field(block, 2)));
        // SAFETY: the tier is proven.
        unsafe { _mm512_xor_si512(codes, _mm512_set1_epi8(i8::MIN)) }
    }

    #[inline(always)]
    fn scale(block: &[u8; 34], at: usize) -> u16 {
        u16::from_le_bytes(*field(block, at))
    }
}

impl SmallCodes for quant::Q4_0 {
    const OFFSET: i16 = 8;
    const MOST: i32 = 15;

    #[inline(always)]
    fn codes(simd: Avx512, blocks: [&[u8; 18]; 2]) -> __m512i {
        nibbles16(simd, blocks.map(|block| field(block, 2)))
    }

    #[inline(always)]
    fn scale(block: &[u8; 18], at: usize) -> u16 {
        u16::from_le_bytes(*field(block, at))
    }
}

impl SmallCodes for quant::Q4_1 {
    const OFFSET: i16 = 0;
    const MOST: i32 = 15;

    #[inline(always)]
    fn codes(simd: Avx512, blocks: [&[u8; 20]; 2]) -> __m512i {
        nibbles16(simd, blocks.map(|block| field(block, 4)))
    }

    #[inline(always)]
    fn scale(block: &[u8; 20], at: usize) -> u16 {
        u16::from_le_bytes(*field(block, at))
    }
}

impl SmallCodes for quant::Q5_0 {
    const OFFSET: i16 = 16;
    const MOST: i32 = 31;

    #[inline(always)]
    fn codes(simd: Avx512, blocks: [&[u8; 22]; 2]) -> __m512i {
        let high = fifth_bits(simd, blocks.map(|block| field(block, 2)));
        or(simd, nibbles16(simd, blocks.map(|block| field(block, 6))), high)
    }

    #[inline(always)]
    fn scale(block: &[u8; 22], at: usize) -> u16 {
        u16::from_le_bytes(*field(block, at))
    }
}

impl SmallCodes for quant::Q5_1 {
    const OFFSET: i16 = 0;
    const MOST: i32 = 31;

    #[inline(always)]
    fn codes(simd: Avx512, blocks: [&[u8; 24]; 2]) -> __m512i {
        let high = fifth_bits(simd, blocks.map(|block| field(block, 4)));
        or(simd, nibbles16(simd, blocks.map(|block| field(block, 8))), high)
    }

    #[inline(always)]
    fn scale(block: &[u8; 24], at: usize) -> u16 {
        u16::from_le_bytes(*field(block, at))
    }
}

impl SmallCodes for quant::IQ4_NL {
    const OFFSET: i16 = 128;
    const MOST: i32 = 255;

    #[inline(always)]
    fn codes(simd: Avx512, blocks: [&[u8; 18]; 2]) -> __m512i {
        iq4(simd, nibbles16(simd, blocks.map(|block| field(block, 2))))
    }

    #[inline(always)]
    fn scale(block: &[u8; 18], at: usize) -> u16 {
        u16::from_le_bytes(*field(block, at))
    }
}

impl SmallCodes for quant::MXFP4 {
    const OFFSET: i16 = 16;
    const MOST: i32 = 28;
    const SCALE_BYTES: usize = 1;

    #[inline(always)]
    fn codes(simd: Avx512, blocks: [&[u8; 17]; 2]) -> __m512i {
        let nibbles = nibbles16(simd, blocks.map(|block| field(block, 1)));
        look_up(simd, const { &table(quant::MXFP4_VALUES, 16) }, nibbles)
    }

    #[inline(always)]
    fn scale(block: &[u8; 17], _: usize) -> u16 {
        block[0].into()
    }

    /// 2^(e − 128), of which those of e = 0 and 1 are subnormal: 2²¹ and 2²² as bits.
    #[inline(always)]
    fn to_f32(_: Avx512, exponents: __m256i) -> __m512 {
        // SAFETY: the tier is proven.
        unsafe {
            let (e, one) = (_mm512_cvtepu16_epi32(exponents), _mm512_set1_epi32(1));
            let normal = _mm512_slli_epi32::<23>(_mm512_sub_epi32(e, one));
            let next = _mm512_min_epi32(_mm512_add_epi32(e, one), _mm512_set1_epi32(2));
            _mm512_castsi512_ps(_mm512_max_epi32(normal, _mm512_slli_epi32::<21>(next)))
        }
    }
}
