//! TQ2_0: 256 weights in 66 bytes, of BitNet: −1, 0 or 1 in two bits, one scale.
//!
//! ```text
//! byte   0         63  64  65
//!      │ qs: 64 bytes │   d   │
//!                       f16
//! weight 128h + 32j + l (l < 32): bits 2j .. 2j + 2 of qs[32h + l]
//!
//! weight = d · (two bits − 1)
//! ```

use super::wide::{BIAS, ONES, Rewritten, block_format};
use super::{f16_at, field};

/// Ternary super-blocks of 256, two bits a weight, one scale.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct TQ2_0;

type Block = [u8; 66];

block_format!(TQ2_0 66);

impl Rewritten for TQ2_0 {
    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        let qs = u64::from_le_bytes(*field(block, 32 * (s / 4) + 8 * l));
        (qs >> (2 * (s % 4)) & (3 * ONES)) + u64::from(BIAS - 1) * ONES
    }

    #[inline(always)]
    fn scale(_: &Block, _: usize) -> i16 {
        1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        f16_at(block, 64)
    }
}
