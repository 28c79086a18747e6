//! A model as data: sizes, kinds of layers, and which rows of which tensor play which
//! role. What a kind computes stands in `layer/`, how a file becomes a plan in `arch/`.
//!
//! Everything that decides a result is in here, so the plan's `Debug` text, with the
//! bytes of the tensors, identifies a network: see `digest.rs`.

use std::fmt;
use std::ops::Deref;

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::matrix::Matrix;
use crate::kernel::recurrence::state_len;
use crate::kernel::rope::Rope;
use crate::kernel::route::Routing;
use crate::kv_cache::{KvLayer, KvShape, KvType};
use crate::tensor::Tensor;

/// A network.
#[derive(Debug)]
pub(crate) struct Plan {
    pub embed: Embed,
    pub layers: Vec<LayerPlan>,
    pub head: Head,
    /// What positions do to heads; layers name one of these.
    pub ropes: Vec<Rope>,
}

/// From tokens to the residual stream.
#[derive(Debug)]
pub(crate) struct Embed {
    /// `[n_vocab, dim]`
    pub table: TokenTable,
    /// Rows are multiplied by it.
    pub scale: f32,
    pub layer_inputs: Option<LayerInputs>,
}

/// What each layer reads of a token beside the residual stream (Gemma 3n). Layer l's part of
/// a row is `(norm(projection · x · projection_scale)[l] + table[token][l] · scale) / √2`.
#[derive(Debug)]
pub(crate) struct LayerInputs {
    /// `[n_vocab, layers · width]`
    pub table: TokenTable,
    pub scale: f32,
    /// `[layers · width, dim]`
    pub projection: Matrix,
    pub projection_scale: f32,
    /// RMS norm of a layer's part: `[width]`.
    pub norm: HeadNorm,
}

/// From the residual stream to logits.
#[derive(Debug)]
pub(crate) struct Head {
    pub norm: Norm,
    /// `[n_vocab, dim]`
    pub output: Matrix,
    /// Logits are multiplied by it.
    pub scale: f32,
    /// Then they go through `cap · tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
}

/// One layer, two branches of which one may be missing: `x += scale · after(branch(before(x)))`
/// for the mixer, then for the feed-forward network. Some have a third, for their part of the
/// [`LayerInputs`].
#[derive(Debug)]
pub(crate) struct LayerPlan {
    pub norms: Norms,
    pub mixer: Option<Mixer>,
    pub ffn: Option<Ffn>,
    /// What both branches are multiplied by.
    pub branch_scale: f32,
    /// Whether the feed-forward network reads what the mixer read.
    pub parallel: bool,
    pub input: Option<LayerInput>,
    /// At last the residual stream is multiplied by it.
    pub output_scale: f32,
}

/// `x += norm(projection · (activation(gate · x) · part))`, the part being that of a layer
/// in the [`LayerInputs`].
#[derive(Debug)]
pub(crate) struct LayerInput {
    /// Which layer's.
    pub index: usize,
    /// `[width, dim]`
    pub gate: Matrix,
    pub activation: Activation,
    /// `[dim, width]`
    pub projection: Matrix,
    pub norm: Norm,
}

/// Where a layer normalizes; where nothing stands, rows pass as they are.
#[derive(Debug, Default)]
pub(crate) struct Norms {
    pub before_mixer: Option<Norm>,
    pub after_mixer: Option<Norm>,
    pub before_ffn: Option<Norm>,
    pub after_ffn: Option<Norm>,
}

/// A normalization of rows.
#[derive(Debug)]
pub(crate) enum Norm {
    Rms { weight: Vector, epsilon: f32 },
    Layer { weight: Vector, bias: Option<Vector>, epsilon: f32 },
}

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
    /// RMS norm of all queries of a row together, and of all keys.
    pub row_norms: Option<[HeadNorm; 2]>,
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
    /// Scores are divided by it.
    pub divisor: f32,
    /// Then they go through `cap · tanh(score / cap)`.
    pub soft_cap: Option<f32>,
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

/// What works on each position alone.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "one for each layer")]
pub(crate) enum Ffn {
    Dense(Dense),
    Experts(Experts),
    Beside(Beside),
}

/// A network of all rows beside experts. Both read the residual stream, each through a norm
/// of its own (that of `dense` is the layer's), as the router does:
/// `after_dense(dense(…)) + after_experts(experts(before_experts(x)))`.
#[derive(Debug)]
pub(crate) struct Beside {
    pub dense: Dense,
    pub after_dense: Norm,
    pub before_router: Norm,
    pub before_experts: Norm,
    pub experts: Experts,
    pub after_experts: Norm,
}

