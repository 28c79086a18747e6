//! Larger batches: one block of all rows of the row panel is rearranged into a
//! panel, then multiplied with every row of the batch in tiles of 4 × 4.
//!
//! ```text
//! q[g][i]:     a cell: codes 16i .. 16i + 16 of rows 4g .. 4g + 4, in the order
//!              that the tier's instructions want (`Bytes::cell`)
//! scale[i][n], min[i][n]: of codes 16i .. 16i + 16 of row n
//!
//! isum[m][n] = Σ_i scale[i][n] · (cell i × activations)
//! msum[m][n] = Σ_i min[i][n] · sums[m][i]
//! out[m][n]  = fma(fma(isum, d[n], −(msum · dmin[n])), d8[m], out[m][n])
//! ```
//! Lanes are weight rows, so `out` itself is the accumulator: per block, in
//! order, as in `dot_row`. A row of the batch is read 256 bytes at a time, once
//! per row panel; a panel (12 KB) stays in the first-level cache.

use std::arch::aarch64::*;
use std::marker::PhantomData;

use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::{ActivationRows, BlockFormat, Codes, Format, Scales, Wide, with_kernel_format};
use crate::simd::neon::{Bytes, Neon};
use crate::simd::{Simd, Task};

/// Weight rows and activation rows of a tile.
const TILE: usize = 4;

/// One block of each row of a weights.
struct Panel {
    q: [[[[i8; 16]; 4]; 16]; RowPanel::ROWS / TILE],
    scale: [[i32; RowPanel::ROWS]; 16],
    min: [[i16; RowPanel::ROWS]; 16],
    d: [f32; RowPanel::ROWS],
    dmin: [f32; RowPanel::ROWS],
}

/// The row panel's products, block by block.
pub(super) fn multiply<B: Bytes>(
    simd: Neon<B>,
    weights: &RowPanel<'_>,
    activations: &ActivationRows,
    out: &mut [f32],
) {
    let bytes = simd.bytes();
    with_kernel_format!(
        weights.format,
        F => simd.enter(Blocks::<B, F> { bytes, weights, activations, out, format: PhantomData }),
        else => debug_assert!(false, "{} has no blocks", weights.format)
    )
}

/// A function per format, as in place.
struct Blocks<'a, B, F> {
    bytes: B,
    weights: &'a RowPanel<'a>,
    activations: &'a ActivationRows,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<B: Bytes, F: BlockFormat> Task for Blocks<'_, B, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        blocks::<B, F>(self.bytes, self.weights, self.activations, self.out);
    }
}

#[inline(always)]
fn blocks<B: Bytes, F: BlockFormat>(
    bytes: B,
    weights: &RowPanel<'_>,
    activations: &ActivationRows,
    out: &mut [f32],
) {
    let mut panel = Panel {
        q: [[[[0; 16]; 4]; 16]; RowPanel::ROWS / TILE],
        scale: [[0; RowPanel::ROWS]; 16],
        min: [[0; RowPanel::ROWS]; 16],
        d: [0.0; RowPanel::ROWS],
        dmin: [0.0; RowPanel::ROWS],
    };
    let groups = weights.rows.div_ceil(TILE);
    // Lanes of rows that the row panel lacks repeat its last row; nobody reads them.
    let rows: [&[F::Block]; RowPanel::ROWS] =
        std::array::from_fn(|n| F::blocks(weights.row(n.min(weights.rows - 1))));
    let (out, _) = out.as_chunks_mut::<{ RowPanel::ROWS }>();
    let out = &mut out[..activations.rows()];
    out.as_flattened_mut().fill(0.0);
    for b in 0..weights.cols / F::LEN {
        for (g, rows) in rows.as_chunks().0[..groups].iter().enumerate() {
            panel.fill::<B, F>(bytes, g, rows.map(|row| &row[b]));
        }
        for (tile, out) in out.chunks_mut(TILE).enumerate() {
            let of_tile = std::array::from_fn(|m| {
                // A tile that is not full repeats its last row.
                let row = activations.row(TILE * tile + m.min(out.len() - 1));
                Activations {
                    q: row.q[b * F::LEN..(b + 1) * F::LEN].as_chunks().0,
                    sums: &row.sums[b * F::LEN / 16..(b + 1) * F::LEN / 16],
                    d: row.d[b],
                }
            });
            for g in 0..groups {
                panel.multiply::<B, F>(bytes, g, &of_tile, out);
            }
        }
    }
}

