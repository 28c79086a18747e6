//! IQ2_XXS: 256 weights in 66 bytes; eight weights are a point of a grid and seven signs; a
//! 4-bit scale per 32.
//!
//! ```text
//! byte   0   1  2                                65
//!      │   d   │ 32 weights in 8 bytes, eight times │
//!        f16
//! bytes 0 .. 4 of part s: byte l: point of the weights 32s + 8l ..
//! bytes 4 .. 8, a LE word: bits 7l .. 7l + 7: their signs; the eighth makes them even
//!                          bits 28 .. 32: scale of part s
//!
//! weight = (d / 8 · (2 · scale + 1)) · ± grid[point]
//! ```

use super::grids::IQ2_XXS as GRID;
use super::wide::{Rewritten, block_format, even_signs, sevens};
use super::{f16_at, field};

/// 2-bit super-blocks of 256, points of a grid of 256, 4-bit scales per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ2_XXS;

type Block = [u8; 66];

block_format!(IQ2_XXS 66);

impl Rewritten for IQ2_XXS {
    const HAS_SIGNS: bool = true;

    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        GRID[usize::from(block[2 + 8 * s + l])]
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
        f16_at(block, 0) * 0.125
    }
}

/// Signs and scale of part `s`.
#[inline(always)]
fn word(block: &Block, s: usize) -> u32 {
    u32::from_le_bytes(*field(block, 6 + 8 * s))
}
