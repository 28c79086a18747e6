//! Building blocks over slices: dot product, scaled add, exp.

use crate::simd::Simd;

/// The first 16 or fewer values of `tail`, the rest 0.
#[inline(always)]
pub(super) fn padded<T: Copy + Default>(tail: &[T]) -> [T; 16] {
    let mut lanes = [T::default(); 16];
    for (lane, &x) in lanes.iter_mut().zip(tail) {
        *lane = x;
    }
    lanes
}

/// `Σ a[i] · b[i]`: lane l adds the products of i = l, l + 16, …; then the tree.
#[inline(always)]
pub(crate) fn dot<S: Simd>(simd: S, a: &[f32], b: &[f32]) -> f32 {
    let (a16, a_tail) = a.as_chunks::<16>();
    let (b16, b_tail) = b.as_chunks::<16>();
    let mut lanes = simd.splat(0.0);
    for (a, b) in a16.iter().zip(b16) {
        lanes = simd.fma(simd.load(a), simd.load(b), lanes);
    }
    if !a_tail.is_empty() {
        lanes = simd.fma(simd.load(&padded(a_tail)), simd.load(&padded(b_tail)), lanes);
    }
    simd.sum(lanes)
}

/// `acc[i] = p · x[i] + acc[i]`.
#[inline(always)]
pub(crate) fn add_scaled<S: Simd>(simd: S, p: f32, x: &[f32], acc: &mut [f32]) {
    let factor = simd.splat(p);
    let (x16, x_tail) = x.as_chunks::<16>();
    let (acc16, acc_tail) = acc.as_chunks_mut::<16>();
    for (x, acc) in x16.iter().zip(acc16) {
        let sum = simd.fma(factor, simd.load(x), simd.load(acc));
        simd.store(sum, acc);
    }
    if !x_tail.is_empty() {
        let mut sum = padded(acc_tail);
        let lanes = simd.fma(factor, simd.load(&padded(x_tail)), simd.load(&sum));
        simd.store(lanes, &mut sum);
        acc_tail.copy_from_slice(&sum[..acc_tail.len()]);
    }
}

/// `x[i] = f(x[i])`, 16 at a time; the padding of the tail is 0 on the way in.
#[inline(always)]
pub(crate) fn map<S: Simd>(simd: S, x: &mut [f32], f: impl Fn(S::F32x16) -> S::F32x16) {
    let (x16, tail) = x.as_chunks_mut::<16>();
    for x in x16 {
        simd.store(f(simd.load(x)), x);
    }
    if !tail.is_empty() {
        let mut lanes = padded(tail);
        simd.store(f(simd.load(&lanes)), &mut lanes);
        tail.copy_from_slice(&lanes[..tail.len()]);
    }
}

/// `e^x` to 2 units in the last place for −87 ≤ x ≤ 88; outside, the value at
/// the nearer end; NaN for NaN.
///
/// `x = n·ln 2 + r` with integer n, `|r| ≤ ln 2 / 2`; `e^r` by the polynomial of
/// S. Moshier's Cephes library (`expf`), `2^n` by its exponent bits. n comes
/// from adding 1.5·2²³, which leaves it in the low bits of the pattern.
#[inline(always)]
pub(crate) fn exp<S: Simd>(simd: S, x: S::F32x16) -> S::F32x16 {
    const TO_LOW_BITS: f32 = 12_582_912.0;
    const LN2_HIGH: f32 = 0.693_359_4;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    const COEFFICIENTS: [f32; 6] =
        [1.987_569_1e-4, 1.398_199_9e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 0.5];
    // `max` and `min` give their second operand for NaN.
    let x = simd.min(simd.splat(88.0), simd.max(simd.splat(-87.0), x));
    let shifted = simd.fma(x, simd.splat(std::f32::consts::LOG2_E), simd.splat(TO_LOW_BITS));
    let n = simd.add(shifted, simd.splat(-TO_LOW_BITS));
    let r = simd.fma(n, simd.splat(-LN2_HIGH), x);
    let r = simd.fma(n, simd.splat(-LN2_LOW), r);
    let mut p = simd.splat(COEFFICIENTS[0]);
    for c in &COEFFICIENTS[1..] {
        p = simd.fma(p, r, simd.splat(*c));
    }
    let e_r = simd.add(simd.fma(p, simd.mul(r, r), r), simd.splat(1.0));
    simd.mul(e_r, simd.pow2(shifted))
}

