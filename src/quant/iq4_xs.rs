//! IQ4_XS: 256 weights in 136 bytes; a signed 6-bit scale per 32; codes index
//! the table of IQ4_NL.
//!
//! ```text
//! byte   0   1   2       3   4              7   8              135
//!      │   d   │ scales_h  │ scales_l: 4 bytes │ qs: 128 bytes     │
//!        f16     u16 LE
//! qs: 32 weights in 16 bytes, eight times. With j < 16:
//!   qs[16s + j] bits 0..4: weight 32s + j
//!               bits 4..8: weight 32s + 16 + j
//! scale s, for weights 32s .. 32s+32:
//!   low 4 bits:  s even: bits 0..4 of scales_l[s / 2], s odd: bits 4..8
//!   high 2 bits: bits 2s..2s+2 of scales_h
//!
//! weight = (d · (scale − 32)) · VALUES[nibble]
//! ```

use super::iq4_nl::{VALUES, unpack_values};
use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 4-bit non-linear super-blocks of 256, 6-bit scales per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ4_XS;

const LEN: usize = 256;
type Block = [u8; 136];

fn code(block: &Block, k: usize) -> i8 {
    let byte = block[8 + 16 * (k / 32) + k % 16];
    VALUES[usize::from(if k % 32 < 16 { byte & 15 } else { byte >> 4 })]
}

/// Scale of weight `k`, centred.
#[inline(always)]
pub(crate) fn scale(block: &Block, k: usize) -> i8 {
    let s = k / 32;
    let low = block[4 + s / 2] >> (4 * (s % 2)) & 15;
    let high = u16::from_le_bytes(*field(block, 2)) >> (2 * s) & 3;
    (low | (high as u8) << 4) as i8 - 32
}

impl BlockFormat for IQ4_XS {
    const FORMAT: Format = Format::IQ4_XS;
    const HAS_MIN: bool = false;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn weight(block: &Block, k: usize) -> Weight {
        Weight { code: code(block, k), scale: scale(block, k).into(), min: 0 }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 0), dmin: 0.0 }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        let scales: &mut [i16; LEN / 16] = array_mut(out.scale);
        for s in 0..8 {
            unpack_values(field(block, 8 + 16 * s), &mut q.as_chunks_mut().0[s]);
            let scale = i16::from(scale(block, 32 * s));
            scales[2 * s] = scale;
            scales[2 * s + 1] = scale;
        }
        *array_mut(out.min) = [0; LEN / 16];
    }
}
