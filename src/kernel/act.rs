//! Activations of feed-forward networks, and gates: `gate ← activation(gate) · up`.

use super::math::{exp, map, padded, sigmoid};
use crate::simd::{Simd, Task};

/// What a network's inner values are passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `silu(x) = x / (1 + e⁻ˣ)`
    Silu,
    /// `gelu(x) ≈ x / (1 + e⁻²ᵘ)`, `u = √(2/π) · (x + 0.044715 · x³)` (Hendrycks & Gimpel 2016)
    GeluTanh,
    /// `max(x, 0)²` (So et al. 2021)
    ReluSquared,
}

impl Activation {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32x16) -> S::F32x16 {
        let minus_e = match self {
            Activation::Silu => simd.mul(x, simd.splat(-1.0)),
            Activation::GeluTanh => {
                // −2 · √(2/π), and the same times 0.044715
                let cubic =
                    simd.fma(simd.mul(x, x), simd.splat(-0.071_354_814), simd.splat(-1.595_769));
                simd.mul(cubic, x)
            }
            Activation::ReluSquared => {
                // In this order a NaN stays one.
                let positive = simd.max(simd.splat(0.0), x);
                return simd.mul(positive, positive);
            }
        };
        simd.div(x, simd.add(simd.splat(1.0), exp(simd, minus_e)))
    }
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
        let Gate { activation, gate, up } = self;
        // Loops, not closures: those are not always inlined into the tier's region.
        let (gate16, gate_tail) = gate.as_chunks_mut::<16>();
        let (up16, up_tail) = up.as_chunks::<16>();
        for (gate, up) in gate16.iter_mut().zip(up16) {
            let active = activation.of(simd, simd.load(gate));
            simd.store(simd.mul(active, simd.load(up)), gate);
        }
        if !gate_tail.is_empty() {
            let (mut gate, up) = (padded(gate_tail), padded(up_tail));
            let active = activation.of(simd, simd.load(&gate));
            simd.store(simd.mul(active, simd.load(&up)), &mut gate);
            gate_tail.copy_from_slice(&gate[..gate_tail.len()]);
        }
    }
}

/// `out[i] ← out[i] · sigmoid(x[i])`, as many of both.
#[inline(always)]
pub(crate) fn multiply_by_sigmoid<S: Simd>(simd: S, x: &[f32], out: &mut [f32]) {
    let (x16, x_tail) = x.as_chunks::<16>();
    let (out16, out_tail) = out.as_chunks_mut::<16>();
    for (out, x) in out16.iter_mut().zip(x16) {
        simd.store(simd.mul(simd.load(out), sigmoid(simd, simd.load(x))), out);
    }
    if !out_tail.is_empty() {
        let (mut out, x) = (padded(out_tail), padded(x_tail));
        simd.store(simd.mul(simd.load(&out), sigmoid(simd, simd.load(&x))), &mut out);
        out_tail.copy_from_slice(&out[..out_tail.len()]);
    }
}

/// Passes values through an activation, in place.
pub(crate) struct Activate<'a> {
    pub activation: Activation,
    pub values: &'a mut [f32],
}

impl Task for Activate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        map(simd, self.values, |x| self.activation.of(simd, x));
    }
}
