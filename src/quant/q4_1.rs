//! Q4_1: 32 weights in 20 bytes, one scale and one minimum.
//!
//! ```text
//! byte   0   1   2   3   4                                19
//!      │   d   │   m   │ qs: 16 bytes                       │
//!        f16     f16     qs[j] bits 0..4: weight j
//!                              bits 4..8: weight j + 16
//!
//! weight = d · nibble + m
//! ```
//!
//! In the common formula `+ m` is `min = 1`, `dmin = −m`.

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 4-bit, scale and minimum per 32.
#[derive(Debug, Clone, Copy)]
pub struct Q4_1;

const LEN: usize = 32;
type Block = [u8; 20];

fn code(block: &Block, k: usize) -> u8 {
    let byte = block[4 + k % 16];
    if k < 16 { byte & 15 } else { byte >> 4 }
}

impl BlockFormat for Q4_1 {
    const FORMAT: Format = Format::Q4_1;
    const HAS_MIN: bool = true;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn weight(block: &Block, k: usize) -> Weight {
        Weight { code: code(block, k) as i8, scale: 1, min: 1 }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 0), dmin: -f16_at(block, 2) }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let qs: &[u8; 16] = field(block, 4);
        let q: &mut [i8; LEN] = array_mut(out.q);
        for j in 0..16 {
            q[j] = (qs[j] & 15) as i8;
            q[j + 16] = (qs[j] >> 4) as i8;
        }
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [1; LEN / 16];
    }
}
