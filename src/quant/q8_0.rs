//! Q8_0: 32 weights in 34 bytes, one scale.
//!
//! ```text
//! byte   0   1   2                          33
//!      │   d   │ qs: 32 × i8, qs[k]: weight k │
//!        f16
//!
//! weight = d · qs[k]
//! ```
//!
//! The quantizer never writes −128, but a file may hold it.

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 8-bit, one scale per 32.
#[derive(Debug, Clone, Copy)]
pub struct Q8_0;

const LEN: usize = 32;
type Block = [u8; 34];

fn code(block: &Block, k: usize) -> i8 {
    block[2 + k] as i8
}

impl BlockFormat for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
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
        let qs: &[u8; LEN] = field(block, 2);
        let q: &mut [i8; LEN] = array_mut(out.q);
        for k in 0..LEN {
            q[k] = qs[k] as i8;
        }
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [0; LEN / 16];
    }
}