/// Some of many networks for each row (Shazeer et al. 2017), and maybe one for all rows.
#[derive(Debug)]
pub(crate) struct Experts {
    /// `[experts, dim]`
    pub router: Matrix,
    /// `[experts]`: counts when experts are chosen.
    pub selection_bias: Option<Vector>,
    pub routing: Routing,
    /// `[experts]`: what an expert gives is multiplied by it.
    pub scales: Option<Vector>,
    pub experts: Vec<Dense>,
    pub shared: Option<Shared>,
}

/// The network of all rows.
#[derive(Debug)]
pub(crate) struct Shared {
    pub dense: Dense,
    /// `[dim]`: the sigmoid of its product with a row is the weight of the network.
    pub gate: Option<Vector>,
}

/// `down · (activation(gate · x) · (up · x))`; without a gate `down · activation(up · x)`
#[derive(Debug)]
pub(crate) struct Dense {
    pub activation: Activation,
    /// `[ffn_dim, dim]`
    pub gate: Option<Matrix>,
    /// `[ffn_dim, dim]`
    pub up: Matrix,
    /// `[dim, ffn_dim]`
    pub down: Matrix,
}

/// A vector of the file, as f32.
pub(crate) struct Vector {
    pub name: Box<str>,
    pub values: Vec<f32>,
}

impl Deref for Vector {
    type Target = [f32];

    fn deref(&self) -> &[f32] {
        &self.values
    }
}

/// What it is, without its numbers.
impl fmt::Debug for Vector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}[{}]", self.name, self.values.len())
    }
}

/// The embedding's table: rows of it are read one by one.
pub(crate) struct TokenTable(pub Tensor);

impl fmt::Debug for TokenTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{:?}", self.0.name(), self.0.dims())
    }
}

impl Plan {
    /// Width of the residual stream.
    pub fn dim(&self) -> usize {
        self.embed.table.0.cols()
    }

    /// Tokens that the embedding has rows for.
    pub fn n_vocab(&self) -> usize {
        self.embed.table.0.rows()
    }

    /// Gives layers the sliding window that the caller asked for: those that have one, or
    /// all if none has.
    ///
    /// # Errors
    /// [`Error::Misuse`] for 0.
    pub fn set_window(&mut self, window: usize) -> Result<()> {
        if window == 0 {
            return Err(Error::misuse("option \"sliding_window\" must be at least 1"));
        }
        let all = self.kv_layers().iter().all(|layer| layer.window.is_none());
        for layer in &mut self.layers {
            let of_layer = match &mut layer.mixer {
                Some(Mixer::Attention(attention)) => &mut attention.window,
                Some(Mixer::Latent(latent)) => &mut latent.window,
                _ => continue,
            };
            if all || of_layer.is_some() {
                *of_layer = Some(window);
            }
        }
        Ok(())
    }

    /// The shape of a cache. `long_rope`: whether for long contexts, if it matters.
    pub fn kv_shape(&self, kv_type: KvType, long_rope: bool) -> KvShape {
        let shape = KvShape::new(self.kv_layers(), kv_type, long_rope && self.has_long());
        let mixers = self.layers.iter().filter_map(|layer| layer.mixer.as_ref());
        shape.with_states(mixers.filter_map(Mixer::state_len).collect())
    }

    /// What each layer of the KV cache keeps.
    pub fn kv_layers(&self) -> Vec<KvLayer> {
        let mut layers = Vec::new();
        for layer in &self.layers {
            let (cache, of_layer) = match &layer.mixer {
                Some(Mixer::Attention(Attention { kv_heads, head_dim, window, cache, .. })) => {
                    let (kv_heads, head_dim, window) = (*kv_heads, *head_dim, *window);
                    (*cache, KvLayer { kv_heads, head_dim, window })
                }
                Some(Mixer::Latent(latent)) => {
                    let (head_dim, window) = (latent.key_dim(), latent.window);
                    (latent.cache, KvLayer { kv_heads: 1, head_dim, window })
                }
                _ => continue,
            };
            // A layer may read what an earlier one wrote.
            if cache == layers.len() {
                layers.push(of_layer);
            }
        }
        layers
    }

    /// Whether a context of `num_ctx` positions takes the frequencies for long contexts.
    pub fn is_long(&self, num_ctx: usize) -> bool {
        self.ropes.iter().filter_map(|rope| rope.long.as_ref()).any(|long| num_ctx > long.above)
    }

    /// Whether there are such frequencies.
    fn has_long(&self) -> bool {
        self.ropes.iter().any(|rope| rope.long.is_some())
    }

