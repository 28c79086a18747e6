//! 256 columns of a row panel of a super-block format, unpacked for [`super::tile`].
//!
//! A tile multiplies bytes, and 64 columns at once, so the integer scales must be in the
//! weights. Their products with the codes fit 16 bits, that is two bytes:
//! ```text
//! w[n][k] = (code − OFFSET) · scale = 256 · high + low     low 0..=255, high −128..=127
//! Σ w · a = 256 · Σ high · a + Σ low · a                   exact in i32
//! ```
//! For 16 weight rows:
//! ```text
//! low    [4 chunks of columns][16 rows][64]  u8
//! high   the same                            i8    nothing where low suffices
//! mins   [16 rows][16]  2 bf16               the minimum of sub-block i, twice
//! d      [16 rows] f32, dmin the same
//! ```
//! Minimums meet the sums of activations, which bf16 holds in two parts, in one more tile;
//! its f32 sums are integers below 2²¹, so exact.
//!
//! Both halves of a row panel, 18 KiB, stay in the L1 cache while all activations pass by.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use crate::kernel::matmul::avx512::{GROUP, Head16, Head32, Kernel, SuperScales, run, scale_word};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::{self, BlockFormat};
use crate::simd::avx512::{Avx512, ROW, ROWS, load64};

/// Integer scales in the order of the columns.
pub(in crate::kernel::matmul::amx) trait ProductScales:
    SuperScales
{
    /// Whether all products of codes and scales are in 0..=255.
    const ONE_BYTE: bool = false;

    /// The scales of the columns 64 `c` + 2i of block `j` as words i.
    fn factors(simd: Avx512, head: &Self::Head, j: usize, c: usize) -> __m512i;

    /// The minimums of four blocks as `mins` of the file's comment; of formats without,
    /// nothing.
    fn put_mins(simd: Avx512, head: &Self::Head, mins: &mut [[u8; ROW]; GROUP]);
}

macro_rules! scales32 {
    ($($format:ident)*) => { $(
        impl ProductScales for quant::$format {
            #[inline(always)]
            fn factors(simd: Avx512, head: &Head32, j: usize, c: usize) -> __m512i {
                const ORDER: [[[u16; 32]; 4]; GROUP] = {
                    let (mut order, mut i) = ([[[0; 32]; 4]; GROUP], 0);
                    while i < GROUP * 4 * 32 {
                        let (j, c, word) = (i / 128, i / 32 % 4, i % 32);
                        order[j][c][word] = scale_word(j, 2 * c + word / 16);
                        i += 1;
                    }
                    order
                };
                head.scale_words(simd, &ORDER[j][c])
            }

            #[inline(always)]
            fn put_mins(simd: Avx512, head: &Head32, mins: &mut [[u8; ROW]; GROUP]) {
                let words = head.min_words(simd);
                // SAFETY: the tier is proven.
                unsafe {
                    let eight = |x: __m128i| _mm256_zextsi128_si256(x);
                    put_words(simd, eight(_mm512_extracti32x4_epi32::<0>(words)), &mut mins[0]);
                    put_words(simd, eight(_mm512_extracti32x4_epi32::<1>(words)), &mut mins[1]);
                    put_words(simd, eight(_mm512_extracti32x4_epi32::<2>(words)), &mut mins[2]);
                    put_words(simd, eight(_mm512_extracti32x4_epi32::<3>(words)), &mut mins[3]);
                }
            }
        }
    )* };
}
scales32!(Q4_K Q5_K);

macro_rules! scales16 {
    ($($format:ident $one_byte:literal)*) => { $(
        impl ProductScales for quant::$format {
            const ONE_BYTE: bool = $one_byte;

            #[inline(always)]
            fn factors(simd: Avx512, head: &Head16, j: usize, c: usize) -> __m512i {
                const ORDER: [[u16; 32]; 4] = {
                    let (mut order, mut i) = ([[0; 32]; 4], 0);
                    while i < 4 * 32 {
                        order[i / 32][i % 32] = (4 * (i / 32) + i % 32 / 8) as u16;
                        i += 1;
                    }
                    order
                };
                // SAFETY: the tier is proven.
                unsafe {
                    let scales = _mm512_castsi256_si512(head.scales[j]);
                    _mm512_permutexvar_epi16(load64(simd, &ORDER[c]), scales)
                }
            }

            #[inline(always)]
            fn put_mins(simd: Avx512, head: &Head16, mins: &mut [[u8; ROW]; GROUP]) {
                if <Self as BlockFormat>::HAS_MIN {
                    for (words, mins) in head.mins.into_iter().zip(mins) {
                        put_words(simd, words, mins);
                    }
                }
            }
        }
    )* };
}
scales16!(Q2_K true Q3_K false Q6_K false IQ4_XS false Wide false);

/// 16 words below 256 as pairs of bf16, which are the upper halves of f32.
#[inline(always)]
fn put_words(simd: Avx512, words: __m256i, to: &mut [u8; ROW]) {
    // SAFETY: the tier is proven.
    unsafe {
        let x = _mm512_castps_si512(_mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(words)));
        store(simd, to, _mm512_or_si512(x, _mm512_srli_epi32::<16>(x)));
    }
}

