//! Activations of feed-forward networks, and gates: `gate ← activation(gate) · up`.

use super::math::{exp, map, padded, sigmoid};
use crate::simd::{Simd, Task};

/// What a network's inner values are passed through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Activation {
    /// `silu(x) = x / (1 + e⁻ˣ)`
    Silu,
    /// `gelu(x) = x · Φ(x)` with the normal distribution's function Φ, to 10⁻⁷ of max(1, |x|)
    Gelu,
    /// `gelu(x) ≈ x / (1 + e⁻²ᵘ)`, `u = √(2/π) · (x + 0.044715 · x³)` (Hendrycks & Gimpel 2016)
    GeluTanh,
    /// `max(x, 0)²` (So et al. 2021)
    ReluSquared,
    /// Of gpt-oss, with a gate only: `g / (1 + e^(−1.702·g)) · (u + 1)`, `g = min(gate, 7)`,
    /// `u = up` held within ±7.
    ClampedSwiglu,
}

/// Limit of [`Activation::ClampedSwiglu`].
const LIMIT: f32 = 7.0;

impl Activation {
    #[inline(always)]
    fn of<S: Simd>(self, simd: S, x: S::F32x16) -> S::F32x16 {
        // `min` and `max` give their second operand for NaN.
        let x = match self {
            Activation::ClampedSwiglu => simd.min(simd.splat(LIMIT), x),
            _ => x,
        };
        let minus_e = match self {
            Activation::Gelu => return gelu(simd, x),
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
            Activation::ClampedSwiglu => simd.mul(x, simd.splat(-1.702)),
        };
        simd.div(x, simd.add(simd.splat(1.0), exp(simd, minus_e)))
    }

    /// The factor that `up` contributes.
    #[inline(always)]
    fn of_up<S: Simd>(self, simd: S, up: S::F32x16) -> S::F32x16 {
        match self {
            Activation::Silu
            | Activation::Gelu
            | Activation::GeluTanh
            | Activation::ReluSquared => up,
            Activation::ClampedSwiglu => {
                let low = simd.max(simd.splat(-LIMIT), up);
                simd.add(simd.min(simd.splat(LIMIT), low), simd.splat(1.0))
            }
        }
    }
}

/// `x · Φ(x)`: with z = |x| / √2, `erfc(z) = t · p(t) · e^(−z²)`, `t = 1 / (1 + 0.3275911 z)`
/// (Abramowitz & Stegun 7.1.26, error below 1.5 · 10⁻⁷), and
/// `x · Φ(x) = max(x, 0) − |x| · erfc(z) / 2`.
#[inline(always)]
fn gelu<S: Simd>(simd: S, x: S::F32x16) -> S::F32x16 {
    const COEFFICIENTS: [f32; 4] = [-1.453_152_1, 1.421_413_8, -0.284_496_72, 0.254_829_6];
    let size = simd.max(x, simd.mul(x, simd.splat(-1.0)));
    let z = simd.mul(size, simd.splat(std::f32::consts::FRAC_1_SQRT_2));
    let one = simd.splat(1.0);
    let t = simd.div(one, simd.fma(z, simd.splat(0.327_591_1), one));
    let mut p = simd.splat(1.061_405_4);
    for c in COEFFICIENTS {
        p = simd.fma(p, t, simd.splat(c));
    }
    let power = exp(simd, simd.mul(simd.mul(z, z), simd.splat(-1.0)));
    let half = simd.mul(simd.mul(simd.mul(p, t), power), simd.splat(-0.5));
    simd.fma(size, half, simd.max(x, simd.splat(0.0)))
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
            simd.store(simd.mul(active, activation.of_up(simd, simd.load(up))), gate);
        }
        if !gate_tail.is_empty() {
            let (mut gate, up) = (padded(gate_tail), padded(up_tail));
            let active = activation.of(simd, simd.load(&gate));
            let up = activation.of_up(simd, simd.load(&up));
            simd.store(simd.mul(active, up), &mut gate);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn a_clamped_gate_is_its_definition_on_every_set() {
        let values: Vec<f32> = (0..37).map(|i| (i as f32 - 18.0) * 0.7).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let (mut gate, up): (Vec<_>, Vec<_>) =
                (values.clone(), values.iter().map(|x| -x - 1.0).collect());
            let activation = Activation::ClampedSwiglu;
            isa.run(Gate { activation, gate: &mut gate, up: &up });
            for ((&x, &up), &out) in values.iter().zip(&up).zip(&gate) {
                let (gate, up) = (f64::from(x).min(7.0), f64::from(up).clamp(-7.0, 7.0));
                let exact = gate / (1.0 + (-1.702 * gate).exp()) * (up + 1.0);
                assert!((f64::from(out) - exact).abs() < 1e-5, "{isa}: {x} {up} {out}");
            }
            assert_eq!(*first.get_or_insert_with(|| gate.clone()), gate, "{isa}");
        }
        let mut gate = [f32::NAN, 1.0];
        Isa::detect().run(Gate {
            activation: Activation::ClampedSwiglu,
            gate: &mut gate,
            up: &[1.0, f32::NAN],
        });
        assert!(gate.iter().all(|x| x.is_nan()), "what is not a number stays so");
    }

    /// Φ by its series around 0, and by its continued fraction far from it.
    fn normal(x: f64) -> f64 {
        let density = (-x * x / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
        if x.abs() < 3.0 {
            let (mut term, mut sum) = (x, x);
            for n in 1..200 {
                term *= x * x / f64::from(2 * n + 1);
                sum += term;
            }
            return 0.5 + density * sum;
        }
        let fraction = (1..200).rev().fold(x.abs(), |f, n| x.abs() + f64::from(n) / f);
        if x > 0.0 { 1.0 - density / fraction } else { density / fraction }
    }

    #[test]
    fn gelu_is_close_and_the_same_on_every_set() {
        let x: Vec<f32> = (-20_000..=20_000).map(|i| i as f32 / 1000.0).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let mut values = x.clone();
            isa.run(Activate { activation: Activation::Gelu, values: &mut values });
            for (&x, &y) in x.iter().zip(&values) {
                let exact = f64::from(x) * normal(x.into());
                let bound = 1.5e-7 * f64::from(x.abs().max(1.0));
                assert!((f64::from(y) - exact).abs() < bound, "{isa}: gelu({x}) = {y}");
            }
            assert_eq!(*first.get_or_insert_with(|| values.clone()), values, "{isa}");
            let mut odd = [f32::NAN, 3e38, -3e38];
            isa.run(Activate { activation: Activation::Gelu, values: &mut odd });
            assert!(odd[0].is_nan() && odd[1] == 3e38 && odd[2].abs() < 1.0, "{isa}: {odd:?}");
        }
    }
}
