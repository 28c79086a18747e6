//! Linear recurrences over the rows of a text: the gated delta rule (Yang et al. 2024) and
//! the one of Mamba-2 (Dao & Gu 2024).
//!
//! A head has a matrix S of `key_dim` rows and `value_dim` columns, zero at first. For each
//! row of the text, with its query q, key k, value v, decay g and factor β:
//!
//! ```text
//! u = β · (v − g · Sᵀk)    delta rule; Mamba-2: u = β · v
//! S ← g · S + k uᵀ
//! o = Sᵀ q
//! ```
//! A column of S meets no other column. So 16 columns at a time go through all rows of a
//! pass, in the first-level cache: S lies in memory as
//! `[heads][blocks of 16 columns][key_dim][16]`, padded with columns of zeros. One row after
//! the other, in prompts too: what a row gets does not depend on the cut of the text. By a
//! count of operations that is less than a tenth of what a prompt's products with weights cost.

use std::ops::Range;

use super::math::padded;
use super::pool::Team;
use crate::kv_cache::StatePass;
use crate::simd::{Isa, Simd, Task};

/// Heads side by side in the rows of a matrix.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Heads<'a> {
    /// `[rows, width]`
    pub values: &'a [f32],
    pub width: usize,
    /// Where in a row the first head begins.
    pub offset: usize,
    pub dim: usize,
}

impl<'a> Heads<'a> {
    #[inline(always)]
    fn get(&self, row: usize, head: usize) -> &'a [f32] {
        &self.values[row * self.width + self.offset + head * self.dim..][..self.dim]
    }
}

/// One step of a recurrence for all rows of a pass.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Recurrence<'a> {
    /// Whether `u` depends on S.
    pub delta: bool,
    /// Heads of values; those of queries and keys divide them.
    pub heads: usize,
    /// The head of queries and keys that each head reads.
    pub key_head: &'a [usize],
    pub q: Heads<'a>,
    pub k: Heads<'a>,
    pub v: Heads<'a>,
    /// `[rows, heads]`
    pub decay: &'a [f32],
    /// `[rows, heads]`
    pub factor: &'a [f32],
}

/// Floats of the state of `heads` heads.
pub(crate) fn state_len(heads: usize, key_dim: usize, value_dim: usize) -> usize {
    heads * blocks(value_dim) * key_dim * 16
}

/// Blocks of 16 columns.
pub(crate) fn blocks(value_dim: usize) -> usize {
    value_dim.div_ceil(16)
}

/// A block of columns on its way through the rows of one text.
struct Item<'a> {
    head: usize,
    block: usize,
    before: Option<&'a [f32]>,
    after: &'a mut [f32],
    mark: Option<(usize, &'a mut [f32])>,
    rows: Range<usize>,
    /// `[rows][16]`
    out: &'a mut [f32],
}

impl Recurrence<'_> {
    /// `out ← o`, `[heads][blocks][rows][16]`, and the states of the texts behind it.
    /// `texts`: this step's part of each text's state, and its rows.
    pub fn run(
        &self,
        team: &Team<'_>,
        isa: Isa,
        texts: Vec<(StatePass<'_>, Range<usize>)>,
        out: &mut [f32],
    ) {
        let (key_dim, blocks) = (self.k.dim, blocks(self.v.dim));
        let count = self.heads * blocks;
        let rows = texts.last().map_or(0, |(_, rows)| rows.end);
        let mut outs: Vec<&mut [f32]> = out.chunks_exact_mut(rows.max(1) * 16).collect();
        let mut items = Vec::with_capacity(count * texts.len());
        for (StatePass { before, after, mark }, rows) in texts {
            let (marked, mark) = mark.map_or((0, None), |(rows, mark)| (rows, Some(mark)));
            let mut marks = mark.into_iter().flat_map(|mark| mark.chunks_exact_mut(key_dim * 16));
            let afters = after.chunks_exact_mut(key_dim * 16);
            for (index, (after, outs)) in afters.zip(&mut outs).enumerate() {
                let (out, rest) = std::mem::take(outs).split_at_mut(rows.len() * 16);
                *outs = rest;
                items.push(Item {
                    head: index / blocks,
                    block: index % blocks,
                    before: before.map(|before| &before[index * key_dim * 16..][..key_dim * 16]),
                    after,
                    mark: marks.next().map(|mark| (marked, mark)),
                    rows: rows.clone(),
                    out,
                });
            }
        }
        team.share(&mut items, |_, item| isa.run(Columns { step: self, item }));
    }
}

