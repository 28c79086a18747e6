//! TQ1_0: 256 weights in 54 bytes, of BitNet: −1, 0 or 1 as a digit of base 3, five to a byte;
//! one scale.
//!
//! ```text
//! byte   0         47  48        51  52  53
//!      │ qs: 48 bytes │ qh: 4 bytes │   d   │
//!                                     f16
//! weight 32n + m       (m < 32, n < 5): digit n of qs[m]
//! weight 160 + 16n + m (m < 16, n < 5): digit n of qs[32 + m]
//! weight 240 + 4n + m  (m < 4, n < 4):  digit n of qh[m]
//! A byte is a fraction of 256, so digit n is what stands before the point of
//!   3 · (3ⁿ · byte mod 256) / 256
//!
//! weight = d · (digit − 1)
//! ```

use super::wide::{BIAS, ONES, Rewritten, block_format};
use super::{f16_at, field};

/// Ternary super-blocks of 256, five digits of base 3 a byte, one scale.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct TQ1_0;

type Block = [u8; 54];

block_format!(TQ1_0 54);

impl Rewritten for TQ1_0 {
    #[inline(always)]
    fn eight(block: &Block, s: usize, l: usize) -> u64 {
        let g = 4 * s + l;
        match g {
            0..20 => digits(u64::from_le_bytes(*field(block, 8 * l)), s),
            20..30 => digits(u64::from_le_bytes(*field(block, 32 + 8 * (g % 2))), (g - 20) / 2),
            _ => {
                let qh = u64::from(u32::from_le_bytes(*field(block, 48)));
                let n = 2 * (g - 30);
                digits(qh, n) & 0xffff_ffff | digits(qh, n + 1) << 32
            }
        }
    }

    #[inline(always)]
    fn scale(_: &Block, _: usize) -> i16 {
        1
    }

    #[inline(always)]
    fn d(block: &Block) -> f32 {
        f16_at(block, 52)
    }
}

/// Digit `n` of eight bytes, less 1, biased: every other byte at a time, in 16 bits each.
#[inline(always)]
fn digits(bytes: u64, n: usize) -> u64 {
    const EVEN: u64 = 0x00ff_00ff_00ff_00ff;
    let power = [1, 3, 9, 27, 81][n];
    let (even, odd) = (bytes & EVEN, bytes >> 8 & EVEN);
    let (even, odd) = ((even * power) & EVEN, (odd * power) & EVEN);
    let (even, odd) = ((even * 3) >> 8 & EVEN, (odd * 3) >> 8 & EVEN);
    (even | odd << 8) + u64::from(BIAS - 1) * ONES
}
