//! Normalizations of rows. RMS: `out = x / √(mean(x²) + ε) · weight` (Zhang & Sennrich 2019).

use super::math::{dot, padded};
use crate::simd::{Simd, Task};

/// Normalizes one row.
pub(crate) struct RmsNorm<'a> {
    /// `[cols]`
    pub x: &'a [f32],
    /// `[cols]`
    pub weight: &'a [f32],
    pub epsilon: f32,
    /// `[cols]`
    pub out: &'a mut [f32],
}

impl Task for RmsNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let scale = scale(simd, self.x, self.epsilon);
        for ((out, &x), &weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = x * scale * weight;
        }
    }
}

/// Layer normalization of one row (Ba et al. 2016):
/// `out = (x − mean) / √(variance + ε) · weight + bias`.
pub(crate) struct LayerNorm<'a> {
    /// `[cols]`
    pub x: &'a [f32],
    /// `[cols]`
    pub weight: &'a [f32],
    /// `[cols]`, or none.
    pub bias: Option<&'a [f32]>,
    pub epsilon: f32,
    /// `[cols]`
    pub out: &'a mut [f32],
}

impl Task for LayerNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let LayerNorm { x, weight, bias, epsilon, out } = self;
        let count = x.len() as f32;
        let mut lanes = simd.splat(0.0);
        let (x16, tail) = x.as_chunks::<16>();
        for x in x16 {
            lanes = simd.add(lanes, simd.load(x));
        }
        lanes = simd.add(lanes, simd.load(&padded(tail)));
        let mean = simd.sum(lanes) / count;
        for (out, &x) in out.iter_mut().zip(x) {
            *out = x - mean;
        }
        let variance = dot(simd, out, out) / count;
        let scale = 1.0 / (variance + epsilon).sqrt();
        for (out, &weight) in out.iter_mut().zip(weight) {
            *out = *out * scale * weight;
        }
        if let Some(bias) = bias {
            for (out, &bias) in out.iter_mut().zip(bias) {
                *out += bias;
            }
        }
    }
}

/// Normalizes a row in place.
pub(crate) struct RmsNormInPlace<'a> {
    /// `[cols]`
    pub x: &'a mut [f32],
    /// `[cols]`
    pub weight: &'a [f32],
    pub epsilon: f32,
}

impl Task for RmsNormInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        rms_norm(simd, self.x, self.weight, self.epsilon);
    }
}

/// Normalizes `x` in place.
#[inline(always)]
pub(crate) fn rms_norm<S: Simd>(simd: S, x: &mut [f32], weight: &[f32], epsilon: f32) {
    let scale = scale(simd, x, epsilon);
    for (x, &weight) in x.iter_mut().zip(weight) {
        *x = *x * scale * weight;
    }
}

/// `1 / √(mean(x²) + ε)`
#[inline(always)]
fn scale<S: Simd>(simd: S, x: &[f32], epsilon: f32) -> f32 {
    let mean = dot(simd, x, x) / x.len() as f32;
    1.0 / (mean + epsilon).sqrt()
}
