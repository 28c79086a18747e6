//! A model as data: sizes, kinds of layers, and which rows of which tensor play which
//! role. What a kind computes stands in `layer/`, how a file becomes a plan in `arch/`.
//!
//! Everything that decides a result is in here, so the plan's `Debug` text, with the
//! bytes of the tensors, identifies a network: see `digest.rs`.

mod ffn;
mod mixer;

use std::fmt;
use std::ops::Deref;

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::attention::Sight;
use crate::kernel::matrix::Matrix;
use crate::kernel::rope::Rope;
use crate::kv_cache::{KvLayer, KvShape, KvType};
use crate::tensor::Tensor;

pub(crate) use ffn::{Beside, Dense, Experts, Ffn, Shared};
pub(crate) use mixer::{
    Attention, ConvWeights, DeltaNet, HeadNorm, Heads, Latent, Mamba2, Mixer, ShortConv,
};

/// A network.
#[derive(Debug)]
pub(crate) struct Plan {
    pub embed: Embed,
    pub layers: Vec<LayerPlan>,
    pub head: Head,
    /// What comes behind pooling.
    pub pooled: Pooled,
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
    /// `[kinds, dim]`: what is added for the first text of a pair, and for the second.
    pub types: Option<Vector>,
    /// `[positions, dim]`: what is added for the position.
    pub positions: Option<TokenTable>,
    /// What the sum goes through.
    pub norm: Option<Norm>,
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
    pub norm: Option<Norm>,
    /// `[n_vocab, dim]`; an encoder has none.
    pub output: Option<Matrix>,
    /// Logits are multiplied by it.
    pub scale: f32,
    /// Then they go through `cap · tanh(logit / cap)`.
    pub soft_cap: Option<f32>,
}

/// From the pooled state of a text to its vector or its score.
#[derive(Debug, Default)]
pub(crate) struct Pooled {
    /// Matrices that the vector is multiplied by, one after the other.
    pub dense: Vec<Matrix>,
    pub classifier: Option<Classifier>,
}

/// `output · norm(activation(dense · state))`
#[derive(Debug)]
pub(crate) struct Classifier {
    /// Which state of the text.
    pub pooling: Pooling,
    /// `[dim, dim]`
    pub dense: Option<Matrix>,
    pub activation: ClassifierActivation,
    pub norm: Option<Norm>,
    /// `[labels, dim]`
    pub output: Matrix,
    /// Whether the score is the first label's share of the softmax, not its value.
    pub softmax: bool,
}

/// What stands between the two matrices of a classifier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ClassifierActivation {
    Tanh,
    Gelu,
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
    /// Of the residual stream once the mixer is added; the next branch reads the result.
    pub mixer_sum: Option<Norm>,
    /// Then of this sum: what came of it, and the residual stream before the mixer once more.
    pub second_sum: Option<Norm>,
    /// The same once the feed-forward network is added.
    pub ffn_sum: Option<Norm>,
}

/// A normalization of rows.
#[derive(Debug)]
pub(crate) enum Norm {
    Rms { weight: Vector, epsilon: f32 },
    Layer { weight: Vector, bias: Option<Vector>, epsilon: f32 },
}

impl Norm {
    /// Values of a row that it normalizes.
    pub fn width(&self) -> usize {
        match self {
            Norm::Rms { weight, .. } | Norm::Layer { weight, .. } => weight.len(),
        }
    }
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

/// Which hidden states make the vector of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Pooling {
    /// The mean over all tokens.
    Mean,
    /// The first token's (for networks in which it sees the whole text).
    Cls,
    /// The last token's: in a causal network the only one that saw the whole text.
    Last,
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

    /// Whether rows see what comes behind them: all of a text must be in one pass.
    pub fn is_encoder(&self) -> bool {
        self.layers.iter().any(|layer| match &layer.mixer {
            Some(Mixer::Attention(attention)) => attention.sight != Sight::Before,
            _ => false,
        })
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
        if self.is_encoder() {
            let problem = "option \"sliding_window\" is for models that generate text";
            return Err(Error::misuse(problem));
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
        // Layers of a kind share their buffers; those of different kinds lie beside each other.
        let kinds: [fn(&LayerPlan) -> usize; 5] = [
            |layer| layer.mixer_buffers(|mixer| matches!(mixer, Mixer::Attention(_))),
            |layer| layer.mixer_buffers(|mixer| matches!(mixer, Mixer::Latent(_))),
            |layer| layer.mixer_buffers(|mixer| mixer.state_len().is_some()),
            LayerPlan::ffn_buffers,
            LayerPlan::branch_buffer,
        ];
        let floats = dim + widest + kinds.map(most).iter().sum::<usize>() + inputs;
        // An encoder's inputs also as what rounding has taken from them.
        let twice = if self.is_encoder() { 7 * widest } else { 0 };
        let activations = rows.saturating_mul(4 * floats + 3 * widest + twice);
        let logits = match self.head.output {
            Some(_) => streams.saturating_mul(8 * 4 * self.n_vocab()),
            None => 0,
        };
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
        let normed = normed || self.norms.second_sum.is_some();
        normed || self.branch_scale != 1.0 || self.parallel
    }

    /// Floats per row that its mixer keeps beside the input of a product, if it is such a one.
    fn mixer_buffers(&self, of_kind: fn(&Mixer) -> bool) -> usize {
        self.mixer.as_ref().filter(|mixer| of_kind(mixer)).map_or(0, Mixer::buffers)
    }

    /// Floats per row that its feed-forward network keeps.
    fn ffn_buffers(&self) -> usize {
        match &self.ffn {
            None => 0,
            Some(Ffn::Dense(dense)) => dense.up.rows(),
            Some(Ffn::Experts(experts)) => experts.buffers(),
            Some(Ffn::Beside(both)) => {
                both.dense.up.rows() + both.dense.down.rows() + both.experts.buffers()
            }
        }
    }

    /// Floats per row of a branch that is not added as it is multiplied.
    fn branch_buffer(&self) -> usize {
        let mixer = self.mixer.as_ref().filter(|_| self.is_apart());
        mixer.map_or(0, |mixer| mixer.output().rows())
    }
}
