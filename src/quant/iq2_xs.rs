//! IQ2_XS: 256 weights in 74 bytes; eight weights are a point of a grid and seven signs; a 4-bit
//! scale per 16.
//!
//! ```text
//! byte   0   1  2              65  66             73
//!      │   d   │ qs: 32 × u16 LE  │ scales: 8 bytes │
//!        f16
//! qs[4s + l] bits 0 .. 9:  point of the weights 32s + 8l ..
//!            bits 9 .. 16: their signs; the eighth makes them even
//! scales[s]  bits 0 .. 4:  scale of the weights 32s .. 32s + 16
//!            bits 4 .. 8:  of the next 16
//!
//! weight = (d / 8 · (2 · scale + 1)) · ± grid[point]
//! ```

use super::grids::IQ2_XS as GRID;
use super::wide::{Rewritten, block_format, even_signs};
use super::{f16_at, field};

/// 2-bit super-blocks of 256, points of a grid of 512, 4-bit scales per 16.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ2_XS;

type Block = [u8; 74];

block_format!(IQ2_XS 74);

impl Rewritten for IQ2_XS {
    const HAS_SIGNS: bool = true;

    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        let qs = u16::from_le_bytes(*field(block, 2 + 8 * s + 2 * l));
        GRID[usize::from(qs & 511)]
    }

    #[inline(always)]
    fn signs(block: &Block, s: usize) -> u32 {
        let sevens = u64::from_le_bytes(*field(block, 2 + 8 * s)) >> 9 & 0x007f_007f_007f_007f;
        // Every other byte to its place.
        let pairs = (sevens | sevens >> 8) & 0x0000_ffff_0000_ffff;
        even_signs((pairs | pairs >> 16) as u32)
    }

    #[inline(always)]
    fn scale(block: &Block, i: usize) -> i16 {
        2 * i16::from(block[66 + i / 2] >> (4 * (i % 2)) & 15) + 1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        f16_at(block, 0) * 0.125
    }
}
