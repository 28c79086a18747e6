//! What attention is cut into: queries of one KV head and what they see.

use std::ops::Range;

use crate::kv_cache::{HeadShape, KvCache, PAGE};

use super::Sight;
use super::prepare::Prepare;

/// Pages of a chunk: 512 positions.
pub(super) const CHUNK: usize = 8;

/// Queries of a register tile.
pub(super) const TILE: usize = 4;

/// Queries of one KV head: `rows` × the heads of its group.
#[derive(Debug, Clone)]
pub(super) struct Block<'a> {
    pub cache: &'a KvCache,
    pub layer: usize,
    pub sight: Sight,
    /// Positions of the text so far, with those of the pass.
    pub end: usize,
    pub kv_head: usize,
    /// `[batch, q_dim]`, not prepared.
    pub q: &'a [f32],
    pub q_dim: usize,
    /// What the queries go through.
    pub prepare: Prepare<'a>,
    /// Scores are divided by it.
    pub divisor: f32,
    /// Then they go through `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// `[heads]`: what is then taken from a score per position of distance.
    pub slopes: Option<&'a [f32]>,
    /// `[heads]`: one more score in the sum of each head's softmax, without a value.
    pub sinks: Option<&'a [f32]>,
    /// Rows of the batch.
    pub rows: Range<usize>,
    /// Position of the first row.
    pub position: usize,
}

impl Block<'_> {
    pub fn head_dim(&self) -> usize {
        self.shape().head_dim
    }

    pub fn shape(&self) -> HeadShape {
        self.cache.shape().head(self.layer)
    }

    /// Query heads of the KV head.
    pub fn group(&self) -> usize {
        self.q_dim / self.head_dim() / self.cache.shape().layers()[self.layer].kv_heads
    }

    /// The sinks of the group's heads.
    pub fn group_sinks(&self) -> Option<&[f32]> {
        self.sinks.map(|sinks| self.of_group(sinks))
    }

    /// The slopes of the group's heads.
    pub fn group_slopes(&self) -> Option<&[f32]> {
        self.slopes.map(|slopes| self.of_group(slopes))
    }

    fn of_group<'h>(&self, heads: &'h [f32]) -> &'h [f32] {
        let group = self.group();
        &heads[self.kv_head * group..(self.kv_head + 1) * group]
    }

    /// Positions that row number `row` of the block sees.
    pub fn seen_by(&self, row: usize) -> Range<usize> {
        let position = self.position + row;
        match self.sight {
            Sight::Before => self.cache.seen(self.layer, position),
            Sight::Around { reach } => {
                let last = position.saturating_add(reach).saturating_add(1);
                position.saturating_sub(reach)..last.min(self.end)
            }
        }
    }

    /// Positions that any row sees.
    pub fn seen(&self) -> Range<usize> {
        let last = self.rows.len().saturating_sub(1);
        self.seen_by(0).start..self.seen_by(last).end
    }

    /// The chunks that any row sees.
    pub fn chunks(&self) -> Range<usize> {
        let seen = self.seen();
        seen.start / (CHUNK * PAGE)..seen.end.div_ceil(CHUNK * PAGE)
    }
}
