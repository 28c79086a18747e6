//! Float weights as they lie in the file, and how they become f32.

use crate::quant::{Format, float};
use crate::simd::Simd;

/// Up to `RowPanel::ROWS` rows of float weights and what they are multiplied with.
pub(in crate::kernel::matmul) struct FloatRowPanel<'a> {
    /// F32, F16 or BF16, or a quantized format that is multiplied as F32.
    pub format: Format,
    pub cols: usize,
    /// Weight rows, 1 to `RowPanel::ROWS`.
    pub rows: usize,
    pub bytes: &'a [u8],
}

/// A float format: how 16 weights become f32.
pub(in crate::kernel::matmul) trait Floats {
    /// Bytes of a weight.
    const BYTES: usize;
    /// Bytes of 16 weights, `[u8; 16 · BYTES]`.
    type Sixteen: Copy;

    /// The whole sixteens of a row.
    fn sixteens(row: &[u8]) -> &[Self::Sixteen];
    fn load<S: Simd>(simd: S, weights: &Self::Sixteen) -> S::F32x16;
    /// The weights of a row's end, fewer than 16.
    fn tail(bytes: &[u8], out: &mut [f32; 16]);
}

macro_rules! floats {
    ($($format:ident $bytes:literal $row:ident |$simd:ident, $weights:ident| $load:expr;)*) => { $(
        pub struct $format;
        impl Floats for $format {
            const BYTES: usize = $bytes;
            type Sixteen = [u8; 16 * $bytes];

            #[inline(always)]
            fn sixteens(row: &[u8]) -> &[Self::Sixteen] {
                row.as_chunks().0
            }

            #[inline(always)]
            fn load<S: Simd>($simd: S, $weights: &Self::Sixteen) -> S::F32x16 {
                $load
            }

            #[inline(always)]
            fn tail(bytes: &[u8], out: &mut [f32; 16]) {
                float::$row(bytes, out);
            }
        }
    )* };
}
floats! {
    F32 4 f32_row |simd, weights| {
        let mut values = [0.0; 16];
        float::f32_row(weights, &mut values);
        simd.load(&values)
    };
    F16 2 f16_row |simd, weights| simd.load_f16(weights);
    BF16 2 bf16_row |simd, weights| {
        let mut values = [0.0; 16];
        float::bf16_row(weights, &mut values);
        simd.load(&values)
    };
}