/// `cap · tanh(x / cap)`, to 10⁻⁷ · cap; NaN for NaN.
#[inline(always)]
pub(crate) fn soft_cap<S: Simd>(simd: S, cap: f32, x: S::F32x16) -> S::F32x16 {
    // tanh(y) = 1 − 2 / (e²ʸ + 1)
    let e = exp(simd, simd.mul(x, simd.splat(2.0 / cap)));
    let part = simd.div(simd.splat(-2.0 * cap), simd.add(e, simd.splat(1.0)));
    simd.add(simd.splat(cap), part)
}

/// `ln(1 + e^x)` to 3 units in the last place or 10⁻⁷ of 1; NaN for NaN.
///
/// `max(x, 0) + ln(1 + t)`, `t = e^−|x|`; `ln(1 + t) = 2 · artanh(s)`, `s = t / (2 + t) ≤ ⅓`, by
/// its series up to s¹⁷.
#[inline(always)]
pub(crate) fn softplus<S: Simd>(simd: S, x: S::F32x16) -> S::F32x16 {
    const TERMS: [f32; 8] =
        [1.0 / 15.0, 1.0 / 13.0, 1.0 / 11.0, 1.0 / 9.0, 1.0 / 7.0, 1.0 / 5.0, 1.0 / 3.0, 1.0];
    let t = exp(simd, simd.min(x, simd.mul(x, simd.splat(-1.0))));
    let s = simd.div(t, simd.add(t, simd.splat(2.0)));
    let square = simd.mul(s, s);
    let mut series = simd.splat(1.0 / 17.0);
    for term in TERMS {
        series = simd.fma(series, square, simd.splat(term));
    }
    simd.fma(simd.mul(series, s), simd.splat(2.0), simd.max(x, simd.splat(0.0)))
}

/// `1 / (1 + e^−x)`
#[inline(always)]
pub(crate) fn sigmoid<S: Simd>(simd: S, x: S::F32x16) -> S::F32x16 {
    let e = exp(simd, simd.mul(x, simd.splat(-1.0)));
    simd.div(simd.splat(1.0), simd.add(simd.splat(1.0), e))
}

