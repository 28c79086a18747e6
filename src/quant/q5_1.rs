//! Q5_1: 32 weights in 24 bytes, one scale and one minimum.
//!
//! ```text
//! byte   0   1   2   3   4           7   8                                23
//!      │   d   │   m   │ qh: u32 LE    │ qs: 16 bytes                       │
//!        f16     f16     bit k: bit 4    qs[j] bits 0..4: weight j
//!                        of weight k           bits 4..8: weight j + 16
//!
//! weight = d · (nibble | bit << 4) + m
//! ```
//!
//! In the common formula `+ m` is `min = 1`, `dmin = −m`.

use super::q5_0::fifth_bits;
use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 5-bit, scale and minimum per 32.
#[derive(Debug, Clone, Copy)]
pub struct Q5_1;

const LEN: usize = 32;
type Block = [u8; 24];

fn code(block: &Block, k: usize) -> u8 {
    let byte = block[8 + k % 16];
    let nibble = if k < 16 { byte & 15 } else { byte >> 4 };
    let bit = u32::from_le_bytes(*field(block, 4)) >> k & 1;
    nibble | (bit as u8) << 4
}

impl BlockFormat for Q5_1 {
    const FORMAT: Format = Format::Q5_1;
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
        let high = fifth_bits(field(block, 4));
        let qs: &[u8; 16] = field(block, 8);
        let q: &mut [i8; LEN] = array_mut(out.q);
        for j in 0..16 {
            q[j] = (qs[j] & 15 | high[j]) as i8;
            q[j + 16] = (qs[j] >> 4 | high[j + 16]) as i8;
        }
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [1; LEN / 16];
    }
}
