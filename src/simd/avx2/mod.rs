//! AVX2 with FMA and F16C: x86-64 since 2013 (Haswell, Excavator). With AVX-VNNI
//! (Alder Lake, Zen 5) the tier above it: the same code, but panels are multiplied with
//! one instruction more.
//!
//! Here is the vocabulary: every method is one to three instructions,
//! `#[inline(always)]` into [`Avx2::enter`], the one place compiled for the tier.
//! The kernels of quantized products are in `kernel/matmul/avx2`.

mod ops;

use std::arch::x86_64::*;

use super::{Simd, Task};
pub(crate) use ops::{Ops, Vector};

/// Proof that the CPU has AVX2, FMA and F16C: only [`Avx2::new`] and [`Avx2::with_vnni`]
/// make one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Avx2 {
    ops: Ops,
    /// Whether panels are multiplied with AVX-VNNI, which the CPU has then.
    vnni: bool,
}

impl Avx2 {
    pub fn new() -> Option<Self> {
        Ops::detect().map(|ops| Avx2 { ops, vnni: false })
    }

    pub fn with_vnni() -> Option<Self> {
        let ops = Ops::detect()?;
        is_x86_feature_detected!("avxvnni").then_some(Avx2 { ops, vnni: true })
    }

    pub fn has_vnni(self) -> bool {
        self.vnni
    }

    /// Runs `task` in code compiled for AVX2.
    pub fn enter<T: Task>(self, task: T) -> T::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn region<T: Task>(simd: Avx2, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `self` proves that the CPU has the features.
        unsafe { region(self, task) }
    }

    /// The instructions of AVX2 one by one.
    pub fn ops(self) -> Ops {
        self.ops
    }
}

/// Lanes 0–7 and 8–15.
#[derive(Clone, Copy)]
pub(crate) struct F32x16(__m256, __m256);

impl F32x16 {
    #[inline(always)]
    fn zip(self, other: Self, f: impl Fn(__m256, __m256) -> __m256) -> Self {
        F32x16(f(self.0, other.0), f(self.1, other.1))
    }
}

/// Lanes 0–7 and 8–15.
#[derive(Clone, Copy)]
pub(crate) struct I32x16(__m256i, __m256i);

/// Lanes 0–15 and 16–31.
#[derive(Clone, Copy)]
pub(crate) struct I16x32(__m256i, __m256i);