/// A tile in memory.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernel::matmul::amx) struct Tile(pub [[u8; ROW]; ROWS]);

/// A block of 16 weight rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernel::matmul::amx) struct Half {
    pub(in crate::kernel::matmul::amx) low: [Tile; 4],
    pub(in crate::kernel::matmul::amx) high: [Tile; 4],
    pub(in crate::kernel::matmul::amx) mins: Tile,
    pub(in crate::kernel::matmul::amx) d: [f32; ROWS],
    pub(in crate::kernel::matmul::amx) dmin: [f32; ROWS],
}

impl Default for Half {
    fn default() -> Self {
        let (zero, d) = (Tile([[0; ROW]; ROWS]), [0.0; ROWS]);
        Half { low: [zero; 4], high: [zero; 4], mins: zero, d, dmin: d }
    }
}

/// Unpacks block `b` of the rows `first ..` of a row panel, of which format the function
/// says; rows that are not there repeat the last.
pub(in crate::kernel::matmul::amx) type Unpack = fn(Avx512, &RowPanel<'_>, usize, usize, &mut Half);

/// Of one format.
pub(in crate::kernel::matmul::amx) fn unpack<F: ProductScales>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    first: usize,
    b: usize,
    half: &mut Half,
) {
    run(simd, OfFormat::<F>(weights, first, b, half, PhantomData));
}

struct OfFormat<'a, F>(&'a RowPanel<'a>, usize, usize, &'a mut Half, PhantomData<F>);

impl<F: ProductScales> Kernel for OfFormat<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let OfFormat(weights, first, b, half, _) = self;
        half.unpack::<F>(simd, weights, first, b);
    }
}

impl Half {
    #[inline(always)]
    fn unpack<F: ProductScales>(
        &mut self,
        simd: Avx512,
        weights: &RowPanel<'_>,
        first: usize,
        b: usize,
    ) {
        const { assert!(!F::ONE_BYTE || F::OFFSET == 0) };
        for g in 0..ROWS / GROUP {
            let row = |j: usize| weights.row((first + GROUP * g + j).min(weights.rows - 1));
            let blocks = [
                &F::blocks(row(0))[b],
                &F::blocks(row(1))[b],
                &F::blocks(row(2))[b],
                &F::blocks(row(3))[b],
            ];
            self.unpack_group::<F>(simd, blocks, g);
        }
    }

    /// Unpacks a block of four rows.
    #[inline(always)]
    fn unpack_group<F: ProductScales>(
        &mut self,
        simd: Avx512,
        blocks: [&F::Block; GROUP],
        g: usize,
    ) {
        let head = F::head(simd, blocks);
        let (d, dmin) = F::floats(simd, blocks, &head);
        let rows = GROUP * g..GROUP * (g + 1);
        // SAFETY: the tier is proven; both slices have four floats.
        unsafe {
            _mm_storeu_ps(self.d[rows.clone()].as_mut_ptr(), d);
            _mm_storeu_ps(self.dmin[rows].as_mut_ptr(), dmin);
        }
        if let Some(mins) = self.mins.0.as_chunks_mut::<GROUP>().0.get_mut(g) {
            F::put_mins(simd, &head, mins);
        }
        for (j, block) in blocks.into_iter().enumerate() {
            for (c, codes) in F::codes(simd, block).into_iter().enumerate() {
                let factors = F::factors(simd, &head, j, c);
                let [low, high] = products::<F>(simd, codes, factors);
                store(simd, &mut self.low[c].0[GROUP * g + j], low);
                if !F::ONE_BYTE {
                    store(simd, &mut self.high[c].0[GROUP * g + j], high);
                }
            }
        }
    }
}

#[inline(always)]
fn store(_: Avx512, to: &mut [u8; ROW], x: __m512i) {
    // SAFETY: the tier is proven; 64 bytes can be written.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
}

/// The low and the high bytes of `(codes − OFFSET) · factors`; a factor is of two codes.
#[inline(always)]
fn products<F: ProductScales>(_: Avx512, codes: __m512i, factors: __m512i) -> [__m512i; 2] {
    /// `mask ? b : c`, as the truth table of `vpternlogd`.
    const SELECT: i32 = 0b1100_1010;
    // SAFETY: the tier is proven.
    unsafe {
        let mask = _mm512_set1_epi16(0x00ff);
        let mut even = _mm512_and_si512(codes, mask);
        let mut odd = _mm512_srli_epi16::<8>(codes);
        if F::OFFSET != 0 {
            even = _mm512_sub_epi16(even, _mm512_set1_epi16(F::OFFSET));
            odd = _mm512_sub_epi16(odd, _mm512_set1_epi16(F::OFFSET));
        }
        let even = _mm512_mullo_epi16(even, factors);
        let odd = _mm512_mullo_epi16(odd, factors);
        let (up, down) = (_mm512_slli_epi16::<8>(odd), _mm512_srli_epi16::<8>(even));
        [
            _mm512_ternarylogic_epi32::<SELECT>(mask, even, up),
            _mm512_ternarylogic_epi32::<SELECT>(mask, down, odd),
        ]
    }
}
