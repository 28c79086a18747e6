//! MXFP4: 32 weights in 17 bytes, one scale that is a power of two; codes are E2M1 floats.
//!
//! ```text
//! byte   0   1                                16
//!      │ e │ qs: 16 bytes                       │
//!       E8M0  qs[j] bits 0..4: weight j
//!                   bits 4..8: weight j + 16
//!
//! weight = 2^(e − 128) · VALUES[nibble]
//! ```
//! The table holds twice the values of E2M1, so that they are integers; the exponent takes
//! that back. (OCP Microscaling Formats v1.0 have 2^(e − 127) and NaN for e = 255, which is a
//! number here as it is in ggml.)

use super::{BlockFormat, Codes, Format, Scales, Weight, array_mut, field};

/// 4-bit floats, a power of two per 32.
#[derive(Debug, Clone, Copy)]
pub struct MXFP4;

const LEN: usize = 32;
type Block = [u8; 17];

/// What a nibble stands for: a sign, two bits of exponent, one of mantissa.
pub(crate) const VALUES: [i8; 16] = [0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12];

fn code(block: &Block, k: usize) -> i8 {
    let byte = block[1 + k % 16];
    VALUES[usize::from(if k < 16 { byte & 15 } else { byte >> 4 })]
}

/// `2^(e − 128)`. The two smallest are subnormal.
#[inline(always)]
fn power(e: u8) -> f32 {
    let bits = match e {
        0 => 1 << 21,
        1 => 1 << 22,
        e => (u32::from(e) - 1) << 23,
    };
    f32::from_bits(bits)
}

/// [`VALUES`] by arithmetic, which vectorizes on every instruction set: 0 to 4 stand for
/// themselves, the next three are 4 + 2, 4 + 4 and 4 + 8.
#[inline(always)]
pub(super) fn value(nibble: u8) -> i8 {
    let x = (nibble & 7) as i8;
    let more = if x > 4 { x - 4 } else { 0 };
    let most = if x > 6 { 2 } else { 0 };
    let size = x + more + most;
    if nibble & 8 == 0 { size } else { -size }
}

impl BlockFormat for MXFP4 {
    const FORMAT: Format = Format::MXFP4;
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
        Scales { d: power(block[0]), dmin: 0.0 }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let q: &mut [i8; LEN] = array_mut(out.q);
        for (j, &byte) in field::<16, 17>(block, 1).iter().enumerate() {
            q[j] = value(byte & 15);
            q[j + 16] = value(byte >> 4);
        }
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [0; LEN / 16];
    }
}
