//! A strip of float weights times f32 activations.
//!
//! Every product is [`dot`](super::math::dot)'s: 16 lanes over the columns in
//! order, then one tree. Rows become f32 once per strip; tiles of rows × activation
//! rows share the loads and hide the latency of the chains.

use super::math::{dot, padded};
use crate::quant::{Format, float};
use crate::simd::{Simd, Strip};

/// Rows of weights per tile.
const TILE: usize = 4;

/// Up to [`Strip::ROWS`] rows of float weights and what they are multiplied with.
pub(super) struct FloatStrip<'a> {
    /// F32, F16 or BF16.
    pub format: Format,
    pub cols: usize,
    /// Weight rows, 1 to [`Strip::ROWS`].
    pub rows: usize,
    pub bytes: &'a [u8],
    /// `[batch, cols]`
    pub x: &'a [f32],
}

impl FloatStrip<'_> {
    /// `out[m, n]`, rows [`Strip::ROWS`] apart.
    #[inline(always)]
    pub fn multiply<S: Simd>(&self, simd: S, weights: &mut Vec<f32>, out: &mut [f32]) {
        let cols = self.cols;
        weights.resize(self.rows * cols, 0.0);
        match self.format {
            Format::F16 => float::f16_row(self.bytes, weights),
            Format::BF16 => float::bf16_row(self.bytes, weights),
            _ => float::f32_row(self.bytes, weights),
        }
        // Activation rows outside: a few of them stay in the nearest cache while
        // the strip's rows come from the next one.
        let (groups, rest) = self.x.split_at(self.x.len() / cols / TILE * TILE * cols);
        let mut m = 0;
        for x in groups.chunks_exact(TILE * cols) {
            let x = [&x[..cols], &x[cols..2 * cols], &x[2 * cols..3 * cols], &x[3 * cols..]];
            if S::TILE == 4 {
                self.rows_times::<S, 4>(simd, weights, x, &mut out[m * Strip::ROWS..]);
            } else {
                // 16 registers: two chains of each of two rows fill them.
                let [a, b, c, d] = x;
                self.rows_times::<S, 2>(simd, weights, [a, b], &mut out[m * Strip::ROWS..]);
                self.rows_times::<S, 2>(simd, weights, [c, d], &mut out[(m + 2) * Strip::ROWS..]);
            }
            m += TILE;
        }
        for x in rest.chunks_exact(cols) {
            self.rows_times::<S, 1>(simd, weights, [x], &mut out[m * Strip::ROWS..]);
            m += 1;
        }
    }

    /// All rows times `M` activation rows.
    #[inline(always)]
    fn rows_times<S: Simd, const M: usize>(
        &self,
        simd: S,
        weights: &[f32],
        x: [&[f32]; M],
        out: &mut [f32],
    ) {
        let cols = self.cols;
        let (groups, rest) = weights.split_at(self.rows / TILE * TILE * cols);
        let mut n = 0;
        for w in groups.chunks_exact(TILE * cols) {
            let w = [&w[..cols], &w[cols..2 * cols], &w[2 * cols..3 * cols], &w[3 * cols..]];
            let sums = tile::<S, M>(simd, w, x);
            for (m, sums) in sums.iter().enumerate() {
                out[m * Strip::ROWS + n..][..TILE].copy_from_slice(sums);
            }
            n += TILE;
        }
        for w in rest.chunks_exact(cols) {
            for (m, x) in x.iter().enumerate() {
                out[m * Strip::ROWS + n] = dot(simd, w, x);
            }
            n += 1;
        }
    }
}

/// [`TILE`] rows times `M` activation rows, all of one length.
#[inline(always)]
fn tile<S: Simd, const M: usize>(simd: S, w: [&[f32]; TILE], x: [&[f32]; M]) -> [[f32; TILE]; M] {
    let mut acc = [[simd.splat(0.0); TILE]; M];
    let whole = w[0].len() / 16;
    let (mut w16, mut x16): ([&[[f32; 16]]; TILE], [&[[f32; 16]]; M]) = ([&[]; TILE], [&[]; M]);
    for (chunks, w) in w16.iter_mut().zip(w) {
        *chunks = &w.as_chunks::<16>().0[..whole];
    }
    for (chunks, x) in x16.iter_mut().zip(x) {
        *chunks = &x.as_chunks::<16>().0[..whole];
    }
    for k in 0..whole {
        let mut lanes = [simd.splat(0.0); TILE];
        for (lanes, w) in lanes.iter_mut().zip(w16) {
            *lanes = simd.load(&w[k]);
        }
        for (acc, x) in acc.iter_mut().zip(x16) {
            let x = simd.load(&x[k]);
            for (acc, w) in acc.iter_mut().zip(lanes) {
                *acc = simd.fma(w, x, *acc);
            }
        }
    }
    let tail = 16 * whole;
    let mut sums = [[0.0; TILE]; M];
    for ((sums, acc), x) in sums.iter_mut().zip(acc).zip(x) {
        for ((sum, mut acc), w) in sums.iter_mut().zip(acc).zip(w) {
            if tail < w.len() {
                let (w, x) = (padded(&w[tail..]), padded(&x[tail..]));
                acc = simd.fma(simd.load(&w), simd.load(&x), acc);
            }
            *sum = simd.sum(acc);
        }
    }
    sums
}
