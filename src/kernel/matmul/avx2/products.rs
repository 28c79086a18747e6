//! The instructions that multiply codes, with and without AVX-VNNI.

use std::arch::x86_64::*;

use crate::simd::avx2::{Avx2, Ops};

/// Proof that the CPU has the instructions that multiply codes: those of AVX2, and with
/// `VNNI` also AVX-VNNI.
#[derive(Clone, Copy)]
pub(super) struct Products<const VNNI: bool> {
    pub ops: Ops,
}

impl Products<false> {
    pub fn plain(simd: Avx2) -> Self {
        Products { ops: simd.ops() }
    }
}

impl Products<true> {
    pub fn vnni(simd: Avx2) -> Option<Self> {
        simd.has_vnni().then(|| Products { ops: simd.ops() })
    }
}

impl<const VNNI: bool> Products<VNNI> {
    /// Runs `kernel` in a function of its own, compiled for the tier.
    pub fn call<K: Kernel>(self, kernel: K) -> K::Output {
        #[target_feature(enable = "avx2,fma,f16c")]
        #[inline(never)]
        fn plain<const VNNI: bool, K: Kernel>(simd: Products<VNNI>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        #[target_feature(enable = "avx2,fma,f16c,avxvnni")]
        #[inline(never)]
        fn vnni<const VNNI: bool, K: Kernel>(simd: Products<VNNI>, kernel: K) -> K::Output {
            kernel.run(simd)
        }
        // SAFETY: `self` proves that the CPU has the features; only `vnni` makes one with VNNI.
        unsafe { if VNNI { vnni(self, kernel) } else { plain(self, kernel) } }
    }

    /// `sum` + four products of unsigned with signed bytes in each lane.
    /// Without VNNI pairs of products must fit i16.
    #[inline(always)]
    pub fn dot4(self, sum: __m256i, unsigned: __m256i, signed: __m256i) -> __m256i {
        if VNNI {
            // SAFETY: `self` proves AVX-VNNI.
            unsafe { _mm256_dpbusd_avx_epi32(sum, unsigned, signed) }
        } else {
            let pairs = self.ops.maddubs(unsigned, signed);
            self.ops.add32(sum, self.ops.madd(pairs, self.ops.splat16(1)))
        }
    }
}

/// Code of this tier only, compiled for its instructions as a
/// [`Task`](crate::simd::Task) is.
pub(super) trait Kernel {
    type Output;
    fn run<const VNNI: bool>(self, simd: Products<VNNI>) -> Self::Output;
}
