//! Q6_K: 256 weights in 210 bytes; a signed 8-bit scale per 16.
//!
//! ```text
//! byte   0            127  128          191  192                207  208 209
//!      │ ql: 128 bytes   │ qh: 64 bytes    │ scales: 16 × i8       │   d   │
//!                                                                   f16
//! 128 weights in 64 bytes of ql and 32 of qh, twice. With k = 128h + 32j + l:
//!   low 4 bits of weight k:  j = 0: bits 0..4 of ql[64h + l]
//!                            j = 1: bits 0..4 of ql[64h + 32 + l]
//!                            j = 2: bits 4..8 of ql[64h + l]
//!                            j = 3: bits 4..8 of ql[64h + 32 + l]
//!   high 2 bits of weight k: bits 2j..2j+2 of qh[32h + l]
//! scales[s]: scale of weights 16s .. 16s+16
//!
//! weight = (d · scale) · ((low | high << 4) − 32)
//! ```

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, f16_at, field};

/// 6-bit super-blocks of 256, 8-bit scales per 16.
#[allow(non_camel_case_types, reason = "ggml's own name")]
#[derive(Debug, Clone, Copy)]
pub struct Q6_K;

const LEN: usize = 256;
type Block = [u8; 210];

fn code(block: &Block, k: usize) -> i8 {
    let (h, j, l) = (k / 128, k % 128 / 32, k % 32);
    let low = block[64 * h + 32 * (j % 2) + l] >> (4 * (j / 2)) & 15;
    let high = block[128 + 32 * h + l] >> (2 * j) & 3;
    (low | high << 4) as i8 - 32
}

/// Scale of weight `k`.
fn scale(block: &Block, k: usize) -> i8 {
    block[192 + k / 16] as i8
}

impl BlockFormat for Q6_K {
    const FORMAT: Format = Format::Q6_K;
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
        Scales { d: f16_at(block, 208), dmin: 0.0 }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        let scale: &mut [i16; LEN / 16] = array_mut(out.scale);
        for h in 0..2 {
            let ql: [u8; 64] = *field(block, 64 * h);
            let qh: [u8; 32] = *field(block, 128 + 32 * h);
            let q: &mut [i8; 128] = &mut q.as_chunks_mut().0[h];
            for l in 0..32 {
                q[l] = (ql[l] & 15 | qh[l] << 4 & 48) as i8 - 32;
                q[32 + l] = (ql[32 + l] & 15 | qh[l] << 2 & 48) as i8 - 32;
                q[64 + l] = (ql[l] >> 4 | qh[l] & 48) as i8 - 32;
                q[96 + l] = (ql[32 + l] >> 4 | qh[l] >> 2 & 48) as i8 - 32;
            }
        }
        let scales: &[u8; 16] = field(block, 192);
        for s in 0..LEN / 16 {
            scale[s] = i16::from(scales[s] as i8);
        }
        *array_mut(out.min) = [0; LEN / 16];
    }
}
