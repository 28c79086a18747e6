//! Q5_K: 256 weights in 176 bytes; a 6-bit scale and a 6-bit minimum per 32.
//!
//! ```text
//! byte   0   1   2   3   4              15  16          47  48             175
//!      │   d   │ dmin  │ scales: 12 bytes │ qh: 32 bytes  │ qs: 128 bytes     │
//!        f16     f16     as in Q4_K
//! qs: 64 weights in 32 bytes, four times. With l < 32:
//!   qs[32c + l] bits 0..4: weight 64c + l
//!               bits 4..8: weight 64c + 32 + l
//! qh[l] bit s: bit 4 of weight 32s + l
//!
//! weight = (d · scale) · (nibble | bit << 4) − (dmin · minimum)
//! ```

use super::q4_k::{scale_min, unpack_scales};
use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 5-bit super-blocks of 256, 6-bit scales and minimums per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct Q5_K;

const LEN: usize = 256;
type Block = [u8; 176];

fn code(block: &Block, k: usize) -> u8 {
    let byte = block[48 + 32 * (k / 64) + k % 32];
    let nibble = if k % 64 < 32 { byte & 15 } else { byte >> 4 };
    let bit = block[16 + k % 32] >> (k / 32) & 1;
    nibble | bit << 4
}

impl BlockFormat for Q5_K {
    const FORMAT: Format = Format::Q5_K;
    const HAS_MIN: bool = true;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn weight(block: &Block, k: usize) -> Weight {
        let (scale, min) = scale_min(field(block, 4), k);
        Weight { code: code(block, k) as i8, scale: scale.into(), min: min.into() }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 0), dmin: f16_at(block, 2) }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        let qh: [u8; 32] = *field(block, 16);
        for c in 0..4 {
            let qs: [u8; 32] = *field(block, 48 + 32 * c);
            for l in 0..32 {
                let (low, high) = (qh[l] >> (2 * c) & 1, qh[l] >> (2 * c + 1) & 1);
                q[64 * c + l] = (qs[l] & 15 | low << 4) as i8;
                q[64 * c + 32 + l] = (qs[l] >> 4 | high << 4) as i8;
            }
        }
        unpack_scales(field(block, 4), array_mut(out.scale), array_mut(out.min));
    }
}
