//! Many rows of f32 activations: float weights are unpacked into a panel.
//!
//! Both sides lie in the order of their use, in whole lines of the cache; zeros
//! fill the last 16 columns and the last tile:
//!
//! ```text
//! activations [tile of 6 rows][columns / 16][6][16]    once per product
//! panel       [block of columns][tile of 4 rows][columns of the block / 16][4][16]
//! ```
//! A tile of 4 × 6 sums of 16 lanes stays in registers over a block of columns: 24
//! multiply-adds for 10 loads. Between two blocks the lanes wait in memory, so every
//! product is [`dot`](crate::kernel::math::dot)'s: 16 lanes over the columns in order, then
//! one tree.
//!
//! A tile of activations of one block (24 KiB) stays in the nearest cache while the
//! panel's block (128 KiB) comes from the next one; a group of tiles goes through a
//! block before the next block's turn, so that a wide panel comes from memory once per
//! group.

use super::weights::{FloatRowPanel, Floats};
use crate::kernel::math::padded;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::kernel::pool::Team;
use crate::simd::{Simd, Task};

/// Rows of weights, and of activations, per tile.
const W: usize = 4;
const X: usize = 6;

/// Columns of a block, in sixteens.
const BLOCK: usize = 1024 / 16;

/// Tiles of activations of a group.
const GROUP: usize = 8;

/// How far ahead of their use weights are fetched, in bytes.
const AHEAD: usize = 4096;

/// A line of the cache.
#[derive(Debug, Clone, Copy, Default)]
#[repr(align(64))]
struct Lanes([f32; 16]);

/// A batch of activation rows, in tiles.
#[derive(Debug, Default)]
pub(in crate::kernel::matmul) struct FloatRows {
    rows: usize,
    /// Columns / 16, rounded up.
    steps: usize,
    tiles: Vec<[Lanes; X]>,
}

impl FloatRows {
    /// Takes over `values` = `[rows, cols]`.
    pub fn set(&mut self, team: &Team<'_>, values: &[f32], cols: usize) {
        (self.rows, self.steps) = (values.len() / cols, cols.div_ceil(16));
        self.tiles.resize(self.rows.div_ceil(X) * self.steps, Default::default());
        let mut tiles: Vec<_> = self.tiles.chunks_exact_mut(self.steps).collect();
        team.for_each(&mut tiles, |t, tile| {
            let rows = &values[t * X * cols..values.len().min((t + 1) * X * cols)];
            for (m, row) in rows.chunks_exact(cols).enumerate() {
                for (step, x) in tile.iter_mut().zip(row.chunks(16)) {
                    copy(x, &mut step[m]);
                }
            }
        });
    }
}

/// 16 or fewer values, then zeros.
#[inline(always)]
fn copy(x: &[f32], lanes: &mut Lanes) {
    match x.first_chunk::<16>() {
        Some(x) => lanes.0 = *x,
        None => lanes.0 = padded(x),
    }
}

/// A thread's working memory.
#[derive(Debug, Default)]
pub(in crate::kernel::matmul) struct FloatPanel {
    weights: Vec<[Lanes; W]>,
    /// `[tile of activations of a group, tile of weights]`: lanes between blocks.
    waiting: Vec<[[Lanes; W]; X]>,
    /// Rows of a quantized format as F32.
    pub(super) decoded: Vec<u8>,
}

impl FloatPanel {
    /// `out[m, n]`, rows [`RowPanel::ROWS`] apart.
    #[inline(always)]
    pub fn multiply<S: Simd, F: Floats>(
        &mut self,
        simd: S,
        weights: &FloatRowPanel<'_>,
        x: &FloatRows,
        out: &mut [f32],
    ) {
        let tiles = weights.rows.div_ceil(W);
        self.unpack::<S, F>(simd, weights, x.steps);
        self.waiting.resize(GROUP * tiles, Default::default());
        for (group, xs) in x.tiles.chunks(GROUP * x.steps).enumerate() {
            for first in (0..x.steps).step_by(BLOCK) {
                let end = x.steps.min(first + BLOCK);
                let weights = &self.weights[first * tiles..end * tiles];
                for (t, xs) in xs.chunks_exact(x.steps).enumerate() {
                    let m = (group * GROUP + t) * X;
                    let next = xs.as_ptr().wrapping_add(x.steps + first).cast::<u8>();
                    let waiting = &mut self.waiting[t * tiles..][..tiles];
                    for (n, (w, lanes)) in
                        weights.chunks_exact(end - first).zip(waiting).enumerate()
                    {
                        let block = Block {
                            w,
                            x: &xs[first..end],
                            rows: X.min(x.rows - m),
                            next: next.wrapping_add(n * w.len() * size_of::<Lanes>()),
                            first: first == 0,
                            last: end == x.steps,
                        };
                        let out = &mut out[m * RowPanel::ROWS + n * W..];
                        simd.apart(MultiplyBlock { block: &block, lanes, out });
                    }
                }
            }
        }
    }

