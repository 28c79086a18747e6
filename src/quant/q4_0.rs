//! Q4_0: 32 weights in 18 bytes, one scale.
//!
//! ```text
//! byte   0   1   2                                17
//!      │   d   │ qs: 16 bytes                       │
//!        f16     qs[j] bits 0..4: weight j
//!                      bits 4..8: weight j + 16
//!
//! weight = d · (nibble − 8)
//! ```

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 4-bit, one scale per 32.
#[derive(Debug, Clone, Copy)]
pub struct Q4_0;

const LEN: usize = 32;
type Block = [u8; 18];

fn code(block: &Block, k: usize) -> i8 {
    let byte = block[2 + k % 16];
    let nibble = if k < 16 { byte & 15 } else { byte >> 4 };
    nibble as i8 - 8
}

impl BlockFormat for Q4_0 {
    const FORMAT: Format = Format::Q4_0;
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
        let qs: &[u8; 16] = field(block, 2);
        let q: &mut [i8; LEN] = array_mut(out.q);
        for j in 0..16 {
            q[j] = (qs[j] & 15) as i8 - 8;
            q[j + 16] = (qs[j] >> 4) as i8 - 8;
        }
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [0; LEN / 16];
    }
}
