//! Small batches: rows are multiplied where they lie in the file.
//!
//! Q4_K, Q6_K and Q8_0 become codes in registers; other formats are unpacked
//! block by block. A register of sums has four partial sums of the block; they
//! are added once, at its end.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::{
    ActivationRows, BlockFormat, Codes, Format, Q4_K, Q6_K, Q8_0, Scales, block_value, field,
    q4_k_scales, with_kernel_format,
};
use crate::simd::neon::{Bytes, Neon};
use crate::simd::{Simd, Task};

/// The panel's products, row by row.
pub(super) fn multiply<B: Bytes>(
    simd: Neon<B>,
    weights: &RowPanel<'_>,
    activations: &ActivationRows,
    out: &mut [f32],
) {
    macro_rules! rows {
        ($how:ty) => {
            simd.enter(Rows::<B, $how> { simd, weights, activations, out, how: PhantomData })
        };
    }
    match weights.format {
        Format::Q4_K => rows!(Q4_K),
        Format::Q6_K => rows!(Q6_K),
        Format::Q8_0 => rows!(Q8_0),
        format => with_kernel_format!(
            format,
            F => rows!(Unpacked<F>),
            else => debug_assert!(false, "{format} has no blocks")
        ),
    }
}

/// A function per format: compilers take a time that grows with the square of a
/// function's size, minutes for all formats in one.
struct Rows<'a, B, P> {
    simd: Neon<B>,
    weights: &'a RowPanel<'a>,
    activations: &'a ActivationRows,
    out: &'a mut [f32],
    how: PhantomData<P>,
}

impl<B: Bytes, P: InPlace> Task for Rows<'_, B, P> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Rows { simd, weights, activations, out, .. } = self;
        rows::<B, P>(simd, weights, activations, out);
    }
}

#[inline(always)]
fn rows<B: Bytes, P: InPlace>(
    simd: Neon<B>,
    weights: &RowPanel<'_>,
    activations: &ActivationRows,
    out: &mut [f32],
) {
    let len = P::Stored::LEN;
    for n in 0..weights.rows {
        let blocks = P::Stored::blocks(weights.row(n));
        for m in 0..activations.rows() {
            let row = activations.row(m);
            let parts = row.q.chunks_exact(len).zip(row.sums.chunks_exact(len / 16)).zip(row.d);
            let mut acc = 0.0_f32;
            for (block, ((a, sums), &d8)) in blocks.iter().zip(parts) {
                let (isum, msum) = P::sums(simd, block, a, sums);
                let Scales { d, dmin } = P::Stored::scales(block);
                acc = block_value(isum, msum, d, dmin).mul_add(d8, acc);
            }
            out[m * RowPanel::ROWS + n] = acc;
        }
    }
}

/// How a block is multiplied with a block of activations `a`.
trait InPlace {
    type Stored: BlockFormat;

    /// `isum` and `msum` of [`BlockDot`](crate::quant::BlockDot); `sums` are
    /// those of 16 activations each.
    fn sums<B: Bytes>(
        simd: Neon<B>,
        block: &<Self::Stored as BlockFormat>::Block,
        a: &[i8],
        sums: &[i16],
    ) -> (i32, i32);
}

/// Any format: unpacked to memory first.
struct Unpacked<F>(F);

impl<F: BlockFormat> InPlace for Unpacked<F> {
    type Stored = F;

    #[inline(always)]
    fn sums<B: Bytes>(simd: Neon<B>, block: &F::Block, a: &[i8], sums: &[i16]) -> (i32, i32) {
        let (mut q, mut scale, mut min) = ([0; 256], [0; 16], [0; 16]);
        let (q, groups) = (&mut q[..F::LEN], F::LEN / 16);
        let (scale, min) = (&mut scale[..groups], &mut min[..groups]);
        F::unpack(block, Codes { q: &mut *q, scale: &mut *scale, min: &mut *min });
        let msum = if F::HAS_MIN { simd.dot_mins(min, sums) } else { 0 };
        (simd.dot_codes(q, scale, a), msum)
    }
}

/// `sum + scale · (w[0] · a[0] + w[1] · a[1])`, each register 16 codes.
#[inline(always)]
fn scaled<B: Bytes>(
    bytes: B,
    sum: int32x4_t,
    w: [int8x16_t; 2],
    a: &[[i8; 16]; 2],
    scale: i32,
) -> int32x4_t {
    // SAFETY: `bytes` proves NEON; 16 bytes can be read from each half of `a`.
    unsafe {
        let part = bytes.dot(vdupq_n_s32(0), w[0], vld1q_s8(a[0].as_ptr()));
        let part = bytes.dot(part, w[1], vld1q_s8(a[1].as_ptr()));
        vmlaq_n_s32(sum, part, scale)
    }
}

/// Bytes 16..144: 32 bytes hold 64 weights, the low nibbles 32 of them, the high
/// nibbles the next 32. Scales are per 32.
impl InPlace for Q4_K {
    type Stored = Q4_K;