    /// Weights to f32, into their places.
    #[inline(always)]
    fn unpack<S: Simd, F: Floats>(&mut self, simd: S, weights: &FloatRowPanel<'_>, steps: usize) {
        let FloatRowPanel { rows, bytes, .. } = *weights;
        let tiles = rows.div_ceil(W);
        self.weights.resize(tiles * steps, Default::default());
        for (n, row) in bytes.chunks_exact(bytes.len() / rows).enumerate() {
            let whole = F::sixteens(row);
            for first in (0..steps).step_by(BLOCK) {
                let len = BLOCK.min(steps - first);
                let place = &mut self.weights[first * tiles + n / W * len..][..len];
                for (weights, place) in whole[first..].iter().zip(place) {
                    simd.prefetch(std::ptr::from_ref(weights).cast::<u8>().wrapping_add(AHEAD));
                    simd.store(F::load(simd, weights), &mut place[n % W].0);
                }
            }
            let last = (steps - 1) / BLOCK * BLOCK;
            if whole.len() < steps {
                let place = last * tiles + n / W * (steps - last) + steps - 1 - last;
                let lanes = &mut self.weights[place][n % W].0;
                *lanes = [0.0; 16];
                F::tail(&row[16 * whole.len() * F::BYTES..], lanes);
            }
        }
    }
}

/// A tile of weights and a tile of activations over a block of columns.
struct Block<'a> {
    w: &'a [[Lanes; W]],
    x: &'a [[Lanes; X]],
    /// Of activations, 1 to [`X`].
    rows: usize,
    /// What to fetch, a line per step.
    next: *const u8,
    /// Of a row's blocks.
    first: bool,
    last: bool,
}

/// [`Block::multiply`] in a function of its own, which the formats share.
struct MultiplyBlock<'a> {
    block: &'a Block<'a>,
    lanes: &'a mut [[Lanes; W]; X],
    out: &'a mut [f32],
}

impl Task for MultiplyBlock<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        self.block.multiply(simd, self.lanes, self.out);
    }
}

impl Block<'_> {
    /// Adds the products to `lanes`; after the last block their sums are `out[m, n]`.
    #[inline(always)]
    fn multiply<S: Simd>(&self, simd: S, lanes: &mut [[Lanes; W]; X], out: &mut [f32]) {
        if const { S::TILE == 4 } {
            match self.rows {
                1 => self.part::<S, W, 1>(simd, [0, 0], lanes, out),
                2 => self.part::<S, W, 2>(simd, [0, 0], lanes, out),
                3 => self.part::<S, W, 3>(simd, [0, 0], lanes, out),
                4 => self.part::<S, W, 4>(simd, [0, 0], lanes, out),
                5 => self.part::<S, W, 5>(simd, [0, 0], lanes, out),
                _ => self.part::<S, W, X>(simd, [0, 0], lanes, out),
            }
        } else {
            // 16 registers of half the lanes: a quarter at a time.
            for n in [0, 2] {
                for m in (0..self.rows).step_by(3) {
                    match self.rows - m {
                        1 => self.part::<S, 2, 1>(simd, [n, m], lanes, out),
                        2 => self.part::<S, 2, 2>(simd, [n, m], lanes, out),
                        _ => self.part::<S, 2, 3>(simd, [n, m], lanes, out),
                    }
                }
            }
        }
    }

    /// `R` rows of weights from `n` on, `M` of activations from `m` on.
    #[inline(always)]
    fn part<S: Simd, const R: usize, const M: usize>(
        &self,
        simd: S,
        [n, m]: [usize; 2],
        lanes: &mut [[Lanes; W]; X],
        out: &mut [f32],
    ) {
        // Counted loops over arrays: what has a length at run time stays in memory.
        let mut acc = [[simd.splat(0.0); R]; M];
        if !self.first {
            for (i, acc) in acc.iter_mut().enumerate() {
                for (j, acc) in acc.iter_mut().enumerate() {
                    *acc = simd.load(&lanes[m + i][n + j].0);
                }
            }
        }
        for (k, (w, x)) in self.w.iter().zip(self.x).enumerate() {
            simd.prefetch(self.next.wrapping_add(k * size_of::<Lanes>()));
            let mut weights = [simd.splat(0.0); R];
            for (j, weights) in weights.iter_mut().enumerate() {
                *weights = simd.load(&w[n + j].0);
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                let x = simd.load(&x[m + i].0);
                for (acc, w) in acc.iter_mut().zip(weights) {
                    *acc = simd.fma(w, x, *acc);
                }
            }
        }
        for (i, acc) in acc.iter().enumerate() {
            if !self.last {
                for (j, acc) in acc.iter().enumerate() {
                    simd.store(*acc, &mut lanes[m + i][n + j].0);
                }
            } else if let Some(acc) = acc.first_chunk::<W>() {
                out[(m + i) * RowPanel::ROWS + n..][..W].copy_from_slice(&simd.sums(*acc));
            } else {
                for (j, acc) in acc.iter().enumerate() {
                    out[(m + i) * RowPanel::ROWS + n + j] = simd.sum(*acc);
                }
            }
        }
    }
}
