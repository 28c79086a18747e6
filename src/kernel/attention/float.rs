//! Attention in f32, one row after the other.
//!
//! For each page of 64 positions, in ascending order:
//! ```text
//! s[j] = (q · k[j]) / divisor          m' = max s        p[j] = e^(s[j] − m')
//!        − slope · |i − j|             of heads with a slope
//! l' = Σ p[j]                          o' = Σ p[j] · v[j]   (j ascending)
//! merge: m″ = max(m, m'), (l, o) = e^(m − m″)·(l, o) + e^(m' − m″)·(l', o')
//! ```
//! beginning at (m, l, o) = (−∞, 0, 0), or (sink, 1, 0) for heads with a sink,
//! and the result is `o / l` (online softmax: Milakov & Gimelshein 2018). Pages
//! are aligned to absolute positions, so the sums do not depend on how the
//! prompt was cut. The query heads of a group share each key and value row.

use std::ops::Range;

use super::block::Block;
use crate::kernel::math::{add_scaled, dot, exp, map, soft_cap};
use crate::kv_cache::{Head, PAGE};
use crate::simd::{Simd, Task};

/// The rows of a block, whose cache holds f32.
pub(super) struct Float<'a, 'o> {
    pub block: &'a Block<'a>,
    /// `[rows]` of `[group, head_dim]`
    pub outs: &'a mut [&'o mut [f32]],
}

impl Task for Float<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let block = self.block;
        let head_dim = block.head_dim();
        let group_dim = block.group() * head_dim;
        let mut query = vec![0.0; group_dim];
        for (i, (row, out)) in block.rows.clone().zip(self.outs).enumerate() {
            let start = row * block.q_dim + block.kv_head * group_dim;
            query.copy_from_slice(&block.q[start..start + group_dim]);
            for head in query.chunks_exact_mut(head_dim) {
                block.prepare.head(simd, row, head);
            }
            attend(simd, block, &query, (block.position + i, block.seen_by(i)), out);
        }
    }
}

/// The row at `position`: `query` and `out` are `[group, head_dim]`.
#[inline(always)]
fn attend<S: Simd>(
    simd: S,
    block: &Block<'_>,
    query: &[f32],
    (position, seen): (usize, Range<usize>),
    out: &mut [f32],
) {
    let head_dim = block.head_dim();
    let group = query.len() / head_dim;
    let mut running = vec![Running { max: f32::NEG_INFINITY, sum: 0.0 }; group];
    for (running, &sink) in running.iter_mut().zip(block.group_sinks().unwrap_or_default()) {
        *running = Running { max: sink, sum: 1.0 };
    }
    let mut of_page = running.clone();
    let mut weights = vec![[0.0; PAGE]; group];
    let mut partial = vec![0.0; group * head_dim]; // [group, head_dim]
    let scale = 1.0 / block.divisor;
    out.fill(0.0);
    for number in seen.start / PAGE..seen.end.div_ceil(PAGE) {
        let slots = seen.start.saturating_sub(number * PAGE)..(seen.end - number * PAGE).min(PAGE);
        let head = block.cache.head(block.layer, number, block.kv_head);
        let Some(Head::F32 { keys, values }) = head else { continue };
        let (keys, values) = (keys.chunks_exact(head_dim), values.chunks_exact(head_dim));
        for (slot, key) in keys.enumerate().take(slots.end).skip(slots.start) {
            for (weights, query) in weights.iter_mut().zip(query.chunks_exact(head_dim)) {
                weights[slot] = dot(simd, query, key) * scale;
            }
        }
        if let Some(cap) = block.soft_cap {
            for weights in &mut weights {
                map(simd, weights, |score| soft_cap(simd, cap, score));
            }
        }
        for (weights, &slope) in weights.iter_mut().zip(block.group_slopes().unwrap_or_default()) {
            for (slot, score) in weights.iter_mut().enumerate() {
                *score -= slope * position.abs_diff(number * PAGE + slot) as f32;
            }
        }
        for (of_page, weights) in of_page.iter_mut().zip(&mut weights) {
            *of_page = softmax(simd, weights, slots.clone());
        }
        partial.fill(0.0);
        for (slot, value) in values.enumerate().take(slots.end).skip(slots.start) {
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

/// Softmax state of one query head: everything is relative to `e^max`.
#[derive(Clone, Copy)]
struct Running {
    max: f32,
    sum: f32,
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