impl Simd for Avx2 {
    type F32x16 = F32x16;
    type I32x16 = I32x16;
    type I16x32 = I16x32;
    const TILE: usize = 1;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        self.enter(task)
    }

    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> F32x16 {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: `self` proves the features; 32 bytes can be read from `x`.
        unsafe {
            F32x16(_mm256_cvtph_ps(_mm_loadu_si128(p)), _mm256_cvtph_ps(_mm_loadu_si128(p.add(1))))
        }
    }

    #[inline(always)]
    fn multiply_chains(self, rounds: usize) -> u64 {
        // SAFETY: `self` proves the features; `vnni` says that AVX-VNNI is there.
        unsafe { if self.vnni { super::peak::avxvnni(rounds) } else { super::peak::avx2(rounds) } }
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        // SAFETY: `self` proves the features.
        let x = unsafe { _mm256_set1_ps(x) };
        F32x16(x, x)
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> F32x16 {
        // SAFETY: `self` proves the features; 16 floats can be read from `x`.
        unsafe { F32x16(_mm256_loadu_ps(x.as_ptr()), _mm256_loadu_ps(x.as_ptr().add(8))) }
    }

    #[inline(always)]
    fn store(self, x: F32x16, out: &mut [f32; 16]) {
        // SAFETY: `self` proves the features; 16 floats can be written to `out`.
        unsafe {
            _mm256_storeu_ps(out.as_mut_ptr(), x.0);
            _mm256_storeu_ps(out.as_mut_ptr().add(8), x.1);
        }
    }

    #[inline(always)]
    fn add(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        a.zip(b, |a, b| unsafe { _mm256_add_ps(a, b) })
    }

    #[inline(always)]
    fn mul(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        a.zip(b, |a, b| unsafe { _mm256_mul_ps(a, b) })
    }

    #[inline(always)]
    fn fma(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        unsafe { F32x16(_mm256_fmadd_ps(a.0, b.0, c.0), _mm256_fmadd_ps(a.1, b.1, c.1)) }
    }

    #[inline(always)]
    fn div(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        a.zip(b, |a, b| unsafe { _mm256_div_ps(a, b) })
    }

    #[inline(always)]
    fn max(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        a.zip(b, |a, b| unsafe { _mm256_max_ps(a, b) })
    }

    #[inline(always)]
    fn min(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        a.zip(b, |a, b| unsafe { _mm256_min_ps(a, b) })
    }

    #[inline(always)]
    fn pow2(self, bits: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        let half = |x| unsafe {
            let n = _mm256_add_epi32(_mm256_castps_si256(x), _mm256_set1_epi32(127));
            _mm256_castsi256_ps(_mm256_slli_epi32::<23>(n))
        };
        F32x16(half(bits.0), half(bits.1))
    }

    #[inline(always)]
    fn sum(self, x: F32x16) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let eight = _mm256_add_ps(x.0, x.1);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn max_lane(self, x: F32x16) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let eight = _mm256_max_ps(x.0, x.1);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps::<1>(eight));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    fn swap_pairs(self, x: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        let half = |x| unsafe { _mm256_permute_ps::<0b10_11_00_01>(x) };
        F32x16(half(x.0), half(x.1))
    }

    #[inline(always)]
    fn zero_i32(self) -> I32x16 {
        // SAFETY: `self` proves the features.
        let zero = unsafe { _mm256_setzero_si256() };
        I32x16(zero, zero)
    }

    #[inline(always)]
    fn load_i16(self, x: &[i16; 32]) -> I16x32 {
        let p = x.as_ptr().cast::<__m256i>();
        // SAFETY: `self` proves the features; 64 bytes can be read from `x`.
        unsafe { I16x32(_mm256_loadu_si256(p), _mm256_loadu_si256(p.add(1))) }
    }

    #[inline(always)]
    fn store_i16(self, x: I16x32, out: &mut [i16; 32]) {
        let p = out.as_mut_ptr().cast::<__m256i>();
        // SAFETY: `self` proves the features; 64 bytes can be written to `out`.
        unsafe {
            _mm256_storeu_si256(p, x.0);
            _mm256_storeu_si256(p.add(1), x.1);
        }
    }

    #[inline(always)]
    fn load_i8_high(self, x: &[i8; 32]) -> I16x32 {
        let p = x.as_ptr().cast::<__m128i>();
        // SAFETY: `self` proves the features; 32 bytes can be read from `x`.
        unsafe {
            let high = |x| _mm256_slli_epi16::<8>(_mm256_cvtepi8_epi16(x));
            I16x32(high(_mm_loadu_si128(p)), high(_mm_loadu_si128(p.add(1))))
        }
    }

    #[inline(always)]
    fn put_signs(self, magnitudes: [u64; 4], signs: u32, out: &mut [u8; 32]) {
        // Byte k gets byte k / 8 of the signs, of which bit k % 8 is compared.
        const BYTE: i64 = 0x0101_0101_0101_0101;
        let [a, b, c, d] = magnitudes;
        // SAFETY: `self` proves the features; 32 bytes can be written to `out`.
        unsafe {
            let bytes = _mm256_set_epi64x(3 * BYTE, 2 * BYTE, BYTE, 0);
            let bits = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64.cast_signed());
            let signs = _mm256_shuffle_epi8(_mm256_set1_epi32(signs.cast_signed()), bytes);
            let negative = _mm256_cmpeq_epi8(_mm256_and_si256(signs, bits), bits);
            // x ^ 255 − 127 = 128 − x
            let x = _mm256_xor_si256(
                _mm256_set_epi64x(d as i64, c as i64, b as i64, a as i64),
                negative,
            );
            let x = _mm256_sub_epi8(x, _mm256_and_si256(negative, _mm256_set1_epi8(127)));
            _mm256_storeu_si256(out.as_mut_ptr().cast(), x);
        }
    }

    #[inline(always)]
    fn splat_pair(self, pair: &[i16; 2]) -> I16x32 {
        // SAFETY: `self` proves the features; 4 bytes can be read from `pair`.
        let x = unsafe { _mm256_set1_epi32(pair.as_ptr().cast::<i32>().read_unaligned()) };
        I16x32(x, x)
    }

    #[inline(always)]
    fn dot_pairs(self, acc: I32x16, a: I16x32, b: I16x32) -> I32x16 {
        // SAFETY: `self` proves the features.
        let half = |acc, a, b| unsafe { _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)) };
        I32x16(half(acc.0, a.0, b.0), half(acc.1, a.1, b.1))
    }

    #[inline(always)]
    fn mul_q15(self, a: I16x32, b: I16x32) -> I16x32 {
        // SAFETY: `self` proves the features.
        unsafe { I16x32(_mm256_mulhrs_epi16(a.0, b.0), _mm256_mulhrs_epi16(a.1, b.1)) }
    }

    #[inline(always)]
    fn to_f32(self, x: I32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        unsafe { F32x16(_mm256_cvtepi32_ps(x.0), _mm256_cvtepi32_ps(x.1)) }
    }

    /// `packs` works in each 128-bit half: the permutation puts the quarters in order.
    #[inline(always)]
    fn round_i16(self, low: F32x16, high: F32x16) -> I16x32 {
        // SAFETY: `self` proves the features.
        let pack = |x: F32x16| unsafe {
            let packed = _mm256_packs_epi32(_mm256_cvtps_epi32(x.0), _mm256_cvtps_epi32(x.1));
            _mm256_permute4x64_epi64::<0b11_01_10_00>(packed)
        };
        I16x32(pack(low), pack(high))
    }

    #[inline(always)]
    fn prefetch(self, x: *const u8) {
        // SAFETY: a hint; it reads nothing.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(x.cast()) }
    }

    /// `maddubs` multiplies unsigned by signed bytes: |q| by a with q's sign,
    /// in i16 pairs that cannot saturate (2 · 128 · 127). `madd` by the scale
    /// then adds pairs of pairs in i32: the scale costs nothing.
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
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(pairs, scale));
            }
            let four =
                _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256::<1>(sum));
            let two = _mm_add_epi32(four, _mm_unpackhi_epi64(four, four));
            _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32::<1>(two)))
        }
    }
}
