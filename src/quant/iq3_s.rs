//! IQ3_S: 256 weights in 110 bytes; four weights are a point of a grid, each has a sign; a 4-bit
//! scale per 32.
//!
//! ```text
//! byte   0   1  2           65  66        73  74            105  106           109
//!      │   d   │ qs: 64 bytes │ qh: 8 bytes │ signs: 32 bytes  │ scales: 4 bytes │
//!        f16
//! point of the weights 32s + 4i ..: qs[8s + i], above it bit i of qh[s]
//! signs of the weights 32s + 8l ..: bits of signs[4s + l]
//! scale of the weights 32s ..:      s even: bits 0 .. 4 of scales[s / 2], s odd: bits 4 .. 8
//!
//! weight = (d · (2 · scale + 1)) · ± grid[point]
//! ```

use super::grids::IQ3_S as GRID;
use super::wide::{Rewritten, block_format};
use super::{f16_at, field};

/// 3-bit super-blocks of 256, points of a grid of 512, 4-bit scales per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ3_S;

type Block = [u8; 110];

block_format!(IQ3_S 110);

impl Rewritten for IQ3_S {
    const HAS_SIGNS: bool = true;

    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        point(block, s, 2 * l) | point(block, s, 2 * l + 1) << 32
    }

    #[inline(always)]
    fn signs(block: &Block, s: usize) -> u32 {
        u32::from_le_bytes(*field(block, 74 + 4 * s))
    }

    #[inline(always)]
    fn scale(block: &Block, i: usize) -> i16 {
        2 * i16::from(block[106 + i / 4] >> (4 * (i / 2 % 2)) & 15) + 1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        f16_at(block, 0)
    }
}

/// The weights 32s + 4i ...
#[inline(always)]
fn point(block: &Block, s: usize, i: usize) -> u64 {
    let high = usize::from(block[66 + s]) << (8 - i) & 256;
    GRID[usize::from(block[2 + 8 * s + i]) | high]
}