/// One item's columns through all its rows.
struct Columns<'a, 'i> {
    step: &'a Recurrence<'a>,
    item: &'a mut Item<'i>,
}

impl Task for Columns<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Columns { step, item } = self;
        let Item { head, block, before, after, mark, rows, out } = item;
        let (head, block) = (*head, *block);
        match before {
            Some(before) => after.copy_from_slice(before),
            None => after.fill(0.0),
        }
        let state = after.as_chunks_mut::<16>().0;
        let key_head = step.key_head[head];
        let columns = block * 16..step.v.dim.min(block * 16 + 16);
        let outs = out.as_chunks_mut::<16>().0;
        for (done, (row, out)) in rows.clone().zip(outs).enumerate() {
            if let Some((rows, mark)) = mark
                && *rows == done
            {
                mark.copy_from_slice(state.as_flattened());
            }
            let v = simd.load(&padded(&step.v.get(row, head)[columns.clone()]));
            let at = row * step.heads + head;
            let (decay, factor) = (step.decay[at], step.factor[at]);
            let k = step.k.get(row, key_head);
            let mut u = v;
            if step.delta {
                let seen = project(simd, state, k);
                u = simd.fma(simd.splat(-decay), seen, v);
            }
            let u = simd.mul(simd.splat(factor), u);
            let o = update(simd, state, (k, step.q.get(row, key_head)), simd.splat(decay), u);
            simd.store(o, out);
        }
    }
}

/// `Sᵀ k`. Four sums, since each addition waits for the one before it.
#[inline(always)]
fn project<S: Simd>(simd: S, state: &[[f32; 16]], k: &[f32]) -> S::F32x16 {
    let mut sums = [simd.splat(0.0); 4];
    let (s4, s_tail) = state.as_chunks::<4>();
    let (k4, k_tail) = k.as_chunks::<4>();
    for (s, k) in s4.iter().zip(k4) {
        for i in 0..4 {
            sums[i] = simd.fma(simd.splat(k[i]), simd.load(&s[i]), sums[i]);
        }
    }
    for (s, &k) in s_tail.iter().zip(k_tail) {
        sums[0] = simd.fma(simd.splat(k), simd.load(s), sums[0]);
    }
    simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]))
}

