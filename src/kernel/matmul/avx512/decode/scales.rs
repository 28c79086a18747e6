//! The integer scales and minimums of super-block formats in registers.
//!
//! Four blocks are decoded together: for a matvec the neighbours along a row, for
//! a panel the same block of four rows.

use std::arch::x86_64::*;

use super::codes::SuperCodes;
use crate::quant::wide::{WideBlock, integer_scales};
use crate::quant::{self, field};
use crate::simd::avx512::{
    Avx512, dpwssd, load_four, load16, load32, load64, quarters, sum_quarters, transpose,
};

/// Blocks that are decoded together.
pub(in crate::kernel::matmul) const GROUP: usize = 4;

/// The scales of a super-block format.
pub(in crate::kernel::matmul) trait SuperScales: SuperCodes {
    /// Weights per integer scale: 16 or 32.
    const SUB: usize;

    /// Four blocks' scales and minimums.
    type Head: Copy;

    /// Decodes four blocks.
    fn head(simd: Avx512, blocks: [&Self::Block; GROUP]) -> Self::Head;

    /// The scales of block `j` as i16 in [`packed_order`].
    fn scales(simd: Avx512, head: &Self::Head, j: usize) -> [__m512i; 2];

    /// What does not depend on the codes: `sums − Σ OFFSET · scale · (sum of 16
    /// activations)` of block `j`.
    #[inline(always)]
    fn offset(_: Avx512, _: &Self::Head, _: usize, _: &[i16; 16], sums: __m512i) -> __m512i {
        sums
    }

    /// `Σ min · (sum of activations)` of each of the four blocks.
    #[inline(always)]
    fn mins(_: Avx512, _: &Self::Head, _: &[i16; 64], _: &[i16; 32]) -> __m128i {
        // SAFETY: the tier is proven.
        unsafe { _mm_setzero_si128() }
    }

    /// `d` and `dmin` of the four blocks.
    fn floats(simd: Avx512, blocks: [&Self::Block; GROUP], head: &Self::Head) -> (__m128, __m128);

    /// Scales, and minimums if the format has them, of 16 rows: register p holds two
    /// numbers of each row as a pair of i16, in the order of
    /// `pack/threes.rs`. 128 / SUB registers count.
    fn pairs(simd: Avx512, heads: &[Self::Head; 4]) -> ([__m512i; 8], [__m512i; 8]);
}

/// Which sub-block of 16 a word of register `h` belongs to, after lanes of four
/// products were packed to words: 128 bits i hold four sums of weights
/// 128h + 16i.., then four of 128h + 64 + 16i...
const fn packed_order(h: usize) -> [u16; 32] {
    let (mut order, mut word) = ([0; 32], 0);
    while word < 32 {
        order[word] = (8 * h + word / 8 + 4 * (word % 8 / 4)) as u16;
        word += 1;
    }
    order
}

/// The half-precision numbers at two places of each of four blocks.
#[inline(always)]
fn halves<const N: usize>(
    _: Avx512,
    blocks: [&[u8; N]; GROUP],
    first: usize,
    second: usize,
) -> (__m128, __m128) {
    let word = |at: usize| {
        let [a, b, c, d] = blocks.map(|block| u64::from(u16::from_le_bytes(*field(block, at))));
        (a | b << 16 | c << 32 | d << 48) as i64
    };
    // SAFETY: the tier is proven.
    unsafe {
        let both = _mm256_cvtph_ps(_mm_set_epi64x(word(second), word(first)));
        (_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both))
    }
}

/// Q4_K and Q5_K. Per 128 bits of a block: in `front` its first 16 bytes (d,
/// dmin, packed scales), in `decoded` as bytes scales 0–3, minimums 0–3, scales
/// 4–7, minimums 4–7.
#[derive(Clone, Copy)]
pub(in crate::kernel::matmul) struct Head32 {
    front: __m512i,
    pub(in crate::kernel::matmul) decoded: __m512i,
}

/// Byte of scale `s` in its 128 bits of [`Head32::decoded`]; the minimum is 4 on.
pub(in crate::kernel::matmul) const fn place(s: usize) -> usize {
    s % 4 + 8 * (s / 4)
}

