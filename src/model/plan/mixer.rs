//! What mixes positions: attention, and layers with a state.

use crate::kernel::attention::Sight;
use crate::kernel::matrix::Matrix;
use crate::kernel::recurrence::state_len;

use super::{Norm, Vector};

/// What mixes positions.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each layer")]
pub(crate) enum Mixer {
    Attention(Attention),
    Latent(Latent),
    ShortConv(ShortConv),
    DeltaNet(DeltaNet),
    Mamba2(Mamba2),
}

/// `output · (C ∘ conv(B ∘ x))`, where B, C and x are products of the input (LFM2).
#[derive(Debug)]
pub(crate) struct ShortConv {
    /// `[dim, dim]` each: B, C, x.
    pub inputs: [Matrix; 3],
    pub conv: ConvWeights,
    /// `[dim, dim]`
    pub output: Matrix,
    /// Which of the cache's states it writes and reads.
    pub state: usize,
}

/// A causal convolution of each channel with its own weights.
#[derive(Debug)]
pub(crate) struct ConvWeights {
    pub channels: usize,
    /// `[taps][channels]`
    pub weight: Vector,
    pub bias: Option<Vector>,
}

/// Gated delta rule (Qwen3-Next).
#[derive(Debug)]
pub(crate) struct DeltaNet {
    pub heads: Heads,
    /// Queries, keys and values: `[2 · key_heads · key_dim + value_heads · value_dim, dim]`.
    pub qkv: Matrix,
    pub conv: ConvWeights,
    /// `[value_heads · value_dim, dim]`: the gate of the result.
    pub gate: Matrix,
    /// What decays and factors come of.
    pub scalars: Vec<Matrix>,
    /// Of each value head: which of `scalars`, and which of its rows.
    pub alpha: Vec<[usize; 2]>,
    pub beta: Vec<[usize; 2]>,
    /// `[value_heads]`: `decay = exp(a · softplus(alpha + dt))`.
    pub a: Vector,
    pub dt: Vector,
    /// `[value_dim]`
    pub norm: HeadNorm,
    /// Epsilon under the root of the length of queries and keys.
    pub epsilon: f32,
    /// `[dim, value_heads · value_dim]`
    pub output: Matrix,
    /// Which of the cache's states it writes and reads.
    pub state: usize,
}

/// State-space layer with scalar decays (Dao & Gu 2024).
#[derive(Debug)]
pub(crate) struct Mamba2 {
    /// Keys are B, queries C, values x.
    pub heads: Heads,
    /// `[value_heads · value_dim, dim]`: the gate of the result.
    pub gate: Matrix,
    /// x, B and C: `[value_heads · value_dim + 2 · key_heads · key_dim, dim]`.
    pub xbc: Matrix,
    /// `[value_heads, dim]`
    pub dt: Matrix,
    pub conv: ConvWeights,
    /// `[value_heads]`: `dt = softplus(dt + dt_bias)`, `decay = exp(a · dt)`.
    pub a: Vector,
    pub dt_bias: Vector,
    /// `[value_heads]`: of x, added to the result.
    pub d: Vector,
    /// `[value_heads · value_dim]`: RMS norm of each group of heads with the same keys.
    pub norm: HeadNorm,
    /// `[dim, value_heads · value_dim]`
    pub output: Matrix,
    /// Which of the cache's states it writes and reads.
    pub state: usize,
}

/// The heads of a recurrence.
#[derive(Debug)]
pub(crate) struct Heads {
    pub key_heads: usize,
    pub key_dim: usize,
    pub value_heads: usize,
    pub value_dim: usize,
    /// Of each value head: the key head that it reads.
    pub key_head: Vec<usize>,
}

/// Grouped-query attention.
#[derive(Debug)]
pub(crate) struct Attention {
    pub kv_heads: usize,
    pub head_dim: usize,
    /// `[heads · head_dim, dim]`, or twice as many rows: see `gated`.
    pub q: Matrix,
    /// `[kv_heads · head_dim, dim]`; without, the layer reads what an earlier one wrote.
    pub k: Option<Matrix>,
    /// `[kv_heads · head_dim, dim]`; without, values are what keys are before their norm.
    pub v: Option<Matrix>,
    /// `[dim, heads · head_dim]`
    pub output: Matrix,
    /// Whether each head's rows of `q` are followed by as many of a gate, whose sigmoid the
    /// head's result is multiplied by.
    pub gated: bool,
    /// Norm of all queries of a row together, and of all keys.
    pub row_norms: Option<[Norm; 2]>,
    /// RMS norm of each head.
    pub q_norm: Option<HeadNorm>,
    pub k_norm: Option<HeadNorm>,
    pub v_norm: Option<HeadNorm>,
    /// Whether those of queries and keys come after the rotary embedding.
    pub norm_last: bool,
    /// Which of the plan's ropes; `None` if the layer does not know positions.
    pub rope: Option<usize>,
    /// Position i sees j with i − j < window; `None` = all before.
    pub window: Option<usize>,
    /// Whether it sees what is before it, or what is around it; then `window` counts for
    /// nothing.
    pub sight: Sight,
    /// Scores are divided by it.
    pub divisor: f32,
    /// Then they go through `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
    /// `[heads]`: what is then taken from a score per position between query and key (ALiBi:
    /// Press et al. 2021).
    pub slopes: Option<Vec<f32>>,
    /// `[heads]`: one more score in each head's softmax, without a value (Xiao et al. 2023).
    pub sinks: Option<Vector>,
    /// Which layer of the KV cache it writes and reads.
    pub cache: usize,
}

