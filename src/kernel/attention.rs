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

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kv_cache::{KvCache, KvShape, KvType};
    use crate::simd::Isa;

    const HEAD_DIM: usize = 24; // no whole number of vectors
    const GROUP: usize = 3;
    const KV_HEADS: usize = 2;

    fn number(seed: usize) -> f32 {
        ((seed * 2_654_435_761) as u32 as f32 / u32::MAX as f32 - 0.5) * 4.0
    }

    fn row(seed: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| number(seed * 1000 + i)).collect()
    }

    /// Softmax attention straight from its definition, in f64.
    fn naive(query: &[f32], kv_head: usize, seen: Range<usize>) -> Vec<f64> {
        let width = KV_HEADS * HEAD_DIM;
        let part = |row: Vec<f32>| row[kv_head * HEAD_DIM..(kv_head + 1) * HEAD_DIM].to_vec();
        let scores: Vec<f64> = seen
            .clone()
            .map(|p| {
                let products = query.iter().zip(part(row(2 * p, width)));
                let dot: f64 = products.map(|(a, b)| f64::from(*a) * f64::from(b)).sum();
                (dot / (HEAD_DIM as f64).sqrt()).exp()
            })
            .collect();
        let total: f64 = scores.iter().sum();
        let mut out = vec![0.0; HEAD_DIM];
        for (p, weight) in seen.zip(scores) {
            for (out, v) in out.iter_mut().zip(part(row(2 * p + 1, width))) {
                *out += weight / total * f64::from(v);
            }
        }
        out
    }

    #[test]
    fn equals_the_definition_on_every_set_and_across_pages() {
        for window in [None, Some(1), Some(64), Some(70)] {
            let shape = KvShape {
                windows: vec![window],
                kv_heads: KV_HEADS,
                head_dim: HEAD_DIM,
                kv_type: KvType::F32,
            };
            let mut cache = KvCache::new(Arc::new(shape), 300);
            cache.reserve(200).unwrap();
            for p in 0..200 {
                let width = KV_HEADS * HEAD_DIM;
                cache.write(0, p, &row(2 * p, width), &row(2 * p + 1, width));
            }
            for position in [0, 1, 63, 64, 65, 127, 128, 199] {
                let start = window.map_or(0, |w| (position + 1usize).saturating_sub(w));
                for kv_head in 0..KV_HEADS {
                    let query = row(77 + position, GROUP * HEAD_DIM);
                    let mut first: Option<Vec<f32>> = None;
                    for isa in Isa::available() {
                        let mut out = vec![f32::NAN; GROUP * HEAD_DIM];
                        let seen = cache.view(0, position);
                        let (query, head_dim) = (&query[..], HEAD_DIM);
                        isa.run(Attention { query, kv_head, head_dim, seen, out: &mut out });
                        for (query, out) in query.chunks(HEAD_DIM).zip(out.chunks(HEAD_DIM)) {
                            let exact = naive(query, kv_head, start..position + 1);
                            for (a, b) in out.iter().zip(exact) {
                                assert!((f64::from(*a) - b).abs() < 1e-5, "{isa} {window:?}");
                            }
                        }
                        assert_eq!(*first.get_or_insert_with(|| out.clone()), out, "{isa}");
                    }
                }
            }
        }
    }
}
