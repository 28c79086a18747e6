//! Rows of f32 as integers with a common scale.

use crate::kv_cache::MIN_SCALE;
use crate::simd::Simd;

/// Values of a group of Q8_0.
const GROUP: usize = 32;

/// `row ≈ code · scale` with codes up to `most` in size; returns the
/// scale. `row` and `codes` are padded to a multiple of 32. A row with a value
/// that is not finite gets a NaN for a scale and codes of 0.
#[inline(always)]
pub(super) fn quantize<S: Simd>(simd: S, row: &[f32], most: i16, codes: &mut [i16]) -> f32 {
    let (size, finite) = size(simd, row);
    if !finite {
        codes.fill(0);
        return f32::NAN;
    }
    let most = f32::from(most);
    let size = if size > most * MIN_SCALE { size } else { most * MIN_SCALE };
    round(simd, row, most / size, codes);
    size / most
}

/// As [`quantize`], in the form of Q8_0: one ratio for each 32 values,
/// `row ≈ ((256 · code · ratio + 2¹⁴) >> 15) · scale`.
#[inline(always)]
pub(super) fn quantize_groups<S: Simd>(
    simd: S,
    row: &[f32],
    most: i16,
    codes: &mut [i16],
    mut put_ratio: impl FnMut(usize, i16),
) -> f32 {
    let (size, finite) = self::size(simd, row);
    if !finite {
        codes.fill(0);
        (0..row.len() / GROUP).for_each(|group| put_ratio(group, 0));
        return f32::NAN;
    }
    let most = f32::from(most);
    let size = if size > most * MIN_SCALE { size } else { most * MIN_SCALE };
    // The largest group has ratio `most` and the code 127 for `size`.
    let scale = size * (128.0 / 127.0) / most;
    let groups = row.chunks_exact(GROUP).zip(codes.chunks_exact_mut(GROUP));
    for (group, (row, codes)) in groups.enumerate() {
        let ratio = (self::size(simd, row).0 / size * most).ceil();
        let ratio = if ratio > 1.0 { ratio } else { 1.0 };
        round(simd, row, 128.0 / (ratio * scale), codes);
        for code in codes {
            *code = (*code).clamp(-127, 127);
        }
        put_ratio(group, ratio as i16);
    }
    scale
}

/// The largest absolute value, and whether all are finite.
#[inline(always)]
fn size<S: Simd>(simd: S, row: &[f32]) -> (f32, bool) {
    let (mut size, mut zeros) = (simd.splat(0.0), simd.splat(0.0));
    for x in row.as_chunks::<16>().0 {
        let x = simd.load(x);
        size = simd.max(simd.max(x, simd.mul(x, simd.splat(-1.0))), size);
        // 0 · x is 0 for finite x, else NaN.
        zeros = simd.fma(x, simd.splat(0.0), zeros);
    }
    (simd.max_lane(size), simd.sum(zeros) == 0.0)
}

#[inline(always)]
fn round<S: Simd>(simd: S, row: &[f32], factor: f32, codes: &mut [i16]) {
    let factor = simd.splat(factor);
    let (low_high, codes) = (row.as_chunks::<32>().0, codes.as_chunks_mut::<32>().0);
    for (row, codes) in low_high.iter().zip(codes) {
        if let ([low, high], []) = row.as_chunks::<16>() {
            let (low, high) = (simd.load(low), simd.load(high));
            simd.store_i16(simd.round_i16(simd.mul(low, factor), simd.mul(high, factor)), codes);
        }
    }
}