/// Scale `s` of block `j` in an order of [`Head32::scale_words`]: its byte below one that
/// is zero there, that of a minimum.
pub(in crate::kernel::matmul) const fn scale_word(j: usize, s: usize) -> u16 {
    (16 * j + place(s)) as u16 | 4 << 8
}

impl Head32 {
    /// With the packed words a, b, c of a block (see `q4_k::unpack_scales`):
    /// a, b masked to six bits; (c low, c high) nibbles | top bits of (a, b).
    #[inline(always)]
    fn new(simd: Avx512, fronts: [&[u8; 16]; GROUP]) -> Self {
        const SIX: i32 = 0x3f3f_3f3f;
        const HIGH: i32 = 0x3030_3030;
        const LOW: i32 = 0x0f0f_0f0f;
        let front = load_four(simd, fronts);
        // SAFETY: the tier is proven.
        unsafe {
            let each = |a, b, c, d| _mm512_setr4_epi32(a, b, c, d);
            let abab = _mm512_shuffle_epi32::<0b10_01_10_01>(front);
            let cccc = _mm512_shuffle_epi32::<0b11_11_11_11>(front);
            let abab = _mm512_srlv_epi32(abab, each(0, 0, 2, 2));
            let cccc = _mm512_srlv_epi32(cccc, each(0, 0, 0, 4));
            let upper = _mm512_and_si512(abab, each(SIX, SIX, HIGH, HIGH));
            // upper | (cccc & mask)
            let mask = each(0, 0, LOW, LOW);
            Head32 { front, decoded: _mm512_ternarylogic_epi32::<0b1111_1000>(upper, cccc, mask) }
        }
    }

    #[inline(always)]
    fn scales(&self, simd: Avx512, j: usize) -> [__m512i; 2] {
        const ORDER: [[[u16; 32]; 2]; GROUP] = {
            let (mut order, mut i) = ([[[0; 32]; 2]; GROUP], 0);
            while i < GROUP * 2 * 32 {
                let (j, h, word) = (i / 64, i / 32 % 2, i % 32);
                order[j][h][word] = scale_word(j, packed_order(h)[word] as usize / 2);
                i += 1;
            }
            order
        };
        [self.scale_words(simd, &ORDER[j][0]), self.scale_words(simd, &ORDER[j][1])]
    }

    /// Scales as words in an order made of [`scale_word`]s. (`vpermb` could set bytes to
    /// zero by a mask; LLVM makes that an `and` after each.)
    #[inline(always)]
    pub(in crate::kernel::matmul) fn scale_words(
        &self,
        simd: Avx512,
        order: &[u16; 32],
    ) -> __m512i {
        // SAFETY: the tier is proven.
        unsafe {
            let scales = _mm512_maskz_mov_epi32(0x5555, self.decoded);
            _mm512_permutexvar_epi8(load64(simd, order), scales)
        }
    }

    /// The minimums of each block as eight words.
    #[inline(always)]
    pub(in crate::kernel::matmul) fn min_words(&self, simd: Avx512) -> __m512i {
        const ORDER: [u16; 32] = {
            let (mut order, mut word) = ([0; 32], 0);
            while word < 32 {
                // Byte 0, that of a scale, is zero here.
                order[word] = (16 * (word / 8) + place(word % 8) + 4) as u16;
                word += 1;
            }
            order
        };
        // SAFETY: the tier is proven.
        unsafe {
            let mins = _mm512_maskz_mov_epi32(0xaaaa, self.decoded);
            _mm512_permutexvar_epi8(load64(simd, &ORDER), mins)
        }
    }

    #[inline(always)]
    fn mins(&self, simd: Avx512, sums32: &[i16; 32]) -> __m128i {
        let mins = self.min_words(simd);
        // SAFETY: the tier is proven.
        sum_quarters(simd, unsafe { _mm512_madd_epi16(mins, load64(simd, sums32)) })
    }

    #[inline(always)]
    fn floats(&self, simd: Avx512) -> (__m128, __m128) {
        const ORDER: [u16; 32] = {
            let (mut order, mut j) = ([0; 32], 0);
            while j < GROUP {
                order[j] = 8 * j as u16;
                order[GROUP + j] = 8 * j as u16 + 1;
                j += 1;
            }
            order
        };
        // SAFETY: the tier is proven.
        unsafe {
            let halves = _mm512_permutexvar_epi16(load64(simd, &ORDER), self.front);
            let both = _mm256_cvtph_ps(_mm512_castsi512_si128(halves));
            (_mm256_castps256_ps128(both), _mm256_extractf128_ps::<1>(both))
        }
    }

