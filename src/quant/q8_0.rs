//! Q8_0: 32 weights in 34 bytes, one scale.
//!
//! ```text
//! byte   0   1   2                          33
//!      │   d   │ qs: 32 × i8, qs[k]: weight k │
//!        f16
//!
//! weight = d · qs[k]
//! ```
//!
//! The quantizer never writes −128, but a file may hold it.

use super::{BlockDot, BlockFormat, Codes, Format, Scales, array, array_mut, f16_at, field};

/// 8-bit, one scale per 32.
#[derive(Debug, Clone, Copy)]
pub struct Q8_0;

const LEN: usize = 32;
type Block = [u8; 34];

fn code(block: &Block, k: usize) -> i8 {
    block[2 + k] as i8
}

impl BlockFormat for Q8_0 {
    const FORMAT: Format = Format::Q8_0;
    const HAS_MIN: bool = false;
    type Block = Block;

    fn blocks(row: &[u8]) -> &[Block] {
        row.as_chunks().0
    }

    fn dequantize(block: &Block, out: &mut [f32]) {
        let out: &mut [f32; LEN] = array_mut(out);
        let d = f16_at(block, 0);
        for (k, out) in out.iter_mut().enumerate() {
            *out = d * f32::from(code(block, k));
        }
    }

    #[inline(always)]
    fn scales(block: &Block) -> Scales {
        Scales { d: f16_at(block, 0), dmin: 0.0 }
    }

    fn dot(block: &Block, activations: &[i8]) -> BlockDot {
        let a: &[i8; LEN] = array(activations);
        let isum = (0..LEN).map(|k| i32::from(code(block, k)) * i32::from(a[k])).sum();
        BlockDot { isum, msum: 0 }
    }

    #[inline(always)]
    fn unpack(block: &Block, out: Codes<'_>) {
        let qs: &[u8; LEN] = field(block, 2);
        let q: &mut [i8; LEN] = array_mut(out.q);
        for k in 0..LEN {
            q[k] = qs[k] as i8;
        }
        *array_mut(out.scale) = [1; LEN / 16];
        *array_mut(out.min) = [0; LEN / 16];
    }
}
