//! The gate of a feed-forward network: `gate ← activation(gate) · up`.

use super::math::{exp, padded};
use crate::simd::{Simd, Task};

/// What a network's gate is passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `silu(x) = x / (1 + e⁻ˣ)`
    Silu,
}

/// Gates values in place.
pub(crate) struct Gate<'a> {
    pub activation: Activation,
    /// Overwritten with the result.
    pub gate: &'a mut [f32],
    /// As many.
    pub up: &'a [f32],
}

impl Task for Gate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Gate { activation: Activation::Silu, gate, up } = self;
        // Loops, not closures: those are not always inlined into the tier's region.
        let (gate16, gate_tail) = gate.as_chunks_mut::<16>();
        let (up16, up_tail) = up.as_chunks::<16>();
        for (gate, up) in gate16.iter_mut().zip(up16) {
            simd.store(silu_mul(simd, simd.load(gate), simd.load(up)), gate);
        }
        if !gate_tail.is_empty() {
            let (mut gate, up) = (padded(gate_tail), padded(up_tail));
            simd.store(silu_mul(simd, simd.load(&gate), simd.load(&up)), &mut gate);
            gate_tail.copy_from_slice(&gate[..gate_tail.len()]);
        }
    }
}

#[inline(always)]
fn silu_mul<S: Simd>(simd: S, gate: S::F32x16, up: S::F32x16) -> S::F32x16 {
    let e = exp(simd, simd.mul(gate, simd.splat(-1.0)));
    simd.mul(simd.div(gate, simd.add(simd.splat(1.0), e)), up)
}
