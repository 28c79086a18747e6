//! NVFP4: 64 weights in 36 bytes, a small float as scale per 16; codes are E2M1 floats.
//!
//! ```text
//! byte   0         3  4          35
//!      │ d: 4 × UE4M3 │ qs: 32 bytes │
//! weight 16s + j     (j < 8): bits 0..4 of qs[8s + j]
//! weight 16s + 8 + j:         bits 4..8
//!
//! UE4M3, exponent e in bits 3 .. 7, mantissa m in bits 0 .. 3:
//!   0 and 0x7f are 0, e = 0: m · 2^−9, else (1 + m / 8) · 2^(e − 7)
//!
//! weight = d[s] / 2 · VALUES[nibble]
//! ```
//! The table is that of MXFP4: twice the values of E2M1.
//!
//! A scale per 16 that spans 2^17 fits no integer beside the codes, so weights become f32 and
//! meet f32 activations.

use super::field;
use super::mxfp4::value;

/// Weights and bytes of a block.
pub(super) const LEN: usize = 64;
pub(super) const BYTES: usize = 36;

/// Half of every scale.
static HALF_SCALES: [f32; 256] = {
    let (mut scales, mut bits) = ([0.0; 256], 0);
    while bits < 256 {
        let (e, m) = (bits as u32 >> 3 & 15, bits as u32 & 7);
        // In units of 2^−10, up to 15 · 2^14: exact.
        let units = if e == 0 { m } else { (8 + m) << (e - 1) };
        scales[bits] = if bits == 0x7f { 0.0 } else { units as f32 / 1024.0 };
        bits += 1;
    }
    scales
};

/// Writes the weights of a block, bit-exact with ggml's decoder.
#[inline(always)]
pub(super) fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    // All codes first: as bytes they vectorize.
    let (mut low, mut high) = ([0; LEN / 2], [0; LEN / 2]);
    for (j, qs) in field::<{ LEN / 2 }, BYTES>(block, 4).iter().enumerate() {
        (low[j], high[j]) = (value(qs & 15), value(qs >> 4));
    }
    for (s, out) in out.as_chunks_mut::<16>().0.iter_mut().enumerate() {
        let d = HALF_SCALES[usize::from(block[s])];
        for j in 0..8 {
            out[j] = d * f32::from(low[8 * s + j]);
            out[8 + j] = d * f32::from(high[8 * s + j]);
        }
    }
}
