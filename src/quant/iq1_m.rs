//! IQ1_M: 256 weights in 56 bytes; eight weights are a point of a grid of −1, 0 and 1, moved by
//! an eighth up or down; a 3-bit scale per 16.
//!
//! ```text
//! byte   0            31  32          47  48               55
//!      │ qs: 32 bytes   │ qh: 16 bytes  │ scales: 4 × u16 LE │
//! eight weights 8g ..: nibble g of qh, low nibbles first
//!   bits 0 .. 3: above qs[g], their point
//!   bit 3:       moved down
//! scale of the weights 16i ..: bits 3j .. 3j + 3 of scales[i / 4], j = i % 4
//! d, an f16: bits 12 .. 16 of the four scales, the lowest first
//!
//! weight = (d / 8 · (2 · scale + 1)) · (8 · grid[point] ± 1)
//! ```

use super::field;
use super::grids::IQ1 as GRID;
use super::wide::{Rewritten, block_format, shifted};

/// 1-bit super-blocks of 256, points of a grid of 2,048, 3-bit scales per 16.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct IQ1_M;

type Block = [u8; 56];

block_format!(IQ1_M 56);

impl Rewritten for IQ1_M {
    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        let g = 4 * s + l;
        let nibble = block[32 + g / 2] >> (4 * (g % 2));
        let point = usize::from(block[g]) | usize::from(nibble & 7) << 8;
        shifted(GRID[point], nibble & 8 != 0)
    }

    #[inline(always)]
    fn scale(block: &Block, i: usize) -> i16 {
        2 * (word(block, i / 4) >> (3 * (i % 4)) & 7) as i16 + 1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        let low = word(block, 0) >> 12 | word(block, 1) >> 8 & 0xf0;
        let high = word(block, 2) >> 4 & 0xf00 | word(block, 3) & 0xf000;
        half::f16::from_bits(low | high).to_f32() * 0.125
    }
}

/// Four scales and four bits of `d`.
#[inline(always)]
fn word(block: &Block, i: usize) -> u16 {
    u16::from_le_bytes(*field(block, 48 + 2 * i))
}