/// One block of a row of activations.
struct Activations<'a> {
    q: &'a [[i8; 16]],
    sums: &'a [i16],
    d: f32,
}

/// Whether scales and minimums of codes 32i and 32i + 16 are equal.
const fn scales_per_32(format: Format) -> bool {
    !matches!(format, Format::Q2_K | Format::Q3_K | Format::Q6_K | Wide::FORMAT)
}

impl Panel {
    /// Writes the blocks of rows 4g .. 4g + 4.
    #[inline(always)]
    fn fill<B: Bytes, F: BlockFormat>(&mut self, bytes: B, g: usize, blocks: [&F::Block; TILE]) {
        let mut q = [[0_i8; 256]; TILE];
        for (r, block) in blocks.into_iter().enumerate() {
            let n = TILE * g + r;
            let (mut scale, mut min) = ([0; 16], [0; 16]);
            let (q, scale, min) =
                (&mut q[r][..F::LEN], &mut scale[..F::LEN / 16], &mut min[..F::LEN / 16]);
            F::unpack(block, Codes { q, scale: &mut *scale, min: &mut *min });
            for i in 0..F::LEN / 16 {
                self.scale[i][n] = i32::from(scale[i]);
                self.min[i][n] = min[i];
            }
            Scales { d: self.d[n], dmin: self.dmin[n] } = F::scales(block);
        }
        for (i, cell) in self.q[g][..F::LEN / 16].iter_mut().enumerate() {
            let rows = q.each_ref().map(|q| {
                let codes = &q.as_chunks::<16>().0[i];
                // SAFETY: `bytes` proves NEON; 16 bytes can be read from `codes`.
                unsafe { vld1q_s8(codes.as_ptr()) }
            });
            for (codes, out) in bytes.cell(rows).into_iter().zip(cell) {
                // SAFETY: `bytes` proves NEON; 16 bytes can be written to `out`.
                unsafe { vst1q_s8(out.as_mut_ptr(), codes) }
            }
        }
    }

    /// Adds the products of rows 4g .. 4g + 4 with the activations to `out`, the
    /// rows of the tile that exist.
    #[inline(always)]
    fn multiply<B: Bytes, F: BlockFormat>(
        &self,
        bytes: B,
        g: usize,
        activations: &[Activations<'_>; TILE],
        out: &mut [[f32; RowPanel::ROWS]],
    ) {
        let step = const { if scales_per_32(F::FORMAT) { 2 } else { 1 } };
        let n = TILE * g;
        // SAFETY: `bytes` proves NEON. Every load and store is of 4 values from
        // n = 4g < ROWS of an array of ROWS (a multiple of 4), or of 16 bytes of
        // an array of 16.
        unsafe {
            let zero = [vdupq_n_s32(0); TILE];
            let (mut isum, mut msum) = (zero, zero);
            for i in (0..F::LEN / 16).step_by(step) {
                let mut part = zero;
                for i in i..i + step {
                    let cell = self.q[g][i].each_ref().map(|q| vld1q_s8(q.as_ptr()));
                    let a = activations.each_ref().map(|a| vld1q_s8(a.q[i].as_ptr()));
                    part = bytes.multiply(part, cell, a);
                }
                let part = bytes.by_activation(part);
                let scale = vld1q_s32(self.scale[i][n..].as_ptr());
                for m in 0..TILE {
                    isum[m] = vmlaq_s32(isum[m], part[m], scale);
                }
                if F::HAS_MIN {
                    let min = vld1_s16(self.min[i][n..].as_ptr());
                    for (msum, a) in msum.iter_mut().zip(activations) {
                        // At most 32 · 127.
                        let sum: i16 = a.sums[i..i + step].iter().sum();
                        *msum = vmlal_n_s16(*msum, min, sum);
                    }
                }
            }
            let (d, dmin) = (vld1q_f32(self.d[n..].as_ptr()), vld1q_f32(self.dmin[n..].as_ptr()));
            for (m, out) in out.iter_mut().enumerate() {
                let offset = vnegq_f32(vmulq_f32(vcvtq_f32_s32(msum[m]), dmin));
                let value = vfmaq_f32(offset, vcvtq_f32_s32(isum[m]), d);
                let out = out[n..].as_mut_ptr();
                let d8 = vdupq_n_f32(activations[m].d);
                vst1q_f32(out, vfmaq_f32(vld1q_f32(out), value, d8));
            }
        }
    }
}
