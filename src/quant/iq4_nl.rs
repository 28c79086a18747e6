//! IQ4_NL: 32 weights in 18 bytes, one scale; codes index a table that is denser
//! around zero, as weights are.
//!
//! ```text
//! byte   0   1   2                                17
//!      │   d   │ qs: 16 bytes                       │
//!        f16     qs[j] bits 0..4: weight j
//!                      bits 4..8: weight j + 16
//!
//! weight = d · VALUES[nibble]
//! ```

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 4-bit non-linear, one scale per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ4_NL;

const LEN: usize = 32;
type Block = [u8; 18];

/// What a nibble stands for, in IQ4_NL and IQ4_XS.
pub(crate) const VALUES: [i8; 16] =
    [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113];

fn code(block: &Block, k: usize) -> i8 {
    let byte = block[2 + k % 16];
    VALUES[usize::from(if k < 16 { byte & 15 } else { byte >> 4 })]
}

/// Looks up the 32 nibbles of 16 bytes: low ones first, then high ones.
#[inline(always)]
pub(super) fn unpack_values(qs: &[u8; 16], q: &mut [i8; 32]) {
    for (j, &byte) in qs.iter().enumerate() {
        q[j] = value(byte & 15);
        q[j + 16] = value(byte >> 4);
    }
}

/// `VALUES[nibble]` as the sum of the table's steps up to it: that vectorizes on
/// every instruction set, indexing on none.
#[inline(always)]
fn value(nibble: u8) -> i8 {
    let mut value = VALUES[0];
    for i in 1..16 {
        let step = VALUES[i] - VALUES[i - 1];
        value += if nibble >= i as u8 { step } else { 0 };
    }
    value
}

impl BlockFormat for IQ4_NL {
    const FORMAT: Format = Format::IQ4_NL;
    const HAS_MIN: bool = false;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn weight(block: &Block, k: usize) -> Weight {
        Weight { code: code(block, k), scale: 1, min: 0 }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 0), dmin: 0.0 }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        unpack_values(field(block, 2), array_mut(out.q));
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [0; LEN / 16];
    }
}
