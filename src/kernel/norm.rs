//! RMS normalization: `out = x / √(mean(x²) + ε) · weight` (Zhang & Sennrich 2019).

use super::math::dot;
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
