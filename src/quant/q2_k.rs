//! Q2_K: 256 weights in 84 bytes; a 4-bit scale and a 4-bit minimum per 16.
//!
//! ```text
//! byte   0               15  16              79  80  81  82  83
//!      │ scales: 16 bytes  │ qs: 64 bytes      │   d   │ dmin  │
//!                                                f16     f16
//! scales[s] bits 0..4: scale of weights 16s .. 16s+16
//!           bits 4..8: minimum of the same
//! qs: 128 weights in 32 bytes, twice. With k = 128h + 32j + l (l < 32):
//!   weight k is bits 2j..2j+2 of qs[32h + l]
//!
//! weight = (d · scale) · code − (dmin · minimum)
//! ```

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 2-bit super-blocks of 256, 4-bit scales and minimums per 16.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct Q2_K;

const LEN: usize = 256;
type Block = [u8; 84];

fn code(block: &Block, k: usize) -> u8 {
    let (h, j, l) = (k / 128, k % 128 / 32, k % 32);
    block[16 + 32 * h + l] >> (2 * j) & 3
}

/// Scale and minimum of weight `k`.
fn scale_min(block: &Block, k: usize) -> (u8, u8) {
    let byte = block[k / 16];
    (byte & 15, byte >> 4)
}

impl BlockFormat for Q2_K {
    const FORMAT: Format = Format::Q2_K;
    const HAS_MIN: bool = true;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn weight(block: &Block, k: usize) -> Weight {
        let (scale, min) = scale_min(block, k);
        Weight { code: code(block, k) as i8, scale: scale.into(), min: min.into() }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 80), dmin: f16_at(block, 82) }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        let scale: &mut [i16; LEN / 16] = array_mut(out.scale);
        let min: &mut [i16; LEN / 16] = array_mut(out.min);
        for h in 0..2 {
            let qs: [u8; 32] = *field(block, 16 + 32 * h);
            for j in 0..4 {
                for l in 0..32 {
                    q[128 * h + 32 * j + l] = (qs[l] >> (2 * j) & 3) as i8;
                }
            }
        }
        for s in 0..LEN / 16 {
            scale[s] = i16::from(block[s] & 15);
            min[s] = i16::from(block[s] >> 4);
        }
    }
}
