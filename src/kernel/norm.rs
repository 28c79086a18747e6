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
        let mean = dot(simd, self.x, self.x) / self.x.len() as f32;
        let scale = 1.0 / (mean + self.epsilon).sqrt();
        for ((out, &x), &weight) in self.out.iter_mut().zip(self.x).zip(self.weight) {
            *out = x * scale * weight;
        }
    }
}
