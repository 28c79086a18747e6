//! IQ2_S: 256 weights in 82 bytes; eight weights are a point of a grid and eight signs; a 4-bit
//! scale per 16.
//!
//! ```text
//! byte   0   1  2           33  34             65  66        73  74             81
//!      │   d   │ qs: 32 bytes │ signs: 32 bytes  │ qh: 8 bytes │ scales: 8 bytes │
//!        f16
//! point of the weights 32s + 8l ..: qs[4s + l], above it bits 2l .. 2l + 2 of qh[s]
//! their signs:                      bits of signs[4s + l]
//! scales[s] bits 0 .. 4: scale of the weights 32s .. 32s + 16
//!           bits 4 .. 8: of the next 16
//!
//! weight = (d / 8 · (2 · scale + 1)) · ± grid[point]
//! ```

use super::grids::IQ2_S as GRID;
use super::wide::{Rewritten, block_format};
use super::{f16_at, field};

/// 2-bit super-blocks of 256, points of a grid of 1,024, 4-bit scales per 16.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ2_S;

type Block = [u8; 82];

block_format!(IQ2_S 82);

impl Rewritten for IQ2_S {
    const HAS_SIGNS: bool = true;

    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        let low = usize::from(block[2 + 4 * s + l]);
        let high = usize::from(block[66 + s] >> (2 * l) & 3);
        GRID[low | high << 8]
    }

    #[inline(always)]
    fn signs(block: &Block, s: usize) -> u32 {
        u32::from_le_bytes(*field(block, 34 + 4 * s))
    }

    #[inline(always)]
    fn scale(block: &Block, i: usize) -> i16 {
        2 * i16::from(block[74 + i / 2] >> (4 * (i % 2)) & 15) + 1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        f16_at(block, 0) * 0.125
    }
}
