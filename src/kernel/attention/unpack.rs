//! Codes of Q8_0 as 16-bit codes with one scale per position: exact integer steps.

use crate::kv_cache::{ByteLine, Line, PAGE};
use crate::simd::Simd;

/// Keys of Q8_0 as codes with one scale per position: a line holds two
/// dimensions of 16 positions, so each pair has its position's ratio.
#[inline(always)]
pub(super) fn unpack_keys<S: Simd>(
    simd: S,
    codes: &[ByteLine],
    ratios: &[[i16; PAGE]],
    out: &mut Vec<Line>,
) {
    out.resize(codes.len(), Line::default());
    // A group of 32 dimensions has 16 steps of 4 lines.
    let groups = codes.chunks(PAGE).zip(out.chunks_mut(PAGE));
    for ((codes, out), ratios) in groups.zip(ratios) {
        let mut twice = [[0; 32]; 4];
        for (twice, ratios) in twice.iter_mut().zip(ratios.as_chunks::<16>().0) {
            for (pair, &ratio) in twice.as_chunks_mut::<2>().0.iter_mut().zip(ratios) {
                *pair = [ratio; 2];
            }
        }
        for (codes, out) in codes.chunks_exact(4).zip(out.chunks_exact_mut(4)) {
            for v in 0..4 {
                let code = simd.mul_q15(simd.load_i8_high(&codes[v].0), simd.load_i16(&twice[v]));
                simd.store_i16(code, &mut out[v].0);
            }
        }
    }
}

/// Values of Q8_0: a line holds 16 dimensions of two positions.
#[inline(always)]
pub(super) fn unpack_values<S: Simd>(
    simd: S,
    codes: &[ByteLine],
    ratios: &[[i16; PAGE]],
    width: usize,
    out: &mut Vec<Line>,
) {
    out.resize(codes.len(), Line::default());
    let steps = codes.chunks_exact(width).zip(out.chunks_exact_mut(width));
    for (step, (codes, out)) in steps.enumerate() {
        for (v, (codes, out)) in codes.iter().zip(out).enumerate() {
            let ratios = &ratios[v / 2];
            let pair = simd.splat_pair(&[ratios[2 * step], ratios[2 * step + 1]]);
            simd.store_i16(simd.mul_q15(simd.load_i8_high(&codes.0), pair), &mut out.0);
        }
    }
}