/// Multi-head latent attention (DeepSeek-AI 2024), absorbed: all heads share one key, which
/// is a rotated part and a latent, and the latent is the value.
///
/// ```text
/// [latent, part] = kv_down · x        key = [rotate(part), norm(latent)], value = norm(latent)
/// [q, part]      = head of q · x      query = [rotate(part), k_up · q]
/// output · (v_up · Σ weight · value) of all heads
/// ```
#[derive(Debug)]
pub(crate) struct Latent {
    /// `[q_rank, dim]` and the norm of `[q_rank]`: `q` reads the result, not the input.
    pub q_down: Option<(Matrix, HeadNorm)>,
    /// `[heads · (width + n_rot), q_rank or dim]`
    pub q: Matrix,
    /// `[rank + n_rot, dim]`
    pub kv_down: Matrix,
    /// `[rank]`
    pub kv_norm: HeadNorm,
    /// Of each head: `[rank, width]`.
    pub k_up: Vec<Matrix>,
    /// Of each head: `[value_dim, rank]`.
    pub v_up: Vec<Matrix>,
    /// `[dim, heads · value_dim]`
    pub output: Matrix,
    /// Which of the plan's ropes.
    pub rope: usize,
    pub n_rot: usize,
    /// As in [`Attention`].
    pub window: Option<usize>,
    /// Scores are divided by it.
    pub divisor: f32,
    /// Which layer of the KV cache it writes and reads.
    pub cache: usize,
}

impl Latent {
    pub fn rank(&self) -> usize {
        self.kv_norm.weight.len()
    }

    /// The width of the key, and of the value as the cache holds it.
    pub fn key_dim(&self) -> usize {
        self.n_rot + self.rank()
    }
}

/// RMS norm of queries or keys.
#[derive(Debug)]
pub(crate) struct HeadNorm {
    /// `[head_dim]`, or as wide as a row.
    pub weight: Vector,
    pub epsilon: f32,
}

impl HeadNorm {
    /// A norm of `width` values without weights.
    pub fn unweighted(width: usize, epsilon: f32) -> Self {
        HeadNorm { weight: Vector { name: "ones".into(), values: vec![1.0; width] }, epsilon }
    }
}

impl Mixer {
    /// The matrix that its result goes through.
    pub(super) fn output(&self) -> &Matrix {
        match self {
            Mixer::Attention(Attention { output, .. })
            | Mixer::Latent(Latent { output, .. })
            | Mixer::ShortConv(ShortConv { output, .. })
            | Mixer::DeltaNet(DeltaNet { output, .. })
            | Mixer::Mamba2(Mamba2 { output, .. }) => output,
        }
    }

    /// Floats per row that it keeps beside the input of a product.
    pub(super) fn buffers(&self) -> usize {
        match self {
            Mixer::Attention(Attention { q, k, v, gated, .. }) => {
                let kv = k.iter().chain(v).map(Matrix::rows).sum::<usize>();
                q.rows() * if *gated { 2 } else { 1 } + kv
            }
            Mixer::Latent(latent) => latent.buffers(),
            Mixer::ShortConv(ShortConv { inputs, .. }) => 4 * inputs[0].rows(),
            Mixer::DeltaNet(DeltaNet { heads, qkv, gate, .. }) => {
                2 * qkv.rows() + 2 * gate.rows() + 4 * heads.value_heads
            }
            Mixer::Mamba2(Mamba2 { heads, xbc, gate, .. }) => {
                2 * xbc.rows() + 2 * gate.rows() + 3 * heads.value_heads
            }
        }
    }

    /// Floats of its state, if it has one.
    pub(super) fn state_len(&self) -> Option<usize> {
        match self {
            Mixer::Attention(_) | Mixer::Latent(_) => None,
            Mixer::ShortConv(ShortConv { conv, .. }) => Some(conv.state_len()),
            Mixer::DeltaNet(DeltaNet { conv, heads, .. })
            | Mixer::Mamba2(Mamba2 { conv, heads, .. }) => {
                Some(conv.state_len() + heads.state_len())
            }
        }
    }
}

impl ConvWeights {
    /// Floats of its state: the rows that it sees of the past.
    pub fn state_len(&self) -> usize {
        self.weight.len() - self.channels
    }
}

impl Heads {
    /// Floats of the state.
    pub fn state_len(&self) -> usize {
        state_len(self.value_heads, self.key_dim, self.value_dim)
    }
}

impl Latent {
    /// Floats per row: queries, keys and values, what each head reads and gives.
    fn buffers(&self) -> usize {
        let heads = self.k_up.len();
        let of_head = 2 * self.key_dim() + self.rank() + self.output.cols() / heads.max(1);
        self.q.rows() + self.q.cols() + 3 * self.key_dim() + heads * 2 * of_head
    }
}
