//! Four blocks of a super-block format side by side, a block in each 128 bits of a
//! register: what is multiplied in place with few rows.

use std::arch::x86_64::*;

use super::codes::SuperCodes;
use super::scales::{GROUP, Head16, Head32, SuperScales, place};
use crate::quant::{self, field};
use crate::simd::avx512::{Avx512, load_four, transpose4};

/// A super-block format, four blocks at a time.
pub(in crate::kernel::matmul::avx512) trait Lanes:
    SuperScales
{
    /// Scales and sides of four blocks, side by side.
    type Decoded: Copy;

    /// Rearranges the scales of four blocks.
    fn lanes(simd: Avx512, head: &Self::Head) -> Self::Decoded;

    /// Scale `s`, even, of each block in the four low words of its 128 bits, and the next
    /// in the four high ones.
    fn scale_pair(simd: Avx512, decoded: &Self::Decoded, s: usize) -> __m512i;

    /// The minimums 2p and 2p + 1 as a pair of i16 in each 32 bits, or
    /// −OFFSET · scale for formats without minimums.
    fn side(simd: Avx512, decoded: &Self::Decoded, p: usize) -> __m512i;

    /// The codes 64 `c` .. of each block: 16 per register.
    #[inline(always)]
    fn quarter(simd: Avx512, blocks: [&Self::Block; GROUP], c: usize) -> [__m512i; 4] {
        let mut r = [zero(simd); GROUP];
        for (r, block) in r.iter_mut().zip(blocks) {
            *r = Self::codes(simd, block)[c];
        }
        transpose4(simd, r)
    }
}

#[inline(always)]
fn zero(_: Avx512) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe { _mm512_setzero_si512() }
}

/// 16 bytes at `at` of each block.
#[inline(always)]
fn sixteen<const N: usize>(simd: Avx512, blocks: [&[u8; N]; GROUP], at: usize) -> __m512i {
    let [a, b, c, d] = blocks;
    load_four::<u8, 16>(simd, [field(a, at), field(b, at), field(c, at), field(d, at)])
}

/// Of each 128 bits, the bytes at the word `low` in four words, then those at `high`.
#[inline(always)]
fn four_times(_: Avx512, x: __m512i, low: u16, high: u16) -> __m512i {
    const FOUR: i64 = 0x0001_0001_0001_0001;
    let (low, high) = (FOUR.wrapping_mul(low.into()), FOUR.wrapping_mul(high.into()));
    // SAFETY: the tier is proven.
    unsafe { _mm512_shuffle_epi8(x, _mm512_set4_epi64(high, low, high, low)) }
}

/// The bytes `byte` and `byte + 1` of each 128 bits, as a pair of words in each 32.
#[inline(always)]
fn pair(_: Avx512, x: __m512i, byte: usize) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        let order = 0x8001_8000_u32.cast_signed() + 0x0001_0001 * byte as i32;
        _mm512_shuffle_epi8(x, _mm512_set1_epi32(order))
    }
}

macro_rules! lanes32 {
    ($format:ident $($quarter:tt)*) => {
        impl Lanes for quant::$format {
            type Decoded = Head32;

            #[inline(always)]
            fn lanes(_: Avx512, head: &Head32) -> Head32 {
                *head
            }

            #[inline(always)]
            fn scale_pair(simd: Avx512, head: &Head32, s: usize) -> __m512i {
                // A byte and zero.
                let word = |s: usize| 0x8000 | place(s) as u16;
                four_times(simd, head.decoded, word(s), word(s + 1))
            }

            #[inline(always)]
            fn side(simd: Avx512, head: &Head32, p: usize) -> __m512i {
                pair(simd, head.decoded, place(2 * p) + 4)
            }

            $($quarter)*
        }
    };
}
lanes32!(Q4_K
    #[inline(always)]
    fn quarter(simd: Avx512, blocks: [&[u8; 144]; GROUP], c: usize) -> [__m512i; 4] {
        let a = sixteen(simd, blocks, 16 + 32 * c);
        let b = sixteen(simd, blocks, 32 + 32 * c);
        [low(simd, a), low(simd, b), high(simd, a), high(simd, b)]
    }
);
lanes32!(Q5_K);

/// The low nibble of every byte.
#[inline(always)]
fn low(_: Avx512, x: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe { _mm512_and_si512(x, _mm512_set1_epi8(15)) }
}

/// The high nibble of every byte.
#[inline(always)]
fn high(simd: Avx512, x: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    low(simd, unsafe { _mm512_srli_epi16::<4>(x) })
}

/// Formats with a scale per 16 weights: words 0–7 and 8–15 of each block.
#[derive(Clone, Copy)]
pub(in crate::kernel::matmul::avx512) struct Words {
    scales: [__m512i; 2],
    sides: [__m512i; 2],
}

