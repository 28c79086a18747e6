//! IQ1_S: 256 weights in 50 bytes; eight weights are a point of a grid of −1, 0 and 1, moved by
//! an eighth up or down; a 3-bit scale per 32.
//!
//! ```text
//! byte   0   1  2           33  34            49
//!      │   d   │ qs: 32 bytes │ qh: 8 × u16 LE  │
//!        f16
//! point of the weights 32s + 8l ..: qs[4s + l], above it bits 3l .. 3l + 3 of qh[s]
//! qh[s] bits 12 .. 15: scale of the weights 32s ..
//!       bit 15:        moved down
//!
//! weight = (d / 8 · (2 · scale + 1)) · (8 · grid[point] ± 1)
//! ```

use super::grids::IQ1 as GRID;
use super::wide::{Rewritten, block_format, shifted};
use super::{f16_at, field};

/// 1-bit super-blocks of 256, points of a grid of 2,048, 3-bit scales per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ1_S;

type Block = [u8; 50];

block_format!(IQ1_S 50);

impl Rewritten for IQ1_S {
    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        let (low, qh) = (usize::from(block[2 + 4 * s + l]), qh(block, s));
        shifted(GRID[low | usize::from(qh >> (3 * l) & 7) << 8], qh >> 15 == 1)
    }

    #[inline(always)]
    fn scale(block: &Block, i: usize) -> i16 {
        2 * (qh(block, i / 2) >> 12 & 7) as i16 + 1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        f16_at(block, 0) * 0.125
    }
}

/// What the weights 32s .. have in `qh`.
#[inline(always)]
fn qh(block: &Block, s: usize) -> u16 {
    u16::from_le_bytes(*field(block, 34 + 2 * s))
}