    #[inline(always)]
    fn sums<B: Bytes>(simd: Neon<B>, block: &[u8; 144], a: &[i8], sums: &[i16]) -> (i32, i32) {
        let bytes = simd.bytes();
        let (mut scale, mut min) = ([0; 16], [0; 16]);
        q4_k_scales(field(block, 4), &mut scale, &mut min);
        let qs = block[16..].as_chunks::<32>().0;
        let a = a.as_chunks::<16>().0.as_chunks::<4>().0;
        // SAFETY: `simd` proves NEON; both loads are inside the 32 bytes of `qs`.
        let isum = unsafe {
            let mut sum = vdupq_n_s32(0);
            for ((qs, a), scale) in qs.iter().zip(a).zip(scale.as_chunks::<4>().0) {
                let qs = [vld1q_u8(qs.as_ptr()), vld1q_u8(qs.as_ptr().add(16))];
                let low = qs.map(|q| vreinterpretq_s8_u8(vandq_u8(q, vdupq_n_u8(15))));
                let high = qs.map(|q| vreinterpretq_s8_u8(vshrq_n_u8::<4>(q)));
                let [a_low, a_high] = [[a[0], a[1]], [a[2], a[3]]];
                sum = scaled(bytes, sum, low, &a_low, i32::from(scale[0]));
                sum = scaled(bytes, sum, high, &a_high, i32::from(scale[2]));
            }
            vaddvq_s32(sum)
        };
        (isum, simd.dot_mins(&min, sums))
    }
}

/// 128 weights in 64 bytes of `ql` (from 0) and 32 of `qh` (from 128), twice;
/// weight 32j + l of them: nibble j / 2 of `ql[32 (j % 2) + l]`, bit pair j of
/// `qh[l]`, minus 32. Scales (from 192) are per 16.
impl InPlace for Q6_K {
    type Stored = Q6_K;

    #[inline(always)]
    fn sums<B: Bytes>(simd: Neon<B>, block: &[u8; 210], a: &[i8], _: &[i16]) -> (i32, i32) {
        let (ql, rest) = block.split_at(128);
        let (qh, rest) = rest.split_at(64);
        let parts = ql.as_chunks::<64>().0.iter().zip(qh.as_chunks::<32>().0);
        let parts = parts.zip(a.as_chunks::<128>().0).zip(rest.as_chunks::<8>().0);
        // SAFETY: `simd` proves NEON. With t and u below 2 and j below 4, loads
        // are inside the 64 bytes of `ql`, the 32 of `qh` and the 128 of `a`.
        unsafe {
            let (nibble, pair) = (vdupq_n_u8(15), vdupq_n_u8(48));
            let mut sum = vdupq_n_s32(0);
            for (((ql, qh), a), scale) in parts {
                for t in 0..2 {
                    let high = vld1q_u8(qh.as_ptr().add(16 * t));
                    let low = [0, 1].map(|u| vld1q_u8(ql.as_ptr().add(32 * u + 16 * t)));
                    let codes = [
                        vsliq_n_u8::<4>(vandq_u8(low[0], nibble), vandq_u8(high, vdupq_n_u8(3))),
                        vorrq_u8(vandq_u8(low[1], nibble), vandq_u8(vshlq_n_u8::<2>(high), pair)),
                        vorrq_u8(vshrq_n_u8::<4>(low[0]), vandq_u8(high, pair)),
                        vorrq_u8(vshrq_n_u8::<4>(low[1]), vandq_u8(vshrq_n_u8::<2>(high), pair)),
                    ];
                    for (j, code) in codes.into_iter().enumerate() {
                        let code = vsubq_s8(vreinterpretq_s8_u8(code), vdupq_n_s8(32));
                        let a = vld1q_s8(a.as_ptr().add(32 * j + 16 * t));
                        let part = simd.bytes().dot(vdupq_n_s32(0), code, a);
                        sum = vmlaq_n_s32(sum, part, i32::from(scale[2 * j + t] as i8));
                    }
                }
            }
            (vaddvq_s32(sum), 0)
        }
    }
}

/// Bytes 2..34 are the codes.
impl InPlace for Q8_0 {
    type Stored = Q8_0;

    #[inline(always)]
    fn sums<B: Bytes>(simd: Neon<B>, block: &[u8; 34], a: &[i8], _: &[i16]) -> (i32, i32) {
        let (qs, a) = (block[2..].as_chunks::<16>().0, a.as_chunks::<16>().0);
        // SAFETY: `simd` proves NEON; 16 bytes can be read from each chunk.
        unsafe {
            let mut sum = vdupq_n_s32(0);
            for (q, a) in qs.iter().zip(a) {
                let q = vreinterpretq_s8_u8(vld1q_u8(q.as_ptr()));
                sum = simd.bytes().dot(sum, q, vld1q_s8(a.as_ptr()));
            }
            (vaddvq_s32(sum), 0)
        }
    }
}
