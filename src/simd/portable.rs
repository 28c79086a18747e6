//! Any CPU: plain Rust and `wide`, which picks its instructions when the crate
//! is compiled (SSE2 on x86-64, NEON on aarch64).

use wide::{f32x16, i8x16, i16x16};

use super::{Simd, Task};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Portable;

impl Simd for Portable {
    type F32x16 = f32x16;
    type I32x16 = [i32; 16];
    type I16x32 = [i16; 32];
    const TILE: usize = 1;

    #[inline(never)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        task.run(self)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> f32x16 {
        f32x16::splat(x)
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> f32x16 {
        f32x16::new(*x)
    }

    #[inline(always)]
    fn store(self, x: f32x16, out: &mut [f32; 16]) {
        *out = x.to_array();
    }

    #[inline(always)]
    fn add(self, a: f32x16, b: f32x16) -> f32x16 {
        a + b
    }

    #[inline(always)]
    fn mul(self, a: f32x16, b: f32x16) -> f32x16 {
        a * b
    }

    #[inline(always)]
    fn fma(self, a: f32x16, b: f32x16, c: f32x16) -> f32x16 {
        // Not `wide`'s `mul_add`: without hardware it rounds twice.
        f32x16::new(fma16(&a.to_array(), &b.to_array(), &c.to_array()))
    }

    #[inline(always)]
    fn div(self, a: f32x16, b: f32x16) -> f32x16 {
        a / b
    }

    #[inline(always)]
    fn max(self, a: f32x16, b: f32x16) -> f32x16 {
        let (a, b) = (a.to_array(), b.to_array());
        f32x16::new(std::array::from_fn(|i| if a[i] > b[i] { a[i] } else { b[i] }))
    }

    #[inline(always)]
    fn min(self, a: f32x16, b: f32x16) -> f32x16 {
        let (a, b) = (a.to_array(), b.to_array());
        f32x16::new(std::array::from_fn(|i| if a[i] < b[i] { a[i] } else { b[i] }))
    }

    #[inline(always)]
    fn pow2(self, bits: f32x16) -> f32x16 {
        let lanes = bits.to_array();
        f32x16::new(lanes.map(|x| f32::from_bits(x.to_bits().wrapping_add(127) << 23)))
    }

    #[inline(always)]
    fn sum(self, x: f32x16) -> f32 {
        let mut lanes = x.to_array();
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                lanes[i] += lanes[i + width];
            }
        }
        lanes[0]
    }

    #[inline(always)]
    fn max_lane(self, x: f32x16) -> f32 {
        let mut lanes = x.to_array();
        for width in [8, 4, 2, 1] {
            for i in 0..width {
                let (a, b) = (lanes[i], lanes[i + width]);
                lanes[i] = if a > b { a } else { b };
            }
        }
        lanes[0]
    }

    #[inline(always)]
    fn swap_pairs(self, x: f32x16) -> f32x16 {
        let lanes = x.to_array();
        f32x16::new(std::array::from_fn(|i| lanes[i ^ 1]))
    }

    #[inline(always)]
    fn zero_i32(self) -> [i32; 16] {
        [0; 16]
    }

    #[inline(always)]
    fn load_i16(self, x: &[i16; 32]) -> [i16; 32] {
        *x
    }

    #[inline(always)]
    fn store_i16(self, x: [i16; 32], out: &mut [i16; 32]) {
        *out = x;
    }

    #[inline(always)]
    fn load_i8_high(self, x: &[i8; 32]) -> [i16; 32] {
        x.map(|x| i16::from(x) << 8)
    }

    #[inline(always)]
    fn splat_pair(self, pair: &[i16; 2]) -> [i16; 32] {
        std::array::from_fn(|i| pair[i % 2])
    }

    #[inline(always)]
    fn dot_pairs(self, acc: [i32; 16], a: [i16; 32], b: [i16; 32]) -> [i32; 16] {
        let product = |i: usize| i32::from(a[i]) * i32::from(b[i]);
        std::array::from_fn(|i| acc[i].wrapping_add(product(2 * i) + product(2 * i + 1)))
    }

    #[inline(always)]
    fn mul_q15(self, a: [i16; 32], b: [i16; 32]) -> [i16; 32] {
        std::array::from_fn(|i| ((i32::from(a[i]) * i32::from(b[i]) + (1 << 14)) >> 15) as i16)
    }

    #[inline(always)]
    fn to_f32(self, x: [i32; 16]) -> f32x16 {
        f32x16::new(x.map(|x| x as f32))
    }

    /// 1.5 · 2²³ + x has the integer in its low bits, for |x| < 2²².
    #[inline(always)]
    fn round_i16(self, low: f32x16, high: f32x16) -> [i16; 32] {
        let magic = f32x16::splat(12_582_912.0);
        let (low, high) = ((low + magic).to_array(), (high + magic).to_array());
        std::array::from_fn(|i| (if i < 16 { low[i] } else { high[i - 16] }).to_bits() as i16)
    }

    #[inline(always)]
    fn dot_codes(self, q: &[i8], scale: &[i16], a: &[i8]) -> i32 {
        let (q, a) = (q.as_chunks::<16>().0, a.as_chunks::<16>().0);
        let mut sum = 0;
        for ((q, a), &scale) in q.iter().zip(a).zip(scale) {
            let q = i16x16::from_i8x16(i8x16::new(*q));
            let a = i16x16::from_i8x16(i8x16::new(*a));
            sum += q.dot(a).reduce_add() * i32::from(scale);
        }
        sum
    }
}

