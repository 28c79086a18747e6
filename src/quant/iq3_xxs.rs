//! IQ3_XXS: 256 weights in 98 bytes; four weights are a point of a grid, eight have seven signs;
//! a 4-bit scale per 32.
//!
//! ```text
//! byte   0   1  2           65  66           97
//!      │   d   │ qs: 64 bytes │ words: 8 × u32 │
//!        f16                    LE
//! qs[8s + i]: point of the weights 32s + 4i ..
//! words[s] bits 7l .. 7l + 7: signs of the weights 32s + 8l ..; the eighth makes them even
//!          bits 28 .. 32:     scale of the weights 32s ..
//!
//! weight = (d / 4 · (2 · scale + 1)) · ± grid[point]
//! ```

use super::grids::IQ3_XXS as GRID;
use super::wide::{Rewritten, block_format, even_signs, sevens};
use super::{f16_at, field};

/// 3-bit super-blocks of 256, points of a grid of 256, 4-bit scales per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ3_XXS;

type Block = [u8; 98];

block_format!(IQ3_XXS 98);

impl Rewritten for IQ3_XXS {
    const HAS_SIGNS: bool = true;

    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        point(block, s, 2 * l) | point(block, s, 2 * l + 1) << 32
    }

    #[inline(always)]
    fn signs(block: &Block, s: usize) -> u32 {
        even_signs(sevens(word(block, s)))
    }

    #[inline(always)]
    fn scale(block: &Block, i: usize) -> i16 {
        2 * (word(block, i / 2) >> 28) as i16 + 1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        f16_at(block, 0) * 0.25
    }
}

/// The weights 32s + 4i ...
#[inline(always)]
fn point(block: &Block, s: usize, i: usize) -> u64 {
    GRID[usize::from(block[2 + 8 * s + i])]
}

/// Signs and scale of the weights 32s ...
#[inline(always)]
fn word(block: &Block, s: usize) -> u32 {
    u32::from_le_bytes(*field(block, 66 + 4 * s))
}