/// `S ← g · S + k uᵀ`; `Sᵀ q`.
#[inline(always)]
fn update<S: Simd>(
    simd: S,
    state: &mut [[f32; 16]],
    (k, q): (&[f32], &[f32]),
    decay: S::F32x16,
    u: S::F32x16,
) -> S::F32x16 {
    let mut sums = [simd.splat(0.0); 4];
    let (s4, s_tail) = state.as_chunks_mut::<4>();
    let ((k4, k_tail), (q4, q_tail)) = (k.as_chunks::<4>(), q.as_chunks::<4>());
    for ((s, k), q) in s4.iter_mut().zip(k4).zip(q4) {
        for i in 0..4 {
            let new = simd.fma(simd.splat(k[i]), u, simd.mul(decay, simd.load(&s[i])));
            simd.store(new, &mut s[i]);
            sums[i] = simd.fma(simd.splat(q[i]), new, sums[i]);
        }
    }
    for ((s, &k), &q) in s_tail.iter_mut().zip(k_tail).zip(q_tail) {
        let new = simd.fma(simd.splat(k), u, simd.mul(decay, simd.load(s)));
        simd.store(new, s);
        sums[0] = simd.fma(simd.splat(q), new, sums[0]);
    }
    simd.add(simd.add(sums[0], sums[1]), simd.add(sums[2], sums[3]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::pool::Pool;

    fn numbers(seed: usize, len: usize, scale: f32) -> Vec<f32> {
        let number = |i: usize| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0;
        (0..len).map(|i| number(i) * scale).collect()
    }

    /// Sizes that fill neither blocks nor unrolled loops.
    const ROWS: usize = 11;
    const HEADS: usize = 4;
    const KEY_HEADS: [usize; HEADS] = [0, 1, 0, 1];
    const KEY_DIM: usize = 7;
    const VALUE_DIM: usize = 20;

    struct Case {
        delta: bool,
        q: Vec<f32>,
        k: Vec<f32>,
        v: Vec<f32>,
        decay: Vec<f32>,
        factor: Vec<f32>,
    }

    impl Case {
        fn new(delta: bool) -> Case {
            let keys = ROWS * 2 * KEY_DIM;
            Case {
                delta,
                q: numbers(1, keys, 0.5),
                k: numbers(2, keys, 0.5),
                v: numbers(3, ROWS * HEADS * VALUE_DIM, 1.0),
                decay: numbers(4, ROWS * HEADS, 0.4).iter().map(|x| x + 0.5).collect(),
                factor: numbers(5, ROWS * HEADS, 0.4).iter().map(|x| x + 0.5).collect(),
            }
        }

        fn step(&self, from: usize) -> Recurrence<'_> {
            fn heads(values: &[f32], from: usize, count: usize, dim: usize) -> Heads<'_> {
                let width = count * dim;
                Heads { values: &values[from * width..], width, offset: 0, dim }
            }
            Recurrence {
                delta: self.delta,
                heads: HEADS,
                key_head: &KEY_HEADS,
                q: heads(&self.q, from, 2, KEY_DIM),
                k: heads(&self.k, from, 2, KEY_DIM),
                v: heads(&self.v, from, HEADS, VALUE_DIM),
                decay: &self.decay[from * HEADS..],
                factor: &self.factor[from * HEADS..],
            }
        }

        /// Results `[rows][heads · dim]` in parts of `chunk` rows, and the state behind row 5.
        fn run(&self, isa: Isa, threads: usize, chunk: usize) -> (Vec<f32>, Vec<f32>) {
            let len = state_len(HEADS, KEY_DIM, VALUE_DIM);
            let (mut before, mut marked): (Option<Vec<f32>>, _) = (None, Vec::new());
            let mut results = Vec::new();
            let pool = Pool::new(threads).unwrap();
            for from in (0..ROWS).step_by(chunk) {
                let rows = chunk.min(ROWS - from);
                let (mut after, mut mark) = (vec![f32::NAN; len], vec![f32::NAN; len]);
                let mut out = vec![f32::NAN; HEADS * blocks(VALUE_DIM) * rows * 16];
                let inside = (from < 5 && 5 < from + rows).then_some(5 - from.min(5));
                let pass = StatePass {
                    before: before.as_deref(),
                    after: &mut after,
                    mark: inside.map(|rows| (rows, &mut mark[..])),
                };
                pool.region(|team| {
                    self.step(from).run(team, isa, vec![(pass, 0..rows)], &mut out);
                });
                if from + rows == 5 {
                    marked = after.clone();
                } else if inside.is_some() {
                    marked = mark;
                }
                before = Some(after);
                for row in 0..rows {
                    for head in 0..HEADS {
                        for column in 0..VALUE_DIM {
                            let block = head * blocks(VALUE_DIM) + column / 16;
                            results.push(out[(block * rows + row) * 16 + column % 16]);
                        }
                    }
                }
            }
            (results, marked)
        }

        /// From the definition, in f64: of each head the columns, each `[KEY_DIM]`.
        fn exact(&self) -> Vec<f64> {
            let mut states = vec![[[0f64; KEY_DIM]; VALUE_DIM]; HEADS];
            let mut results = Vec::new();
            for row in 0..ROWS {
                for (head, columns) in states.iter_mut().enumerate() {
                    let key = |all: &[f32]| -> Vec<f64> {
                        let start = (row * 2 + KEY_HEADS[head]) * KEY_DIM;
                        all[start..start + KEY_DIM].iter().map(|&x| x.into()).collect()
                    };
                    let (q, k) = (key(&self.q), key(&self.k));
                    let dot =
                        |s: &[f64], k: &[f64]| -> f64 { s.iter().zip(k).map(|(s, k)| s * k).sum() };
                    let g = f64::from(self.decay[row * HEADS + head]);
                    let factor = f64::from(self.factor[row * HEADS + head]);
                    for (column, s) in columns.iter_mut().enumerate() {
                        let v = f64::from(self.v[(row * HEADS + head) * VALUE_DIM + column]);
                        let u = factor * if self.delta { v - g * dot(s, &k) } else { v };
                        s.iter_mut().zip(&k).for_each(|(s, k)| *s = g * *s + k * u);
                        results.push(dot(s, &q));
                    }
                }
            }
            results
        }
    }

    #[test]
    fn equals_the_definition_however_it_is_cut_on_every_set() {
        for delta in [true, false] {
            let case = Case::new(delta);
            let first = case.run(Isa::detect(), 1, ROWS);
            for (ours, exact) in first.0.iter().zip(case.exact()) {
                assert!((f64::from(*ours) - exact).abs() < 1e-5, "{delta}: {ours} {exact}");
            }
            for isa in Isa::available() {
                for (threads, chunk) in [(1, ROWS), (2, 1), (3, 5), (2, 4)] {
                    assert_eq!(case.run(isa, threads, chunk), first, "{delta} {isa} {chunk}");
                }
            }
        }
    }
}
