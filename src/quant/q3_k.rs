//! Q3_K: 256 weights in 110 bytes; a signed 6-bit scale per 16.
//!
//! ```text
//! byte   0              31  32              95  96             107  108 109
//!      │ hmask: 32 bytes  │ qs: 64 bytes      │ scales: 12 bytes  │   d   │
//!                                                                   f16
//! qs: 128 weights in 32 bytes, twice. With k = 128h + 32j + l (l < 32):
//!   low bits of weight k: bits 2j..2j+2 of qs[32h + l]
//!   high bit of weight k: bit 4h + j of hmask[l]
//! scales: 16 times 6 bits, scale s for weights 16s .. 16s+16:
//!   low 4 bits:  s < 8: bits 0..4 of scales[s], else bits 4..8 of scales[s − 8]
//!   high 2 bits: bits 2i..2i+2 of scales[8 + s % 4], i = s / 4
//!
//! weight = (d · (scale − 32)) · ((low | high << 2) − 4)
//! ```

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 3-bit super-blocks of 256, 6-bit scales per 16.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct Q3_K;

const LEN: usize = 256;
type Block = [u8; 110];

fn code(block: &Block, k: usize) -> i8 {
    let (h, j, l) = (k / 128, k % 128 / 32, k % 32);
    let low = block[32 + 32 * h + l] >> (2 * j) & 3;
    let high = block[l] >> (4 * h + j) & 1;
    (low | high << 2) as i8 - 4
}

/// Scale of weight `k`, centred.
fn scale(block: &Block, k: usize) -> i8 {
    let scales: &[u8; 12] = field(block, 96);
    let s = k / 16;
    let low = if s < 8 { scales[s] & 15 } else { scales[s - 8] >> 4 };
    let high = scales[8 + s % 4] >> (2 * (s / 4)) & 3;
    (low | high << 4) as i8 - 32
}

/// All 16 scales, not centred, four at a time in the bytes of a word.
#[inline(always)]
pub(crate) fn all_scales(block: &Block) -> [u8; 16] {
    const LOW: u32 = 0x0f0f_0f0f;
    const HIGH: u32 = 0x3030_3030;
    let a = u32::from_le_bytes(*field(block, 96));
    let b = u32::from_le_bytes(*field(block, 100));
    let high = u32::from_le_bytes(*field(block, 104));
    let mut scales = [0; 16];
    let words = [
        a & LOW | high << 4 & HIGH,
        b & LOW | high << 2 & HIGH,
        a >> 4 & LOW | high & HIGH,
        b >> 4 & LOW | high >> 2 & HIGH,
    ];
    for (scales, word) in scales.as_chunks_mut().0.iter_mut().zip(words) {
        *scales = word.to_le_bytes();
    }
    scales
}

impl BlockFormat for Q3_K {
    const FORMAT: Format = Format::Q3_K;
    const HAS_MIN: bool = false;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn weight(block: &Block, k: usize) -> Weight {
        Weight { code: code(block, k), scale: scale(block, k).into(), min: 0 }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 108), dmin: 0.0 }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        let scale: &mut [i16; LEN / 16] = array_mut(out.scale);
        let hmask: [u8; 32] = *field(block, 0);
        for h in 0..2 {
            let qs: [u8; 32] = *field(block, 32 + 32 * h);
            for j in 0..4 {
                for l in 0..32 {
                    let high = (hmask[l] >> (4 * h + j) & 1) << 2;
                    q[128 * h + 32 * j + l] = (qs[l] >> (2 * j) & 3 | high) as i8 - 4;
                }
            }
        }
        let scales = all_scales(block);
        for s in 0..LEN / 16 {
            scale[s] = i16::from(scales[s]) - 32;
        }
        *array_mut(out.min) = [0; LEN / 16];
    }
}
