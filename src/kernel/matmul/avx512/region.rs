//! Kernels compiled for the tier.

use crate::simd::avx512::Avx512;

/// A kernel, to be compiled for the tier by [`run`].
pub(in crate::kernel::matmul) trait Kernel {
    fn run(self, simd: Avx512);
}

/// Runs `kernel` in a function of its own, compiled for the tier.
pub(in crate::kernel::matmul) fn run(simd: Avx512, kernel: impl Kernel) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
    #[inline(never)]
    fn region(simd: Avx512, kernel: impl Kernel) {
        kernel.run(simd);
    }
    // SAFETY: `simd` proves that the CPU has the features.
    unsafe { region(simd, kernel) }
}
