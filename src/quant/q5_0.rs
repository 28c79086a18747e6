//! Q5_0: 32 weights in 22 bytes, one scale.
//!
//! ```text
//! byte   0   1   2           5   6                                21
//!      │   d   │ qh: u32 LE    │ qs: 16 bytes                       │
//!        f16     bit k: bit 4    qs[j] bits 0..4: weight j
//!                of weight k           bits 4..8: weight j + 16
//!
//! weight = d · ((nibble | bit << 4) − 16)
//! ```

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 5-bit, one scale per 32.
#[derive(Debug, Clone, Copy)]
pub struct Q5_0;

const LEN: usize = 32;
type Block = [u8; 22];

fn code(block: &Block, k: usize) -> i8 {
    let byte = block[6 + k % 16];
    let nibble = if k < 16 { byte & 15 } else { byte >> 4 };
    let bit = u32::from_le_bytes(*field(block, 2)) >> k & 1;
    (nibble | (bit as u8) << 4) as i8 - 16
}

/// The fifth bits of 32 weights, each in a byte of its own as 0 or 16. Testing a
/// bit of a byte, not of the whole word, is what keeps the vector lanes narrow
/// (shifting the word: twice the time with AVX2 and more without).
#[inline(always)]
pub(super) fn fifth_bits(qh: &[u8; 4]) -> [u8; LEN] {
    let mut bits = [0; LEN];
    for (k, bit) in bits.iter_mut().enumerate() {
        *bit = if qh[k / 8] & 1 << (k % 8) != 0 { 16 } else { 0 };
    }
    bits
}

impl BlockFormat for Q5_0 {
    const FORMAT: Format = Format::Q5_0;
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
        let high = fifth_bits(field(block, 2));
        let qs: &[u8; 16] = field(block, 6);
        let q: &mut [i8; LEN] = array_mut(out.q);
        for j in 0..16 {
            q[j] = (qs[j] & 15 | high[j]) as i8 - 16;
            q[j + 16] = (qs[j] >> 4 | high[j + 16]) as i8 - 16;
        }
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [0; LEN / 16];
    }
}
