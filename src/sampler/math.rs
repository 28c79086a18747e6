//! `exp` and `ln` in plain f64 additions and multiplications.
//!
//! The platform's libm may differ in the last bit, and one bit can change which
//! token is drawn. IEEE 754 fixes the result of each single operation, and Rust
//! neither reorders nor fuses them, so these are the same everywhere.
//!
//! ```text
//! exp(x) = 2^k · exp(r)        x = k·ln 2 + r,    |r| ≤ ½ ln 2,   Taylor to r^13
//! ln(x)  = e·ln 2 + 2·artanh(s)    x = 2^e · m,   s = (m−1)/(m+1), |s| < 0.172
//! ```
//!
//! Both are within a few units in the last place.

/// ln 2 = `LN2_HIGH` + `LN2_LOW`; the high part has 21 zero bits at its end, so
/// that `k · LN2_HIGH` is exact.
const LN2_HIGH: f64 = f64::from_bits(0x3fe6_2e42_fee0_0000);
const LN2_LOW: f64 = 1.908_214_929_270_587_7e-10;

/// `1/0!, 1/1!, … 1/13!`
const INVERSE_FACTORIALS: [f64; 14] = {
    let mut table = [1.0; 14];
    let mut factorial = 1.0;
    let mut n = 1;
    while n < table.len() {
        factorial *= n as f64; // exact: 13! < 2^53
        table[n] = 1.0 / factorial;
        n += 1;
    }
    table
};

/// `e^x` for `x ≤ 0`; exactly 0 below −708, where the result would near the
/// subnormal numbers, and for −∞.
pub(super) fn exp(x: f64) -> f64 {
    if x < -708.0 {
        return 0.0;
    }
    // To nearest: x ≤ 0, and a cast truncates towards zero.
    let k = (x * std::f64::consts::LOG2_E - 0.5) as i32;
    let r = x - f64::from(k) * LN2_HIGH - f64::from(k) * LN2_LOW;
    // Even and odd powers apart: two short chains of operations, not one long.
    let square = r * r;
    let mut even = 0.0;
    let mut odd = 0.0;
    for &[c_even, c_odd] in INVERSE_FACTORIALS.as_chunks().0.iter().rev() {
        even = even * square + c_even;
        odd = odd * square + c_odd;
    }
    let series = even + r * odd;
    // −1022 < k ≤ 0, so the biased exponent is that of a normal number.
    let power = f64::from_bits(((1023 + k) as u64) << 52);
    series * power
}

/// `ln x` for finite `x ≥ 1`.
pub(super) fn ln(x: f64) -> f64 {
    let bits = x.to_bits();
    let mut exponent = (bits >> 52) as i32 - 1023;
    let mut mantissa = f64::from_bits((bits & ((1 << 52) - 1)) | (1023 << 52)); // [1, 2)
    if mantissa > std::f64::consts::SQRT_2 {
        mantissa *= 0.5;
        exponent += 1;
    }
    let s = (mantissa - 1.0) / (mantissa + 1.0);
    // 2·artanh(s) = 2·(s + s³/3 + s⁵/5 + …); s²³/23 is below 2^-60.
    let square = s * s;
    let series = (0..11).rev().fold(0.0, |sum, n| sum * square + 1.0 / f64::from(2 * n + 1));
    let log_mantissa = 2.0 * s * series;
    f64::from(exponent) * LN2_HIGH + (f64::from(exponent) * LN2_LOW + log_mantissa)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn exact_at_the_ends() {
        assert_eq!(exp(0.0), 1.0);
        assert_eq!(exp(-0.0), 1.0);
        assert_eq!(exp(f64::NEG_INFINITY), 0.0);
        assert_eq!(exp(-708.1), 0.0);
        assert!(exp(-708.0) > 0.0);
        assert_eq!(ln(1.0), 0.0);
    }

    #[test]
    fn golden_bits() {
        // Every platform must give these; libm may not.
        assert_eq!(exp(-1.0).to_bits(), 0x3fd7_8b56_362c_ef38);
        assert_eq!(ln(10.0).to_bits(), 0x4002_6bb1_bbb5_5516);
    }

    proptest! {
        #[test]
        fn exp_is_close_to_libm(x in -708.0..0.0f64) {
            let libm = x.exp();
            prop_assert!((exp(x) - libm).abs() <= 4.0 * f64::EPSILON * libm);
        }

        #[test]
        fn ln_is_close_to_libm(x in 1.0..1e12f64) {
            prop_assert!((ln(x) - x.ln()).abs() <= 4.0 * f64::EPSILON * x.ln().max(0.1));
        }
    }
}
