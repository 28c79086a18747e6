//! The queries of a block as integer codes, and what else is known of each.

use std::ops::Range;

use crate::kv_cache::max_code;
use crate::simd::Simd;

use super::block::{Block, TILE};
use super::fixed::quantize;
use super::weigh::Distances;

/// Codes of the queries, padded to whole tiles with queries that see nothing.
#[derive(Debug, Default)]
pub(super) struct Queries {
    /// `[tiles, steps, TILE]` pairs
    pub codes: Vec<[[i16; 2]; TILE]>,
    /// `[queries]`
    pub scales: Vec<f32>,
    /// `[queries]`: the positions seen
    pub seen: Vec<Range<usize>>,
    /// `[queries]`: the position of each, and what is taken from its scores per position of
    /// distance; empty where nothing is.
    slopes: Vec<(usize, f32)>,
    /// Pairs of a query.
    pub steps: usize,
    /// The block's soft cap, in units of the scores here; 0 without.
    pub soft_cap: f32,
}

impl Queries {
    /// Prepares and quantizes the block's queries.
    #[inline(always)]
    pub fn fill<S: Simd>(&mut self, simd: S, block: &Block<'_>) {
        let (head_dim, group) = (block.head_dim(), block.group());
        let padded = head_dim.next_multiple_of(32);
        let queries = (block.rows.len() * group).next_multiple_of(TILE);
        self.steps = block.shape().width() * 8;
        self.codes.clear();
        self.codes.resize(queries / TILE * self.steps, [[0; 2]; TILE]);
        self.scales.clear();
        self.scales.resize(queries, 1.0);
        self.seen.clear();
        self.seen.resize(queries, 0..0);
        self.slopes.clear();
        let slopes = block.group_slopes();
        if slopes.is_some() {
            self.slopes.resize(queries, (0, 0.0));
        }
        let unit = std::f32::consts::LOG2_E / block.divisor;
        self.soft_cap = block.soft_cap.map_or(0.0, |cap| cap * std::f32::consts::LOG2_E);
        let (mut query, mut codes) = (vec![0.0; padded], vec![0; padded]);
        for (i, row) in block.rows.clone().enumerate() {
            for h in 0..group {
                let start = row * block.q_dim + (block.kv_head * group + h) * head_dim;
                query[..head_dim].copy_from_slice(&block.q[start..start + head_dim]);
                block.prepare.head(simd, row, &mut query[..head_dim]);
                let n = i * group + h;
                self.scales[n] = quantize(simd, &query, max_code(head_dim), &mut codes) * unit;
                self.seen[n] = block.seen_by(i);
                if let Some(slopes) = slopes {
                    let slope = slopes[h] * std::f32::consts::LOG2_E;
                    self.slopes[n] = (block.position + i, slope);
                }
                let tile = &mut self.codes[n / TILE * self.steps..][..self.steps];
                for (tile, pair) in tile.iter_mut().zip(codes.as_chunks::<2>().0) {
                    tile[n % TILE] = *pair;
                }
            }
        }
    }

    /// What is taken from the scores of query `n` with the page that begins at `first`.
    pub fn distances(&self, n: usize, first: usize) -> Option<Distances> {
        let &(position, slope) = self.slopes.get(n)?;
        // Distances beyond 2²⁴ are rounded, the same everywhere.
        Some(Distances { slope, from_first: position as f32 - first as f32 })
    }
}
