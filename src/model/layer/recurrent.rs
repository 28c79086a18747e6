//! What recurrent layers have in common: a convolution of what they read, and the recurrence of
//! their heads.

use crate::kernel::act::Activation;
use crate::kernel::conv::Conv;
use crate::kernel::recurrence::{Heads, Recurrence, blocks};
use crate::model::plan::{self, ConvWeights};
use crate::model::state::RecurrentBuffers;

use super::{Pass, states};

/// Where in a row of `behind` the heads of queries, keys and values begin.
pub(super) struct Offsets {
    pub q: usize,
    pub k: usize,
    pub v: usize,
}

impl ConvWeights {
    /// The convolution without an activation behind it.
    pub(super) fn for_kernel(&self) -> Conv<'_> {
        let ConvWeights { channels, weight, bias } = self;
        Conv { channels: *channels, weight, bias: bias.as_deref(), activation: None }
    }

    /// `behind ← silu(conv(before))`; its past is the first part of the layer's state.
    pub(super) fn run(&self, pass: &mut Pass<'_, '_>, state: usize) {
        let rows = pass.rows();
        let Pass { team, isa, state: buffers, feeds, spans, .. } = &mut *pass;
        let RecurrentBuffers { before, behind, .. } = &mut buffers.recurrent;
        behind.resize(rows * self.channels, 0.0);
        let texts = states(feeds, spans, state, 0..self.state_len());
        let activation = Some(Activation::Silu);
        Conv { activation, ..self.for_kernel() }.run(team, *isa, texts, before, behind);
    }
}

impl plan::Heads {
    /// `out ←` the recurrence over the heads in `behind`; their matrices follow the past of
    /// `conv` in the layer's state. `delta`: see [`Recurrence`].
    pub(super) fn run(
        &self,
        pass: &mut Pass<'_, '_>,
        (conv, state): (&ConvWeights, usize),
        delta: bool,
        offsets: Offsets,
    ) {
        let rows = pass.rows();
        let plan::Heads { key_dim, value_heads, value_dim, key_head, .. } = self;
        let Pass { team, isa, state: buffers, feeds, spans, .. } = &mut *pass;
        let RecurrentBuffers { behind, decay, factor, out, .. } = &mut buffers.recurrent;
        out.resize(rows * value_heads * blocks(*value_dim) * 16, 0.0);
        let values = &**behind;
        let heads = |offset, dim| Heads { values, width: conv.channels, offset, dim };
        let step = Recurrence {
            delta,
            heads: *value_heads,
            key_head,
            q: heads(offsets.q, *key_dim),
            k: heads(offsets.k, *key_dim),
            v: heads(offsets.v, *value_dim),
            decay,
            factor,
        };
        let part = conv.state_len()..conv.state_len() + self.state_len();
        step.run(team, *isa, states(feeds, spans, state, part), out);
    }
}

/// A row of a recurrence's result, `[heads · dim]`, of `[heads][blocks][rows][16]`.
pub(super) fn gather(out: &[f32], dim: usize, rows: usize, row: usize, y: &mut [f32]) {
    let mut blocks = out.chunks_exact(rows * 16);
    for head in y.chunks_exact_mut(dim) {
        for (y, block) in head.chunks_mut(16).zip(&mut blocks) {
            y.copy_from_slice(&block[row * 16..][..y.len()]);
        }
    }
}
