//! Q4_K: 256 weights in 144 bytes; a 6-bit scale and a 6-bit minimum per 32.
//!
//! ```text
//! byte   0   1   2   3   4              15  16             143
//!      │   d   │ dmin  │ scales: 12 bytes │ qs: 128 bytes     │
//!        f16     f16
//! qs: 64 weights in 32 bytes, four times. With l < 32:
//!   qs[32c + l] bits 0..4: weight 64c + l
//!               bits 4..8: weight 64c + 32 + l
//! scales: scale s and minimum s for weights 32s .. 32s+32 (i < 4):
//!              bits 0..6          bits 6..8
//!   byte i     scale i            high bits of scale 4 + i
//!   byte 4+i   minimum i          high bits of minimum 4 + i
//!              bits 0..4          bits 4..8
//!   byte 8+i   low: scale 4 + i   low: minimum 4 + i
//!
//! weight = (d · scale) · nibble − (dmin · minimum)
//! ```

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 4-bit super-blocks of 256, 6-bit scales and minimums per 32.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct Q4_K;

const LEN: usize = 256;
type Block = [u8; 144];

fn code(block: &Block, k: usize) -> u8 {
    let byte = block[16 + 32 * (k / 64) + k % 32];
    if k % 64 < 32 { byte & 15 } else { byte >> 4 }
}

/// Scale and minimum of weight `k`.
pub(super) fn scale_min(scales: &[u8; 12], k: usize) -> (u8, u8) {
    let s = k / 32;
    if s < 4 {
        (scales[s] & 63, scales[4 + s] & 63)
    } else {
        let i = s - 4;
        let scale = scales[8 + i] & 15 | scales[i] >> 6 << 4;
        let min = scales[8 + i] >> 4 | scales[4 + i] >> 6 << 4;
        (scale, min)
    }
}

/// All scales and minimums, one per 16 weights as kernels want them; decoded
/// four at a time in the bytes of a word.
#[inline(always)]
pub(crate) fn unpack_scales(scales: &[u8; 12], scale: &mut [i16; 16], min: &mut [i16; 16]) {
    const LOW: u32 = 0x0f0f_0f0f;
    const HIGH: u32 = 0x3030_3030;
    const SIX: u32 = 0x3f3f_3f3f;
    let a = u32::from_le_bytes(*field(scales, 0));
    let b = u32::from_le_bytes(*field(scales, 4));
    let c = u32::from_le_bytes(*field(scales, 8));
    let scales = [(a & SIX).to_le_bytes(), (c & LOW | a >> 2 & HIGH).to_le_bytes()];
    let mins = [(b & SIX).to_le_bytes(), (c >> 4 & LOW | b >> 2 & HIGH).to_le_bytes()];
    for s in 0..16 {
        scale[s] = i16::from(scales[s / 8][s / 2 % 4]);
        min[s] = i16::from(mins[s / 8][s / 2 % 4]);
    }
}

impl BlockFormat for Q4_K {
    const FORMAT: Format = Format::Q4_K;
    const HAS_MIN: bool = true;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn weight(block: &Block, k: usize) -> Weight {
        let (scale, min) = scale_min(field(block, 4), k);
        Weight { code: code(block, k) as i8, scale: scale.into(), min: min.into() }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 0), dmin: f16_at(block, 2) }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        for c in 0..4 {
            let qs: [u8; 32] = *field(block, 16 + 32 * c);
            for l in 0..32 {
                q[64 * c + l] = (qs[l] & 15) as i8;
                q[64 * c + 32 + l] = (qs[l] >> 4) as i8;
            }
        }
        unpack_scales(field(block, 4), array_mut(out.scale), array_mut(out.min));
    }
}
