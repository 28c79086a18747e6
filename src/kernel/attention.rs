//! Grouped-query attention of one row over the positions it sees.
//!
//! For each page of 64 positions, in ascending order:
//! ```text
//! s[j] = (q · k[j]) / √head_dim        m' = max s        p[j] = e^(s[j] − m')
//! l' = Σ p[j]                          o' = Σ p[j] · v[j]   (j ascending)
//! merge: m″ = max(m, m'), (l, o) = e^(m − m″)·(l, o) + e^(m' − m″)·(l', o')
//! ```
//! and the result is `o / l` (online softmax: Milakov & Gimelshein 2018). Pages
//! are aligned to absolute positions, so the sums do not depend on how the
//! prompt was cut. The query heads of a group share each key and value row.

use std::ops::Range;

use super::math::{add_scaled, dot, exp, map, widen};
use crate::kv_cache::{PAGE, Rows, View};
use crate::simd::{Simd, Task};

/// One row and one KV head with its group of query heads.
pub(crate) struct Attention<'a> {
    /// `[group, head_dim]`
    pub query: &'a [f32],
    pub kv_head: usize,
    pub head_dim: usize,
    pub seen: View<'a>,
    /// `[group, head_dim]`
    pub out: &'a mut [f32],
}

/// Softmax state of one query head: everything is relative to `e^max`.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
}

impl Task for Attention<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Attention { query, kv_head, head_dim, seen, out } = self;
        let group = query.len() / head_dim;
        let mut running = vec![Running { max: f32::NEG_INFINITY, sum: 0.0 }; group];
        let mut of_page = running.clone();
        let mut weights = vec![[0.0; PAGE]; group];
        let mut partial = vec![0.0; group * head_dim]; // [group, head_dim]
        let mut row = vec![0.0; head_dim];
        let scale = 1.0 / (head_dim as f32).sqrt();
        out.fill(0.0);
        for (page, slots) in seen.pages() {
            for slot in slots.clone() {
                let key = read(simd, &page.keys, kv_head * PAGE + slot, &mut row);
                for (weights, query) in weights.iter_mut().zip(query.chunks_exact(head_dim)) {
                    weights[slot] = dot(simd, query, key) * scale;
                }
            }
            for (of_page, weights) in of_page.iter_mut().zip(&mut weights) {
                *of_page = softmax(simd, weights, slots.clone());
            }
            partial.fill(0.0);
            for slot in slots {
                let value = read(simd, &page.values, kv_head * PAGE + slot, &mut row);
                for (weights, sum) in weights.iter().zip(partial.chunks_exact_mut(head_dim)) {
                    add_scaled(simd, weights[slot], value, sum);
                }
            }
            let outs = out.chunks_exact_mut(head_dim).zip(partial.chunks_exact(head_dim));
            for ((running, of_page), (out, partial)) in running.iter_mut().zip(&of_page).zip(outs) {
                running.merge(simd, *of_page, out, partial);
            }
        }
        for (out, running) in out.chunks_exact_mut(head_dim).zip(&running) {
            for x in out {
                *x /= running.sum;
            }
        }
    }
}

/// Row `row` of `[kv_heads · PAGE, head_dim]` as f32.
#[inline(always)]
fn read<'a, S: Simd>(simd: S, rows: &'a Rows, row: usize, scratch: &'a mut [f32]) -> &'a [f32] {
    let span = row * scratch.len()..(row + 1) * scratch.len();
    match rows {
        Rows::F16(rows) => {
            widen(simd, &rows[span], scratch);
            scratch
        }
        Rows::F32(rows) => &rows[span],
    }
}

/// Turns the scores of the seen slots into `e^(score − max)`, all others into 0.
#[inline(always)]
fn softmax<S: Simd>(simd: S, scores: &mut [f32; PAGE], seen: Range<usize>) -> Running {
    let max = scores[seen.clone()].iter().fold(f32::NEG_INFINITY, |max, &s| max.max(s));
    let minus_max = simd.splat(-max);
    map(simd, scores, |s| exp(simd, simd.add(s, minus_max)));
    scores[..seen.start].fill(0.0);
    scores[seen.end..].fill(0.0);
    let mut sum = simd.splat(0.0);
    for lanes in scores.as_chunks::<16>().0 {
        sum = simd.add(sum, simd.load(lanes));
    }
    Running { max, sum: simd.sum(sum) }
}

impl Running {
    /// Adds a page's part to what came before.
    #[inline(always)]
    fn merge<S: Simd>(&mut self, simd: S, page: Running, out: &mut [f32], partial: &[f32]) {
        let max = self.max.max(page.max);
        let mut factors = [0.0; 16];
        factors[..2].copy_from_slice(&[self.max - max, page.max - max]);
        map(simd, &mut factors, |x| exp(simd, x));
        // Nothing came before the first page: e^(−∞) is 0, not e^(−87).
        let before = if self.sum == 0.0 { 0.0 } else { factors[0] };
        let now = factors[1];
        map(simd, out, |x| simd.mul(x, simd.splat(before)));
        add_scaled(simd, now, partial, out);
        *self = Running { max, sum: now.mul_add(page.sum, before * self.sum) };
    }
}