    /// An estimate of the memory that a pass of `rows` rows takes, beside keys and
    /// values: buffers with the logits of `streams` rows, and those of `threads` threads.
    pub fn scratch_bytes(&self, rows: usize, streams: usize, threads: usize) -> usize {
        let most = |of: fn(&LayerPlan) -> usize| self.layers.iter().map(of).max().unwrap_or(0);
        let dim = self.dim();
        let widest = dim.max(most(LayerPlan::widest_input));
        // The residual stream, the input of a product, and what the layers keep in f32;
        // the input quantized, twice (in rows and side by side), with scales and sums.
        let inputs = self.embed.layer_inputs.as_ref();
        let inputs = inputs.map_or(0, |inputs| inputs.projection.rows());
        let floats = dim + widest + most(LayerPlan::buffers) + inputs;
        let activations = rows.saturating_mul(4 * floats + 3 * widest);
        let logits = streams.saturating_mul(8 * 4 * self.n_vocab());
        // A panel of the product and of its other matrix; unpacked weights.
        let thread = rows.saturating_mul(2 * 32 * 4) + 40 * widest;
        activations.saturating_add(logits).saturating_add(thread.saturating_mul(threads))
    }
}

impl Default for LayerPlan {
    /// No branches.
    fn default() -> Self {
        LayerPlan {
            norms: Norms::default(),
            mixer: None,
            ffn: None,
            branch_scale: 1.0,
            parallel: false,
            input: None,
            output_scale: 1.0,
        }
    }
}

impl LayerPlan {
    /// Two branches, the second behind the first, added as they are.
    pub fn new(norms: Norms, mixer: Mixer, ffn: Ffn) -> Self {
        let (mixer, ffn) = (Some(mixer), Some(ffn));
        LayerPlan { norms, mixer, ffn, ..LayerPlan::default() }
    }

    /// The widest input of its products.
    fn widest_input(&self) -> usize {
        let mixer = self.mixer.as_ref().map_or(0, |mixer| mixer.output().cols());
        mixer.max(match &self.ffn {
            None => 0,
            Some(Ffn::Dense(dense)) => dense.down.cols(),
            Some(Ffn::Experts(experts)) => experts.widest_input(),
            Some(Ffn::Beside(both)) => both.dense.down.cols().max(both.experts.widest_input()),
        })
    }

    /// Whether a branch cannot be added to the residual stream as it is multiplied, or
    /// both read the same.
    fn is_apart(&self) -> bool {
        let Norms { after_mixer, after_ffn, .. } = &self.norms;
        let normed = after_mixer.is_some() || after_ffn.is_some() || self.input.is_some();
        normed || self.branch_scale != 1.0 || self.parallel
    }

    /// Floats per row that it keeps beside the input of a product.
    fn buffers(&self) -> usize {
        let ffn = match &self.ffn {
            None => 0,
            Some(Ffn::Dense(dense)) => dense.up.rows(),
            Some(Ffn::Experts(experts)) => experts.buffers(),
            Some(Ffn::Beside(both)) => {
                both.dense.up.rows() + both.dense.down.rows() + both.experts.buffers()
            }
        };
        let mixer = self.mixer.as_ref();
        let branch = mixer.filter(|_| self.is_apart()).map_or(0, |mixer| mixer.output().rows());
        mixer.map_or(0, Mixer::buffers) + ffn + branch
    }
}

impl Mixer {
    /// The matrix that its result goes through.
    fn output(&self) -> &Matrix {
        match self {
            Mixer::Attention(Attention { output, .. })
            | Mixer::Latent(Latent { output, .. })
            | Mixer::ShortConv(ShortConv { output, .. })
            | Mixer::DeltaNet(DeltaNet { output, .. })
            | Mixer::Mamba2(Mamba2 { output, .. }) => output,
        }
    }

    /// Floats per row that it keeps beside the input of a product.
    fn buffers(&self) -> usize {
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
    fn state_len(&self) -> Option<usize> {
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

impl Experts {
    fn widest_input(&self) -> usize {
        let shared = self.shared.as_ref().map(|shared| &shared.dense);
        let all = self.experts.first().into_iter().chain(shared);
        all.map(|dense| dense.down.cols()).max().unwrap_or(0)
    }

    /// Floats per row: what each of its experts reads, keeps and gives.
    fn buffers(&self) -> usize {
        let one = self
            .experts
            .first()
            .map_or(0, |dense| 2 * dense.up.cols() + 2 * dense.up.rows() + dense.down.rows());
        let shared = self.shared.as_ref().map_or(0, |shared| shared.dense.up.rows());
        self.routing.used * one + self.experts.len() + shared
    }
}
