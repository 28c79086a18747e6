//! Which tier multiplies, and what.

use super::rewrite::WideRows;
use super::row_panel::{Packed, QuantMatmul, RowPanel, Scratch};
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

/// [`QuantMatmul::multiply`] of any quantized format with blocks of 32 or 256.
pub(crate) fn multiply(
    isa: &Isa,
    weights: &RowPanel<'_>,
    packed: &Packed,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    if !weights.format.is_rewritten() {
        of(isa).multiply(weights, packed, scratch, out);
        return;
    }
    let mut wide = std::mem::take(scratch.of::<WideRows>());
    of(isa).multiply(&wide.rewrite(*isa, weights), packed, scratch, out);
    *scratch.of() = wide;
}
