//! Q1_0: 128 weights in 18 bytes, signs and one scale.
//!
//! ```text
//! byte   0   1  2          17
//!      │   d   │ qs: 16 bytes │
//!        f16     bit k % 8 of qs[k / 8]: weight k
//!
//! weight = bit ? d : −d
//! ```
//! Weights become f32 and meet f32 activations.

use super::{f16_at, field};

/// Weights and bytes of a block.
pub(super) const LEN: usize = 128;
pub(super) const BYTES: usize = 18;

/// Writes the weights of a block, bit-exact with ggml's decoder.
#[inline(always)]
pub(super) fn decode(block: &[u8; BYTES], out: &mut [f32; LEN]) {
    let d = f16_at(block, 0);
    for (eight, bits) in out.as_chunks_mut::<8>().0.iter_mut().zip(field::<16, BYTES>(block, 2)) {
        for (k, out) in eight.iter_mut().enumerate() {
            *out = if bits >> k & 1 == 1 { d } else { -d };
        }
    }
}
