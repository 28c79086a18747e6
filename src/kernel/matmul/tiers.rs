//! Which tier multiplies.

use super::row_panel::QuantMatmul;
use crate::simd::{Isa, Tier};

/// The products of `isa`.
pub(crate) fn of(isa: &Isa) -> &dyn QuantMatmul {
    match isa.tier() {
        Tier::Portable(simd) => simd,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx2(simd) => simd,
        #[cfg(target_arch = "x86_64")]
        Tier::Avx512(simd) => simd,
        #[cfg(target_arch = "x86_64")]
        Tier::Amx(simd) => simd,
        #[cfg(target_arch = "aarch64")]
        Tier::Neon(simd) => simd,
        #[cfg(target_arch = "aarch64")]
        Tier::NeonDotProd(simd) => simd,
        #[cfg(target_arch = "aarch64")]
        Tier::NeonI8mm(simd) => simd,
    }
}