/// The low and the high 128 bits of four blocks' words.
#[inline(always)]
fn halves(_: Avx512, x: [__m256i; GROUP]) -> [__m512i; 2] {
    // SAFETY: the tier is proven.
    unsafe {
        let a = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x[0]), x[1]);
        let b = _mm512_inserti64x4::<1>(_mm512_castsi256_si512(x[2]), x[3]);
        [_mm512_shuffle_i32x4::<0b10_00_10_00>(a, b), _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b)]
    }
}

macro_rules! lanes16 {
    ($format:ident $($quarter:tt)*) => {
        impl Lanes for quant::$format {
            type Decoded = Words;

            #[inline(always)]
            fn lanes(simd: Avx512, head: &Head16) -> Words {
                let scales = halves(simd, head.scales);
                let sides = if <Self as SuperCodes>::OFFSET == 0 {
                    halves(simd, head.mins)
                } else {
                    // SAFETY: the tier is proven.
                    unsafe {
                        let factor = _mm512_set1_epi16(-<Self as SuperCodes>::OFFSET);
                        [
                            _mm512_mullo_epi16(scales[0], factor),
                            _mm512_mullo_epi16(scales[1], factor),
                        ]
                    }
                };
                Words { scales, sides }
            }

            #[inline(always)]
            fn scale_pair(simd: Avx512, words: &Words, s: usize) -> __m512i {
                let word = |s: usize| 0x0100 + 0x0202 * (s % 8) as u16;
                four_times(simd, words.scales[s / 8], word(s), word(s + 1))
            }

            #[inline(always)]
            fn side(_: Avx512, words: &Words, p: usize) -> __m512i {
                let order = 0x0302_0100 + 0x0404_0404 * (p % 4) as i32;
                // SAFETY: the tier is proven.
                unsafe { _mm512_shuffle_epi8(words.sides[p / 4], _mm512_set1_epi32(order)) }
            }

            $($quarter)*
        }
    };
}
lanes16!(Q3_K);
lanes16!(Q2_K);
lanes16!(IQ4_XS);
lanes16!(Wide);
lanes16!(Q6_K
    /// Weights 128h + 32j ..: low bits in nibble j / 2 of bytes 64h + 32 (j % 2) .. of
    /// `ql`, high bits in bits 2j of bytes 32h .. of `qh`.
    #[inline(always)]
    fn quarter(simd: Avx512, blocks: [&[u8; 210]; GROUP], c: usize) -> [__m512i; 4] {
        let (ql, qh) = (64 * (c / 2), 128 + 32 * (c / 2));
        let top = [sixteen(simd, blocks, qh), sixteen(simd, blocks, qh + 16)];
        let low = [
            sixteen(simd, blocks, ql),
            sixteen(simd, blocks, ql + 16),
            sixteen(simd, blocks, ql + 32),
            sixteen(simd, blocks, ql + 48),
        ];
        if c.is_multiple_of(2) {
            [
                six(simd, nibble::<0>(simd, low[0]), bits45::<4, 0>(simd, top[0])),
                six(simd, nibble::<0>(simd, low[1]), bits45::<4, 0>(simd, top[1])),
                six(simd, nibble::<0>(simd, low[2]), bits45::<2, 0>(simd, top[0])),
                six(simd, nibble::<0>(simd, low[3]), bits45::<2, 0>(simd, top[1])),
            ]
        } else {
            [
                six(simd, nibble::<4>(simd, low[0]), bits45::<0, 0>(simd, top[0])),
                six(simd, nibble::<4>(simd, low[1]), bits45::<0, 0>(simd, top[1])),
                six(simd, nibble::<4>(simd, low[2]), bits45::<0, 2>(simd, top[0])),
                six(simd, nibble::<4>(simd, low[3]), bits45::<0, 2>(simd, top[1])),
            ]
        }
    }
);

/// Four bits of every byte, from bit `FROM` on.
#[inline(always)]
fn nibble<const FROM: u32>(_: Avx512, x: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe { _mm512_srli_epi16::<FROM>(x) }
}

/// Bits moved to 4 and 5 of every byte, others not cleared.
#[inline(always)]
fn bits45<const LEFT: u32, const RIGHT: u32>(_: Avx512, x: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe { _mm512_srli_epi16::<RIGHT>(_mm512_slli_epi16::<LEFT>(x)) }
}

/// `low & 15 | top & 48`
#[inline(always)]
fn six(_: Avx512, low: __m512i, top: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        let top = _mm512_and_si512(top, _mm512_set1_epi8(48));
        _mm512_ternarylogic_epi32::<0b1111_1000>(top, low, _mm512_set1_epi8(15))
    }
}
