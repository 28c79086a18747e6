//! Few rows of f32 activations: float weights are read where they lie in the file.
//!
//! Every product is [`dot`](super::math::dot)'s: 16 lanes over the columns in
//! order, then one tree. Weights become f32 on their way into registers: half
//! precision is half the bytes from every cache. Tiles of rows × activation rows
//! share the loads and hide the latency of the chains.

use std::marker::PhantomData;

use super::weights::{FloatRowPanel, Floats};
use crate::kernel::math::padded;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::{Simd, Task};

/// Rows of activations per tile.
const TILE: usize = 4;

/// How far ahead of their use, in bytes, the weights of many rows are fetched, and those
/// of two rows come from a far cache to the nearest.
const AHEAD: usize = 2048;

impl FloatRowPanel<'_> {
    /// `out[m, n]`, rows [`RowPanel::ROWS`] apart, of `x` = `[batch, cols]`. Activation rows
    /// outside: a few of them stay in the nearest cache while the weights come from the
    /// next one.
    ///
    /// With fewer rows than a tile's, time is the memory's, which is fastest with one
    /// stream: two rows of weights at once, as one alone would wait for its own sums.
    #[inline(always)]
    pub fn in_place<S: Simd, F: Floats>(&self, simd: S, x: &[f32], out: &mut [f32]) {
        let tiles = x.chunks(TILE * self.cols);
        for (x, out) in tiles.zip(out.chunks_mut(TILE * RowPanel::ROWS)) {
            match x.len() / self.cols {
                TILE if const { S::TILE == TILE } => self.rows::<S, F, 4, 4>(simd, x, out),
                TILE => {
                    // 16 registers: the chains of two rows and two activation rows.
                    let (first, second) = x.split_at(2 * self.cols);
                    self.rows::<S, F, 2, 2>(simd, first, out);
                    self.rows::<S, F, 2, 2>(simd, second, &mut out[2 * RowPanel::ROWS..]);
                }
                3 => self.rows::<S, F, 2, 3>(simd, x, out),
                2 => self.rows::<S, F, 2, 2>(simd, x, out),
                _ => self.rows::<S, F, 2, 1>(simd, x, out),
            }
        }
    }

    /// All rows, `R` at once, times `M` activation rows. A function of its own for each
    /// pair: within one function the compiler spills the sums of the wider pairs.
    #[inline(always)]
    fn rows<S: Simd, F: Floats, const R: usize, const M: usize>(
        &self,
        simd: S,
        x: &[f32],
        out: &mut [f32],
    ) {
        simd.apart(Rows::<F, R, M> { weights: self, x, out, format: PhantomData });
    }
}

/// The work of [`FloatRowPanel::rows`].
struct Rows<'a, F, const R: usize, const M: usize> {
    weights: &'a FloatRowPanel<'a>,
    x: &'a [f32],
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Floats, const R: usize, const M: usize> Task for Rows<'_, F, R, M> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Rows { weights, x, out, .. } = self;
        let x = std::array::from_fn(|m| &x[m * weights.cols..][..weights.cols]);
        let len = weights.cols * F::BYTES;
        let (groups, rest) = weights.bytes.split_at(weights.rows / R * R * len);
        let mut n = 0;
        for w in groups.chunks_exact(R * len) {
            let w = std::array::from_fn(|i| &w[i * len..][..len]);
            let sums = tile::<S, F, R, M>(simd, w, x);
            for (m, sums) in sums.iter().enumerate() {
                out[m * RowPanel::ROWS + n..][..R].copy_from_slice(sums);
            }
            n += R;
        }
        // A few rows at the end: each in all places of a tile, so that one shape is enough.
        for w in rest.chunks_exact(len) {
            let sums = tile::<S, F, R, M>(simd, [w; R], x);
            for (m, sums) in sums.iter().enumerate() {
                out[m * RowPanel::ROWS + n] = sums[0];
            }
            n += 1;
        }
    }
}

/// `R` rows times `M` activation rows, all of one length.
#[inline(always)]
fn tile<S: Simd, F: Floats, const R: usize, const M: usize>(
    simd: S,
    w: [&[u8]; R],
    x: [&[f32]; M],
) -> [[f32; R]; M] {
    let mut acc = [[simd.splat(0.0); R]; M];
    let len = w[0].len();
    let whole = len / (16 * F::BYTES);
    let mut w16: [&[F::Sixteen]; R] = [&[]; R];
    let mut x16: [&[[f32; 16]]; M] = [&[]; M];
    for (chunks, w) in w16.iter_mut().zip(w) {
        *chunks = &F::sixteens(w)[..whole];
    }
    for (chunks, x) in x16.iter_mut().zip(x) {
        *chunks = &x.as_chunks::<16>().0[..whole];
    }
    let step = 16 * F::BYTES;
    for k in 0..whole {
        let here = k * step;
        if R == 2 {
            // Side by side in use, the rows of the next tile are fetched one after the
            // other, as memory has them.
            for at in (0..R * step).step_by(64) {
                let line = (R * here + at) / 64;
                let far = w[0].as_ptr().wrapping_add(R * len + line * 64);
                let near = w[line % R].as_ptr().wrapping_add(line / R * 64 + AHEAD);
                simd.prefetch_stream(far, near);
            }
        } else if here % 64 == 0 {
            // Behind a row's end the next tile goes on, not the next row.
            let ahead = here + AHEAD;
            let ahead = if ahead < len { ahead } else { ahead + (R - 1) * len };
            w.iter().for_each(|w| simd.prefetch(w.as_ptr().wrapping_add(ahead)));
        }
        let mut lanes = [simd.splat(0.0); R];
        for (lanes, w16) in lanes.iter_mut().zip(w16) {
            *lanes = F::load(simd, &w16[k]);
        }
        for (acc, x) in acc.iter_mut().zip(x16) {
            let x = simd.load(&x[k]);
            for (acc, w) in acc.iter_mut().zip(lanes) {
                *acc = simd.fma(w, x, *acc);
            }
        }
    }
    let mut sums = [[0.0; R]; M];
    for ((sums, acc), x) in sums.iter_mut().zip(acc).zip(x) {
        for ((sum, mut acc), w) in sums.iter_mut().zip(acc).zip(w) {
            if 16 * whole < x.len() {
                let mut tail = [0.0; 16];
                F::tail(&w[16 * whole * F::BYTES..], &mut tail);
                acc = simd.fma(simd.load(&tail), simd.load(&padded(&x[16 * whole..])), acc);
            }
            *sum = simd.sum(acc);
        }
    }
    sums
}
