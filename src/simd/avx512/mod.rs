//! AVX-512 with VNNI, VBMI and GFNI: Zen 4 and later, Ice Lake and later.
//!
//! One register holds the 16 lanes of the vocabulary. Methods are one or two
//! instructions, `#[inline(always)]` into [`Avx512::enter`], the one function
//! compiled for the tier. The kernels of quantized products are in `kernel/matmul/avx512`
//! and `kernel/matmul/amx`.

mod cpu;
mod fetch;
mod tiles;
mod token;
mod vector;

use std::arch::x86_64::*;

pub(crate) use fetch::{AHEAD, NEAR};
pub(crate) use tiles::{ROW, ROWS, Tiles};
pub(crate) use token::{Amx, Avx512};
pub(crate) use vector::*;

use super::{Simd, Task};

impl Simd for Avx512 {
    type F32x16 = __m512;
    type I32x16 = __m512i;
    type I16x32 = __m512i;
    const TILE: usize = 4;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        self.enter(task)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> __m512 {
        // SAFETY: `self` proves the features; 16 floats can be read from `x`.
        unsafe { _mm512_loadu_ps(x.as_ptr()) }
    }

    #[inline(always)]
    fn store(self, x: __m512, out: &mut [f32; 16]) {
        // SAFETY: `self` proves the features; 16 floats can be written to `out`.
        unsafe { _mm512_storeu_ps(out.as_mut_ptr(), x) }
    }

    #[inline(always)]
    fn add(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    fn mul(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    fn fma(self, a: __m512, b: __m512, c: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_fmadd_ps(a, b, c) }
    }

    #[inline(always)]
    fn div(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_div_ps(a, b) }
    }

    #[inline(always)]
    fn max(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_max_ps(a, b) }
    }

    #[inline(always)]
    fn min(self, a: __m512, b: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_min_ps(a, b) }
    }

    #[inline(always)]
    fn pow2(self, bits: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe {
            let n = _mm512_add_epi32(_mm512_castps_si512(bits), _mm512_set1_epi32(127));
            _mm512_castsi512_ps(_mm512_slli_epi32::<23>(n))
        }
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> __m512 {
        // SAFETY: `self` proves the features; 32 bytes can be read from `x`.
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(x.as_ptr().cast())) }
    }

    #[inline(always)]
    fn sum(self, x: __m512) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    /// The trees of four vectors in one: halves, quarters, then within quarters.
    #[inline(always)]
    fn sums(self, [a, b, c, d]: [__m512; 4]) -> [f32; 4] {
        // SAFETY: `self` proves the features; 4 floats can be written to `sums`.
        unsafe {
            let halves = |a, b| {
                let low = _mm512_shuffle_f32x4::<0b01_00_01_00>(a, b);
                _mm512_add_ps(low, _mm512_shuffle_f32x4::<0b11_10_11_10>(a, b))
            };
            let (ab, cd) = (halves(a, b), halves(c, d));
            let even = _mm512_shuffle_f32x4::<0b10_00_10_00>(ab, cd);
            let four = _mm512_add_ps(even, _mm512_shuffle_f32x4::<0b11_01_11_01>(ab, cd));
            let two = _mm512_add_ps(four, _mm512_permute_ps::<0b11_10_11_10>(four));
            let one = _mm512_add_ps(two, _mm512_movehdup_ps(two));
            let mut sums = [0.0; 4];
            let first = _mm512_set_epi32(0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 12, 8, 4, 0);
            let sums_of = _mm512_permutexvar_ps(first, one);
            _mm_storeu_ps(sums.as_mut_ptr(), _mm512_castps512_ps128(sums_of));
            sums
        }
    }

    #[inline(always)]
    fn max_lane(self, x: __m512) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps::<1>(x));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn swap_pairs(self, x: __m512) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_permute_ps::<0b10_11_00_01>(x) }
    }

    #[inline(always)]
    fn zero_i32(self) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_setzero_si512() }
    }

    #[inline(always)]
    fn load_i16(self, x: &[i16; 32]) -> __m512i {
        // SAFETY: `self` proves the features; 64 bytes can be read from `x`.
        unsafe { _mm512_loadu_si512(x.as_ptr().cast()) }
    }

    #[inline(always)]
    fn store_i16(self, x: __m512i, out: &mut [i16; 32]) {
        // SAFETY: `self` proves the features; 64 bytes can be written to `out`.
        unsafe { _mm512_storeu_si512(out.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    fn load_i8_high(self, x: &[i8; 32]) -> __m512i {
        // SAFETY: `self` proves the features; 32 bytes can be read from `x`.
        unsafe {
            let codes = _mm512_cvtepi8_epi16(_mm256_loadu_si256(x.as_ptr().cast()));
            _mm512_slli_epi16::<8>(codes)
        }
    }

    #[inline(always)]
    fn splat_pair(self, pair: &[i16; 2]) -> __m512i {
        // SAFETY: `self` proves the features; 4 bytes can be read from `pair`.
        unsafe { _mm512_set1_epi32(pair.as_ptr().cast::<i32>().read_unaligned()) }
    }

    #[inline(always)]
    fn dot_pairs(self, acc: __m512i, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_dpwssd_epi32(acc, a, b) }
    }

    #[inline(always)]
    fn mul_q15(self, a: __m512i, b: __m512i) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_mulhrs_epi16(a, b) }
    }

    #[inline(always)]
    fn to_f32(self, x: __m512i) -> __m512 {
        // SAFETY: `self` proves the features.
        unsafe { _mm512_cvtepi32_ps(x) }
    }

    #[inline(always)]
    fn round_i16(self, low: __m512, high: __m512) -> __m512i {
        // SAFETY: `self` proves the features.
        unsafe {
            let half = |x| _mm512_cvtepi32_epi16(_mm512_cvtps_epi32(x));
            _mm512_inserti64x4::<1>(_mm512_castsi256_si512(half(low)), half(high))
        }
    }

    #[inline(always)]
    fn prefetch(self, x: *const u8) {
        // SAFETY: a hint; it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.cast()) }
    }

    #[inline(always)]
    fn prefetch_stream(self, far: *const u8, near: *const u8) {
        self.fetch_stream(far, near);
    }

    /// As in the AVX2 tier; the scales by `dpwssd`.
    #[inline(always)]
    fn dot_codes(self, q: &[i8], scale: &[i16], a: &[i8]) -> i32 {
        let (q, a) = (q.as_chunks::<32>().0, a.as_chunks::<32>().0);
        let scale = scale.as_chunks::<2>().0;
        // SAFETY: `self` proves the features; each load reads 32 bytes of an
        // array of 32.
        unsafe {
            let mut sum = _mm256_setzero_si256();
            for ((q, a), scale) in q.iter().zip(a).zip(scale) {
                let q = _mm256_loadu_si256(q.as_ptr().cast());
                let a = _mm256_loadu_si256(a.as_ptr().cast());
                let pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(q), _mm256_sign_epi8(a, q));
                let scale = _mm256_set_m128i(_mm_set1_epi16(scale[1]), _mm_set1_epi16(scale[0]));
                sum = _mm256_dpwssd_epi32(sum, pairs, scale);
            }
            let four =
                _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }

    #[inline(always)]
    fn multiply_chains(self, rounds: usize) -> u64 {
        // SAFETY: `self` proves the features.
        unsafe {
            match Tiles::configure(self) {
                Some(tiles) => tiles::multiply_chains(&tiles, rounds),
                None => super::peak::avx512(rounds),
            }
        }
    }
}