    #[inline(always)]
    fn pairs(simd: Avx512, heads: &[Self; 4]) -> ([__m512i; 8], [__m512i; 8]) {
        let rows = [heads[0].decoded, heads[1].decoded, heads[2].decoded, heads[3].decoded];
        let [low, low_min, high, high_min] = quarters(simd, rows);
        // SAFETY: the tier is proven.
        let zero = unsafe { _mm512_setzero_si512() };
        let (mut scales, mut mins) = ([zero; 8], [zero; 8]);
        for (pairs, [low, high]) in [(&mut scales, [low, high]), (&mut mins, [low_min, high_min])] {
            pairs[0] = first_pair(simd, low);
            pairs[1] = second_pair(simd, low);
            pairs[2] = first_pair(simd, high);
            pairs[3] = second_pair(simd, high);
        }
        (scales, mins)
    }
}

/// Bytes 0 and 1 of each lane as two words.
#[inline(always)]
fn first_pair(_: Avx512, x: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    unsafe {
        let lane = |i: i32| 0x8001_8000_u32 as i32 | (0x0004_0004 * i);
        _mm512_shuffle_epi8(x, _mm512_setr4_epi32(lane(0), lane(1), lane(2), lane(3)))
    }
}

/// Bytes 2 and 3 of each lane as two words.
#[inline(always)]
fn second_pair(simd: Avx512, x: __m512i) -> __m512i {
    // SAFETY: the tier is proven.
    first_pair(simd, unsafe { _mm512_srli_epi32::<16>(x) })
}

macro_rules! head32 {
    ($($format:ident)*) => { $(
        impl SuperScales for quant::$format {
            const SUB: usize = 32;
            type Head = Head32;

            #[inline(always)]
            fn head(simd: Avx512, blocks: [&Self::Block; GROUP]) -> Head32 {
                Head32::new(simd, blocks.map(|block| field(block, 0)))
            }

            #[inline(always)]
            fn scales(simd: Avx512, head: &Head32, j: usize) -> [__m512i; 2] {
                head.scales(simd, j)
            }

            #[inline(always)]
            fn mins(
                simd: Avx512,
                head: &Head32,
                _: &[i16; 64],
                sums32: &[i16; 32],
            ) -> __m128i {
                head.mins(simd, sums32)
            }

            #[inline(always)]
            fn floats(
                simd: Avx512,
                _: [&Self::Block; GROUP],
                head: &Head32,
            ) -> (__m128, __m128) {
                head.floats(simd)
            }

            #[inline(always)]
            fn pairs(simd: Avx512, heads: &[Head32; 4]) -> ([__m512i; 8], [__m512i; 8]) {
                Head32::pairs(simd, heads)
            }
        }
    )* };
}
head32!(Q4_K Q5_K);

/// Formats with a scale per 16 weights: four blocks' scales and minimums as words.
#[derive(Clone, Copy)]
pub(in crate::kernel::matmul) struct Head16 {
    pub(in crate::kernel::matmul) scales: [__m256i; GROUP],
    pub(in crate::kernel::matmul) mins: [__m256i; GROUP],
}

impl Head16 {
    #[inline(always)]
    fn scales(&self, simd: Avx512, j: usize) -> [__m512i; 2] {
        const ORDER: [[u16; 32]; 2] = [packed_order(0), packed_order(1)];
        // SAFETY: the tier is proven.
        unsafe {
            let scales = _mm512_castsi256_si512(self.scales[j]);
            [
                _mm512_permutexvar_epi16(load64(simd, &ORDER[0]), scales),
                _mm512_permutexvar_epi16(load64(simd, &ORDER[1]), scales),
            ]
        }
    }

