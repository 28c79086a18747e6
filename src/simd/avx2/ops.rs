//! The instructions that the kernels are written in, as safe methods of the
//! proof that the CPU has them. Everything else in this folder but the
//! vocabulary in `mod.rs` is safe code.
//!
//! Names are those of the instructions without prefix and register width.

use std::arch::x86_64::*;

/// Proof that the CPU has AVX2, FMA and F16C: only [`Ops::detect`] makes one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ops {
    _checked: (),
}

/// 32 bytes in memory, aligned as a register.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(32))]
pub(crate) struct Vector(pub [u8; 32]);

impl Vector {
    pub const ZERO: Vector = Vector([0; 32]);
}

macro_rules! operations {
    ($($(#[$doc:meta])* $name:ident$(<const $N:ident>)?($($arg:ident: $In:ty),*) -> $Out:ty = $intrinsic:ident;)*) => {
        $($(#[$doc])*
        #[inline(always)]
        pub fn $name$(<const $N: i32>)?(self, $($arg: $In),*) -> $Out {
            // SAFETY: `self` proves the features; the operation has no other condition.
            unsafe { $intrinsic$(::<$N>)?($($arg),*) }
        })*
    };
}

impl Ops {
    pub fn detect() -> Option<Self> {
        let has = is_x86_feature_detected!("avx2")
            && is_x86_feature_detected!("fma")
            && is_x86_feature_detected!("f16c");
        has.then_some(Ops { _checked: () })
    }

    operations! {
        zero() -> __m256i = _mm256_setzero_si256;
        splat8(x: i8) -> __m256i = _mm256_set1_epi8;
        splat16(x: i16) -> __m256i = _mm256_set1_epi16;
        splat32(x: i32) -> __m256i = _mm256_set1_epi32;
        add16(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi16;
        add32(a: __m256i, b: __m256i) -> __m256i = _mm256_add_epi32;
        sub16(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi16;
        sub32(a: __m256i, b: __m256i) -> __m256i = _mm256_sub_epi32;
        max32(a: __m256i, b: __m256i) -> __m256i = _mm256_max_epi32;
        min32(a: __m256i, b: __m256i) -> __m256i = _mm256_min_epi32;
        mullo16(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi16;
        mullo32(a: __m256i, b: __m256i) -> __m256i = _mm256_mullo_epi32;
        and(a: __m256i, b: __m256i) -> __m256i = _mm256_and_si256;
        or(a: __m256i, b: __m256i) -> __m256i = _mm256_or_si256;
        xor(a: __m256i, b: __m256i) -> __m256i = _mm256_xor_si256;
        abs8(a: __m256i) -> __m256i = _mm256_abs_epi8;
        /// `a` with the sign of `b`, 0 where `b` is.
        sign8(a: __m256i, b: __m256i) -> __m256i = _mm256_sign_epi8;
        cmpeq8(a: __m256i, b: __m256i) -> __m256i = _mm256_cmpeq_epi8;
        /// Sums of two products, unsigned times signed bytes, in i16. Saturates.
        maddubs(unsigned: __m256i, signed: __m256i) -> __m256i = _mm256_maddubs_epi16;
        /// Sums of two products of i16, in i32.
        madd(a: __m256i, b: __m256i) -> __m256i = _mm256_madd_epi16;
        slli16<const N>(a: __m256i) -> __m256i = _mm256_slli_epi16;
        srli16<const N>(a: __m256i) -> __m256i = _mm256_srli_epi16;
        slli32<const N>(a: __m256i) -> __m256i = _mm256_slli_epi32;
        srli32<const N>(a: __m256i) -> __m256i = _mm256_srli_epi32;
        srai32<const N>(a: __m256i) -> __m256i = _mm256_srai_epi32;
        blend16<const N>(a: __m256i, b: __m256i) -> __m256i = _mm256_blend_epi16;
        blend32<const N>(a: __m256i, b: __m256i) -> __m256i = _mm256_blend_epi32;
        shuffle8(a: __m256i, control: __m256i) -> __m256i = _mm256_shuffle_epi8;
        unpacklo32(a: __m256i, b: __m256i) -> __m256i = _mm256_unpacklo_epi32;
        unpackhi32(a: __m256i, b: __m256i) -> __m256i = _mm256_unpackhi_epi32;
        unpacklo64(a: __m256i, b: __m256i) -> __m256i = _mm256_unpacklo_epi64;
        unpackhi64(a: __m256i, b: __m256i) -> __m256i = _mm256_unpackhi_epi64;
        permute128<const N>(a: __m256i, b: __m256i) -> __m256i = _mm256_permute2x128_si256;
        join(high: __m128i, low: __m128i) -> __m256i = _mm256_set_m128i;
        widen_i8(a: __m128i) -> __m256i = _mm256_cvtepi8_epi16;
        widen_u8(a: __m128i) -> __m256i = _mm256_cvtepu8_epi16;
        widen_u16(a: __m128i) -> __m256i = _mm256_cvtepu16_epi32;
        duplicate8(a: __m128i, b: __m128i) -> __m128i = _mm_unpacklo_epi8;
        join64(low: __m128i, high: __m128i) -> __m128i = _mm_unpacklo_epi64;
        low64(x: i64) -> __m128i = _mm_cvtsi64_si128;
        as_floats(a: __m256i) -> __m256 = _mm256_castsi256_ps;
        as_integers(a: __m256) -> __m256i = _mm256_castps_si256;
        to_f32(a: __m256i) -> __m256 = _mm256_cvtepi32_ps;
        halves_to_f32(a: __m128i) -> __m256 = _mm256_cvtph_ps;
        splat_f32(x: f32) -> __m256 = _mm256_set1_ps;
        mul(a: __m256, b: __m256) -> __m256 = _mm256_mul_ps;
        /// `a · b + c`, rounded once.
        fma(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmadd_ps;
        /// `a · b − c`, rounded once.
        fms(a: __m256, b: __m256, c: __m256) -> __m256 = _mm256_fmsub_ps;
    }

    #[inline(always)]
    pub fn load(self, from: &[u8; 32]) -> __m256i {
        // SAFETY: `self` proves the features; 32 bytes can be read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    pub fn load_codes(self, from: &[i8; 32]) -> __m256i {
        // SAFETY: `self` proves the features; 32 bytes can be read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    pub fn load_i16(self, from: &[i16; 16]) -> __m256i {
        // SAFETY: `self` proves the features; 32 bytes can be read.
        unsafe { _mm256_loadu_si256(from.as_ptr().cast()) }
    }

    #[inline(always)]
    pub fn load_vector(self, from: &Vector) -> __m256i {
        // SAFETY: `self` proves the features; a vector is 32 bytes, aligned to 32.
        unsafe { _mm256_load_si256(from.0.as_ptr().cast()) }
    }

    #[inline(always)]
    pub fn store_vector(self, x: __m256i, to: &mut Vector) {
        // SAFETY: `self` proves the features; a vector is 32 bytes, aligned to 32.
        unsafe { _mm256_store_si256(to.0.as_mut_ptr().cast(), x) }
    }

    #[inline(always)]
    pub fn store_f32(self, x: __m256, to: &mut [f32; 8]) {
        // SAFETY: `self` proves the features; 8 floats can be written.
        unsafe { _mm256_storeu_ps(to.as_mut_ptr(), x) }
    }

    #[inline(always)]
    pub fn load_half(self, from: &[u8; 16]) -> __m128i {
        // SAFETY: `self` proves the features; 16 bytes can be read.
        unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
    }

    #[inline(always)]
    pub fn load_u16(self, from: &[u16; 8]) -> __m128i {
        // SAFETY: `self` proves the features; 16 bytes can be read.
        unsafe { _mm_loadu_si128(from.as_ptr().cast()) }
    }

    /// Brings the cache line at `at` near; any address will do.
    #[inline(always)]
    pub fn prefetch(self, at: *const u8) {
        // SAFETY: a prefetch never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
