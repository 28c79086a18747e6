//! What a forward pass works on: the tokens of conversations, and buffers.

use crate::kernel::matmul::Input;
use crate::kernel::rope::RotaryTable;
use crate::kernel::route::Choice;
use crate::kv_cache::KvCache;

/// Tokens for one conversation.
pub(crate) struct Feed<'a> {
    pub cache: &'a mut KvCache,
    pub tokens: &'a [u32],
    pub wanted: Wanted,
}

/// What a [`Feed`] is computed for, beside its keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    None,
    /// The logits after the last token.
    Last,
    /// The logits after every token.
    All,
    /// The hidden state of every token after the final norm: what the output
    /// matrix would multiply.
    Hidden,
    /// The same of two texts that are read together; the second begins at this row.
    HiddenOfPair(usize),
}

/// Buffers of the forward pass, reused from call to call. The layers size those that
/// they use.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// `[rows, dim]`: the residual stream.
    pub(super) x: Vec<f32>,
    /// What the next matrices multiply.
    pub(super) input: Input,
    /// `[rows, heads · head_dim]`, `[rows, kv_heads · head_dim]` twice.
    pub(super) q: Vec<f32>,
    pub(super) k: Vec<f32>,
    pub(super) v: Vec<f32>,
    /// `[rows, heads · 2 · head_dim]`, queries and gates; `[rows, heads · head_dim]`, gates.
    pub(super) gated_q: Vec<f32>,
    pub(super) gates: Vec<f32>,
    /// `[rows, ffn_dim]`: what the last matrix of a feed-forward network multiplies.
    pub(super) gated: Vec<f32>,
    /// `[rows, dim]`: a branch before it is added.
    pub(super) branch: Vec<f32>,
    /// `[rows, dim]`: what both branches of a layer read.
    pub(super) same: Vec<f32>,
    /// `[rows, dim]`: the residual stream before a mixer, where it is added once more.
    pub(super) before: Vec<f32>,
    /// `[rows, dim]`: the sum of networks beside each other.
    pub(super) beside: Vec<f32>,
    /// `[rows, layers · width]`: what layers read beside the residual stream.
    pub(super) layer_inputs: Vec<f32>,
    pub(super) experts: ExpertBuffers,
    pub(super) latent: LatentBuffers,
    pub(super) recurrent: RecurrentBuffers,
    /// One for each of the plan's ropes.
    pub(super) rotary: Vec<RotaryTable>,
    /// `[rows that want logits, n_vocab]`
    pub logits: Vec<f32>,
    /// `[rows that want hidden states, dim]`
    pub hidden: Vec<f32>,
}

/// What layers with a recurrent state work on.
#[derive(Debug, Default)]
pub(crate) struct RecurrentBuffers {
    /// `[rows, channels]`: before and behind the convolution.
    pub(super) before: Vec<f32>,
    pub(super) behind: Vec<f32>,
    /// `[rows, heads · value_dim]`: gates of the result.
    pub(super) gate: Vec<f32>,
    /// `[rows, …]`: products of which decays and factors come.
    pub(super) scalars: Vec<Vec<f32>>,
    /// `[rows, heads]`
    pub(super) decay: Vec<f32>,
    pub(super) factor: Vec<f32>,
    /// `[heads][blocks][rows][16]`: the result.
    pub(super) out: Vec<f32>,
}

/// What latent attention works on.
#[derive(Debug, Default)]
pub(crate) struct LatentBuffers {
    /// `[rows, q_rank]`
    pub(super) q_down: Vec<f32>,
    /// `[rows, rank + n_rot]`
    pub(super) kv_down: Vec<f32>,
    /// `[rows, heads · key_dim]`
    pub(super) queries: Vec<f32>,
    /// `[rows, heads · key_dim]`: the mean of values that each head sees.
    pub(super) seen: Vec<f32>,
    pub(super) heads: Vec<HeadBuffers>,
}

/// A head's rows.
#[derive(Debug, Default)]
pub(crate) struct HeadBuffers {
    pub(super) input: Input,
    /// What a matrix of the head gives.
    pub(super) out: Vec<f32>,
}

/// What experts work on.
#[derive(Debug, Default)]
pub(crate) struct ExpertBuffers {
    /// `[rows, experts]`
    pub(super) logits: Vec<f32>,
    /// `[rows, used]`
    pub(super) choices: Vec<Choice>,
    /// One for each expert that has rows.
    pub(super) turns: Vec<Turn>,
}

/// The rows of one expert.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    pub(super) expert: usize,
    /// Which rows of the pass.
    pub(super) rows: Vec<usize>,
    /// What its next matrix multiplies.
    pub(super) input: Input,
    /// `[rows of the expert, ffn_dim]`
    pub(super) gated: Vec<f32>,
    /// `[rows of the expert, dim]`
    pub(super) out: Vec<f32>,
}