    /// |offset · scale| ≤ 32 · 128.
    #[inline(always)]
    fn offset(
        &self,
        simd: Avx512,
        j: usize,
        offset: i16,
        sums16: &[i16; 16],
        sums: __m512i,
    ) -> __m512i {
        // SAFETY: the tier is proven.
        unsafe {
            let factors = _mm256_mullo_epi16(self.scales[j], _mm256_set1_epi16(-offset));
            let factors = _mm512_zextsi256_si512(factors);
            dpwssd(sums, factors, _mm512_zextsi256_si512(load32(simd, sums16)))
        }
    }

    #[inline(always)]
    fn mins(&self, simd: Avx512, sums16: &[i16; 64]) -> __m128i {
        let sums16 = sums16.as_chunks::<16>().0;
        // SAFETY: the tier is proven.
        unsafe {
            let product = |j: usize| _mm256_madd_epi16(self.mins[j], load32(simd, &sums16[j]));
            let pairs = _mm256_hadd_epi32(product(0), product(1));
            let all = _mm256_hadd_epi32(pairs, _mm256_hadd_epi32(product(2), product(3)));
            _mm_add_epi32(_mm256_castsi256_si128(all), _mm256_extracti128_si256::<1>(all))
        }
    }

    #[inline(always)]
    fn pairs(simd: Avx512, heads: &[Self; 4]) -> ([__m512i; 8], [__m512i; 8]) {
        // SAFETY: the tier is proven.
        unsafe {
            let (mut scales, mut mins) =
                ([_mm512_setzero_si512(); 16], [_mm512_setzero_si512(); 16]);
            for row in 0..16 {
                scales[row] = _mm512_castsi256_si512(heads[row / 4].scales[row % 4]);
                mins[row] = _mm512_castsi256_si512(heads[row / 4].mins[row % 4]);
            }
            (apart(simd, transpose(simd, scales)), apart(simd, transpose(simd, mins)))
        }
    }
}

/// Of numbers (4c, 4c + 1) and (4c + 2, 4c + 3) in neighbours of the first eight:
/// (4c, 4c + 2) and (4c + 1, 4c + 3).
#[inline(always)]
fn apart(_: Avx512, columns: [__m512i; 16]) -> [__m512i; 8] {
    // SAFETY: the tier is proven.
    unsafe {
        let mut out = [_mm512_setzero_si512(); 8];
        for c in 0..4 {
            let (low, high) = (columns[2 * c], columns[2 * c + 1]);
            let upper = 0xaaaa_aaaa;
            out[2 * c] = _mm512_mask_blend_epi16(upper, low, _mm512_slli_epi32::<16>(high));
            out[2 * c + 1] = _mm512_mask_blend_epi16(upper, _mm512_srli_epi32::<16>(low), high);
        }
        out
    }
}

/// Where the numbers of [`Head16`] come from.
trait Sixteen: SuperCodes {
    /// `d` and `dmin` of four blocks (any number where there is none).
    fn floats(simd: Avx512, blocks: [&Self::Block; GROUP]) -> (__m128, __m128);

    /// 16 scales and 16 minimums as words.
    fn words(simd: Avx512, block: &Self::Block) -> (__m256i, __m256i);
}

macro_rules! head16 {
    ($($format:ident)*) => { $(
        impl SuperScales for quant::$format {
            const SUB: usize = 16;
            type Head = Head16;

            #[inline(always)]
            fn head(simd: Avx512, blocks: [&Self::Block; GROUP]) -> Head16 {
                let (a, b) = (Self::words(simd, blocks[0]), Self::words(simd, blocks[1]));
                let (c, d) = (Self::words(simd, blocks[2]), Self::words(simd, blocks[3]));
                Head16 { scales: [a.0, b.0, c.0, d.0], mins: [a.1, b.1, c.1, d.1] }
            }

            #[inline(always)]
            fn scales(simd: Avx512, head: &Head16, j: usize) -> [__m512i; 2] {
                head.scales(simd, j)
            }

            #[inline(always)]
            fn offset(
                simd: Avx512,
                head: &Head16,
                j: usize,
                sums16: &[i16; 16],
                sums: __m512i,
            ) -> __m512i {
                match Self::OFFSET {
                    0 => sums,
                    offset => head.offset(simd, j, offset, sums16, sums),
                }
            }

            #[inline(always)]
            fn mins(
                simd: Avx512,
                head: &Head16,
                sums16: &[i16; 64],
                _: &[i16; 32],
            ) -> __m128i {
                head.mins(simd, sums16)
            }

            #[inline(always)]
            fn floats(simd: Avx512, b: [&Self::Block; GROUP], _: &Head16) -> (__m128, __m128) {
                <Self as Sixteen>::floats(simd, b)
            }

            #[inline(always)]
            fn pairs(simd: Avx512, heads: &[Head16; 4]) -> ([__m512i; 8], [__m512i; 8]) {
                Head16::pairs(simd, heads)
            }
        }
    )* };
}
head16!(Q6_K Q3_K Q2_K IQ4_XS Wide);