/// `a · b + c` in 16 lanes, each rounded once.
#[cfg(any(target_feature = "fma", target_arch = "aarch64"))]
#[inline(always)]
fn fma16(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16]) -> [f32; 16] {
    std::array::from_fn(|i| a[i].mul_add(b[i], c[i]))
}

/// `a · b + c` in 16 lanes, each rounded once, without hardware for it.
///
/// The product of two f32 is exact in f64. Rounding its sum with `c` to f64 and then to f32
/// differs from rounding once only where the f64 sum lies exactly halfway between two f32:
/// its low 29 bits are 1 and 28 zeros, or the result is subnormal. Those lanes are rare and
/// computed again by [`fma`].
///
/// One function, not inlined: the emulation in every kernel was a tenth of the crate's code.
#[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
#[inline(never)]
fn fma16(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16]) -> [f32; 16] {
    const HALFWAY: u32 = 1 << 28;
    /// The high half of the smallest normal f32 as f64.
    const NORMAL: i32 = (1023 - 126) << 20;
    let mut out = [0.0; 16];
    let mut unclear = 0;
    for i in 0..16 {
        let sum = f64::from(a[i]) * f64::from(b[i]) + f64::from(c[i]);
        let bits = sum.to_bits();
        let halfway = (bits as u32) & (2 * HALFWAY - 1) == HALFWAY;
        let size = (bits >> 32) as i32 & i32::MAX;
        unclear |= i32::from(halfway) | i32::from(size > 0) & i32::from(size < NORMAL);
        out[i] = sum as f32;
    }
    if unclear != 0 {
        return rounded_once(a, b, c);
    }
    out
}

#[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
#[cold]
#[inline(never)]
fn rounded_once(a: &[f32; 16], b: &[f32; 16], c: &[f32; 16]) -> [f32; 16] {
    std::array::from_fn(|i| fma(a[i], b[i], c[i]))
}

/// `a · b + c`, rounded once, for any operands.
///
/// The product of two f32 is exact in f64. The sum with `c` is rounded to odd
/// in f64, which makes the final rounding to f32 correct because 53 ≥ 2·24 + 2
/// (S. Boldo, G. Melquiond, "Emulation of a FMA and correctly rounded sums",
/// 2008). The rounding error comes from Knuth's TwoSum.
#[cfg(not(any(target_feature = "fma", target_arch = "aarch64")))]
fn fma(a: f32, b: f32, c: f32) -> f32 {
    let product = f64::from(a) * f64::from(b);
    let c = f64::from(c);
    let sum = product + c;
    let part = sum - product;
    let error = (product - (sum - part)) + (c - part);
    let bits = sum.to_bits();
    let inexact_even = (error != 0.0) & (bits & 1 == 0) & sum.is_finite();
    let away = (error > 0.0) == (sum > 0.0);
    let step = if away { 1 } else { u64::MAX };
    let odd = if inexact_even { bits.wrapping_add(step) } else { bits };
    f64::from_bits(odd) as f32
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::fma16;

    /// Lane 0 of three vectors whose other lanes are harmless.
    fn fma(a: f32, b: f32, c: f32) -> f32 {
        let lanes = |x: f32| {
            let mut lanes = [1.0; 16];
            lanes[0] = x;
            lanes
        };
        fma16(&lanes(a), &lanes(b), &lanes(c))[0]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200_000))]
        /// Every pattern, so also subnormals, infinities and NaN.
        #[test]
        fn emulated_fma_rounds_once(a in any::<u32>(), b in any::<u32>(), c in any::<u32>()) {
            let (a, b, c) = (f32::from_bits(a), f32::from_bits(b), f32::from_bits(c));
            let (ours, exact) = (fma(a, b, c), a.mul_add(b, c));
            prop_assert!(ours.to_bits() == exact.to_bits() || (ours.is_nan() && exact.is_nan()));
        }

        /// Sums around the midpoint of two numbers and around the smallest normal one.
        #[test]
        fn emulated_fma_rounds_once_at_midpoints(
            a in 1u32..1 << 24, b in 1u32..1 << 24, c in 0u32..1 << 24, scale in -170i32..-100,
            shift in -60i32..60, negative in any::<bool>(),
        ) {
            let a = a as f32;
            let b = b as f32 * f32::powi(2.0, scale);
            let c = c as f32 * f32::powi(2.0, (scale + shift).max(-149));
            let c = if negative { -c } else { c };
            prop_assert_eq!(fma(a, b, c).to_bits(), a.mul_add(b, c).to_bits());
        }

        /// Operands whose product and addend nearly cancel or nearly tie.
        #[test]
        fn emulated_fma_rounds_once_near_ties(a in 1.0f32..2.0, b in 1.0f32..2.0, e in -30i32..30, m in any::<u32>()) {
            let c = -(a * b) * f32::powi(2.0, e) + f32::from_bits(m & 0x007f_ffff | 0x3300_0000);
            prop_assert_eq!(fma(a, b, c).to_bits(), a.mul_add(b, c).to_bits());
        }
    }
}
