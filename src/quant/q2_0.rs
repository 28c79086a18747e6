//! Q2_0: 64 weights in 18 bytes, two bits each and one scale.
//!
//! ```text
//! byte   0   1  2          17
//!      │   d   │ qs: 16 bytes │
//!        f16     bits 2i .. 2i + 2 of qs[j]: weight 4j + i
//!
//! weight = d · (two bits − 1)
//! ```
//! Weights become f32 and meet f32 activations.

use super::{f16_at, field};

/// Weights and bytes of a block.
pub(super) const LEN: usize = 64;
pub(super) const BYTES: usize = 18;

/// What the four numbers of a byte stand for.
static CODES: [[f32; 4]; 256] = {
    let (mut codes, mut i) = ([[0.0; 4]; 256], 0);
    while i < 1024 {
        codes[i / 4][i % 4] = ((i / 4) >> (2 * (i % 4)) & 3) as f32 - 1.0;
        i += 1;
    }
    codes
};

/// Writes the weights of a block, bit-exact with ggml's decoder.
#[inline(always)]
pub(super) fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    for (four, bits) in out.as_chunks_mut::<4>().0.iter_mut().zip(field::<16, BYTES>(block, 2)) {
        for (out, code) in four.iter_mut().zip(CODES[usize::from(*bits)]) {
            *out = d * code;
        }
    }
}