/// `2^x` to 2 parts in 10⁷ for −126 ≤ x ≤ 0, exactly 1 at 0; below, the value at
/// −126; NaN for NaN.
///
/// `x = n + r` with integer n, `|r| ≤ ½`; `2^r` by a polynomial through 1 at 0,
/// fitted to the least relative error (9.2 · 10⁻⁸); n as in [`exp`].
#[allow(clippy::approx_constant, reason = "fitted, not ln 2")]
#[inline(always)]
pub(crate) fn exp2<S: Simd>(simd: S, x: S::F32x16) -> S::F32x16 {
    const TO_LOW_BITS: f32 = 12_582_912.0;
    const COEFFICIENTS: [f32; 5] =
        [1.326_472_7e-3, 9.671_513e-3, 5.550_733_6e-2, 0.240_222_42, 0.693_147];
    // `max` gives its second operand for NaN.
    let x = simd.max(simd.splat(-126.0), x);
    let shifted = simd.add(x, simd.splat(TO_LOW_BITS));
    let n = simd.add(shifted, simd.splat(-TO_LOW_BITS));
    let r = simd.fma(n, simd.splat(-1.0), x);
    let mut p = simd.splat(COEFFICIENTS[0]);
    for c in &COEFFICIENTS[1..] {
        p = simd.fma(p, r, simd.splat(*c));
    }
    p = simd.fma(p, r, simd.splat(1.0));
    simd.mul(p, simd.pow2(shifted))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Task};

    struct Exp<'a>(&'a mut [f32]);
    impl Task for Exp<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            map(simd, self.0, |x| exp(simd, x));
        }
    }

    #[test]
    fn exp_is_close_and_the_same_on_every_set() {
        let x: Vec<f32> = (-87_000..=88_000).map(|i| i as f32 / 1000.0).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let mut y = x.clone();
            isa.run(Exp(&mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let exact = f64::from(x).exp();
                assert!((f64::from(y) / exact - 1.0).abs() < 2.5e-7, "{isa}: exp({x}) = {y}");
            }
            assert_eq!(*first.get_or_insert_with(|| y.clone()), y, "{isa}");
        }
        for isa in Isa::available() {
            let mut edge = [f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.0];
            isa.run(Exp(&mut edge));
            assert!(edge[0].is_nan() && edge[1] < 2e-38 && edge[2] > 1e38 && edge[3] == 1.0);
        }
    }

    struct Exp2<'a>(&'a mut [f32]);
    impl Task for Exp2<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            map(simd, self.0, |x| exp2(simd, x));
        }
    }

    #[test]
    fn exp2_is_close_and_the_same_on_every_set() {
        let x: Vec<f32> = (-126_000..=0).map(|i| i as f32 / 1000.0).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let mut y = x.clone();
            isa.run(Exp2(&mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let exact = f64::from(x).exp2();
                assert!((f64::from(y) / exact - 1.0).abs() < 2e-7, "{isa}: 2^{x} = {y}");
            }
            assert_eq!(*first.get_or_insert_with(|| y.clone()), y, "{isa}");
            let mut edge = [f32::NAN, f32::NEG_INFINITY, 0.0, -0.0];
            isa.run(Exp2(&mut edge));
            assert!(edge[0].is_nan() && edge[1] < 2e-38 && edge[2..] == [1.0; 2], "{edge:?}");
        }
    }

    struct Softplus<'a>(&'a mut [f32]);
    impl Task for Softplus<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            map(simd, self.0, |x| softplus(simd, x));
        }
    }

    #[test]
    fn softplus_is_close_and_the_same_on_every_set() {
        let x: Vec<f32> = (-80_000..=80_000).map(|i| i as f32 / 1000.0).collect();
        let mut first: Option<Vec<f32>> = None;
        for isa in Isa::available() {
            let mut y = x.clone();
            isa.run(Softplus(&mut y));
            for (&x, &y) in x.iter().zip(&y) {
                let exact = f64::from(x).exp().ln_1p();
                assert!((f64::from(y) / exact - 1.0).abs() < 4e-7, "{isa}: softplus({x}) = {y}");
            }
            assert_eq!(*first.get_or_insert_with(|| y.clone()), y, "{isa}");
            let mut edge = [f32::NAN, f32::INFINITY];
            isa.run(Softplus(&mut edge));
            assert!(edge[0].is_nan() && edge[1] == f32::INFINITY, "{edge:?}");
        }
    }

    struct Dot<'a>(&'a [f32], &'a [f32]);
    impl Task for Dot<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> f32 {
            dot(simd, self.0, self.1)
        }
    }

    #[test]
    fn dot_is_the_same_on_every_set_for_every_tail() {
        let a: Vec<f32> = (0..70).map(|i| (i as f32 * 0.37).sin()).collect();
        let b: Vec<f32> = (0..70).map(|i| (i as f32 * 0.73).cos()).collect();
        for n in 0..=70 {
            let exact: f64 = (0..n).map(|i| f64::from(a[i]) * f64::from(b[i])).sum();
            let sums: Vec<f32> =
                Isa::available().iter().map(|isa| isa.run(Dot(&a[..n], &b[..n]))).collect();
            assert!((f64::from(sums[0]) - exact).abs() < 1e-5);
            assert!(sums.iter().all(|s| s.to_bits() == sums[0].to_bits()), "{n}: {sums:?}");
        }
    }
}