/// 16 signed bytes as words.
#[inline(always)]
fn signed(simd: Avx512, bytes: &[u8; 16]) -> __m256i {
    // SAFETY: the tier is proven.
    unsafe { _mm256_cvtepi8_epi16(load16(simd, bytes)) }
}

#[inline(always)]
fn none(_: Avx512) -> __m256i {
    // SAFETY: the tier is proven.
    unsafe { _mm256_setzero_si256() }
}

impl Sixteen for quant::Q6_K {
    #[inline(always)]
    fn floats(simd: Avx512, blocks: [&Self::Block; GROUP]) -> (__m128, __m128) {
        halves(simd, blocks, 208, 208)
    }

    #[inline(always)]
    fn words(simd: Avx512, block: &[u8; 210]) -> (__m256i, __m256i) {
        (signed(simd, field(block, 192)), none(simd))
    }
}

impl Sixteen for quant::Q3_K {
    #[inline(always)]
    fn floats(simd: Avx512, blocks: [&Self::Block; GROUP]) -> (__m128, __m128) {
        halves(simd, blocks, 108, 108)
    }

    #[inline(always)]
    fn words(simd: Avx512, block: &[u8; 110]) -> (__m256i, __m256i) {
        let scales = signed(simd, &quant::q3_k_scales(block));
        // SAFETY: the tier is proven.
        (unsafe { _mm256_sub_epi16(scales, _mm256_set1_epi16(32)) }, none(simd))
    }
}

impl Sixteen for quant::Q2_K {
    #[inline(always)]
    fn floats(simd: Avx512, blocks: [&Self::Block; GROUP]) -> (__m128, __m128) {
        halves(simd, blocks, 80, 82)
    }

    #[inline(always)]
    fn words(simd: Avx512, block: &[u8; 84]) -> (__m256i, __m256i) {
        // SAFETY: the tier is proven.
        unsafe {
            let words = _mm256_cvtepu8_epi16(load16::<u8, 16>(simd, field(block, 0)));
            let low = _mm256_and_si256(words, _mm256_set1_epi16(15));
            (low, _mm256_srli_epi16::<4>(words))
        }
    }
}

/// Its scales are 32 wide and stand twice. Its codes use all 8 bits: sums of four
/// products do not fit words, so the matvec does not take it.
impl Sixteen for quant::IQ4_XS {
    #[inline(always)]
    fn floats(simd: Avx512, blocks: [&Self::Block; GROUP]) -> (__m128, __m128) {
        halves(simd, blocks, 0, 0)
    }

    #[inline(always)]
    fn words(simd: Avx512, block: &[u8; 136]) -> (__m256i, __m256i) {
        let mut scales = [0i16; 16];
        for (k, scale) in scales.iter_mut().enumerate() {
            *scale = quant::iq4_xs_scale(block, 16 * k).into();
        }
        (load32(simd, &scales), none(simd))
    }
}

impl Sixteen for quant::Wide {
    #[inline(always)]
    fn floats(_: Avx512, [a, b, c, d]: [&WideBlock; GROUP]) -> (__m128, __m128) {
        let d_of = |block| <quant::Wide as quant::BlockFormat>::scales(block).d;
        // SAFETY: the tier is proven.
        unsafe { (_mm_setr_ps(d_of(a), d_of(b), d_of(c), d_of(d)), _mm_setzero_ps()) }
    }

    #[inline(always)]
    fn words(simd: Avx512, block: &WideBlock) -> (__m256i, __m256i) {
        (load32(simd, &integer_scales(block)), none(simd))
    }
}
