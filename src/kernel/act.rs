//! The feed-forward gate: `gate ← silu(gate) · up`, `silu(x) = x / (1 + e⁻ˣ)`.

use super::math::exp;
use crate::simd::{Simd, Task};

/// Gates one row in place.
pub(crate) struct SiluMul<'a> {
    /// `[ffn]`, overwritten with the result.
    pub gate: &'a mut [f32],
    /// `[ffn]`
    pub up: &'a [f32],
}

impl Task for SiluMul<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let one = simd.splat(1.0);
        super::math::map(simd, self.gate, |x| {
            let e = exp(simd, simd.mul(x, simd.splat(-1.0)));
            simd.div(x, simd.add(one, e))
        });
        for (gate, &up) in self.gate.iter_mut().zip(self.up) {
            *gate *= up;
        }
    }
}
