//! What most decoders have in common: sizes, and the parts of a layer by their usual
//! names.

use crate::error::{Error, Result};
use crate::gguf::{Array, Value};
use crate::kernel::act::Activation;
use crate::kernel::attention::Sight;
use crate::kernel::matrix::Matrix;
use crate::kernel::rope::{Pairing, Rope};
use crate::model::plan::{
    Attention, Dense, Embed, Ffn, Head, HeadNorm, LayerPlan, Mixer, Norm, Norms, Plan, Pooled,
};

use super::Source;
use super::keys::{Keys, limit};

/// The sizes of a decoder whose layers are all alike.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sizes {
    pub dim: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub ffn_dim: usize,
    pub layers: usize,
    pub norm: NormKind,
    pub epsilon: f32,
}

/// How rows are normalized.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NormKind {
    Rms,
    Layer,
}

impl Sizes {
    /// Reads and checks them, of a network with RMS norms.
    pub fn read(keys: &Keys<'_>) -> Result<Self> {
        Sizes::with_norm(keys, NormKind::Rms)
    }

    /// The same, of a network with norms of this kind.
    pub fn with_norm(keys: &Keys<'_>, norm: NormKind) -> Result<Self> {
        let epsilon = match norm {
            NormKind::Rms => "attention.layer_norm_rms_epsilon",
            NormKind::Layer => "attention.layer_norm_epsilon",
        };
        Sizes::with_epsilon(keys, norm, epsilon)
    }

    /// The same, with the epsilon of the norms under this name.
    pub fn with_epsilon(keys: &Keys<'_>, norm: NormKind, epsilon: &str) -> Result<Self> {
        let sizes = Sizes::common(keys, norm, epsilon)?;
        let layers = sizes.layers as u32;
        let kv_heads = keys.of_layers("attention.head_count_kv", layers, limit::HEADS)?;
        Ok(Sizes {
            kv_heads: sizes.kv_heads_of(keys, kv_heads)?,
            head_dim: sizes.head_dim_of(keys, "attention.key_length", "attention.value_length")?,
            ffn_dim: keys.ffn_dim(layers)? as usize,
            ..sizes
        })
    }

    /// Those that do not depend on heads of keys and networks; the others are 0.
    pub fn common(keys: &Keys<'_>, norm: NormKind, epsilon: &str) -> Result<Self> {
        Ok(Sizes {
            dim: keys.required("embedding_length", 1..=limit::WIDTH)? as usize,
            heads: keys.required("attention.head_count", 1..=limit::HEADS)? as usize,
            kv_heads: 0,
            head_dim: 0,
            ffn_dim: 0,
            layers: keys.required("block_count", 1..=limit::LAYERS)? as usize,
            norm,
            epsilon: keys.positive(epsilon, None)?,
        })
    }

    /// The heads of keys: as many as of queries, or `kv_heads`, which divide those.
    pub fn kv_heads_of(&self, keys: &Keys<'_>, kv_heads: Option<u32>) -> Result<usize> {
        let heads = self.heads;
        match kv_heads.map_or(heads, |kv_heads| kv_heads as usize) {
            kv_heads if kv_heads > 0 && heads.is_multiple_of(kv_heads) => Ok(kv_heads),
            kv_heads => {
                let problem = format!("is {kv_heads}, which does not divide the {heads} heads");
                Err(Error::key(&keys.name("attention.head_count_kv"), problem))
            }
        }
    }

    /// The width of heads by these keys, which must agree; without, what is usual.
    pub fn head_dim_of(&self, keys: &Keys<'_>, key: &str, value: &str) -> Result<usize> {
        let Sizes { dim, heads, .. } = *self;
        let head_dim = match keys.optional(key, 1..=limit::HEAD_DIM)? {
            Some(head_dim) => head_dim as usize,
            None if dim.is_multiple_of(heads) && dim / heads <= limit::HEAD_DIM as usize => {
                dim / heads
            }
            None => {
                let problem = format!("is {heads}, which does not divide the width {dim}");
                return Err(Error::key(&keys.name("attention.head_count"), problem));
            }
        };
        let value_dim = keys.optional(value, 1..=limit::HEAD_DIM)?;
        if value_dim.is_some_and(|value_dim| value_dim as usize != head_dim) {
            let problem = format!("must equal the key length {head_dim}");
            return Err(keys.unsupported(value, &problem));
        }
        Ok(head_dim)
    }

    /// Width of all query heads together.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}

/// Numbers of the layers that keep keys and values, and of those that keep a state.
#[derive(Debug, Default)]
pub(super) struct Counts {
    caches: usize,
    states: usize,
}

impl Counts {
    pub fn next_cache(&mut self) -> usize {
        self.caches += 1;
        self.caches - 1
    }

    pub fn next_state(&mut self) -> usize {
        self.states += 1;
        self.states - 1
    }
}

impl Keys<'_> {
    /// Of each layer: whether it has no KV heads.
    pub fn recurrent_layers(&self) -> Result<Vec<bool>> {
        let layers = self.required("block_count", 1..=limit::LAYERS)? as usize;
        let kv_heads = self.per_layer("attention.head_count_kv", layers, 0..=limit::HEADS)?;
        let kv_heads = kv_heads.unwrap_or_else(|| vec![1; layers]);
        Ok(kv_heads.into_iter().map(|kv_heads| kv_heads == 0).collect())
    }

    /// What all layers have that do not have 0.
    fn of_layers(&self, name: &str, layers: u32, most: u32) -> Result<Option<u32>> {
        let Some(all) = self.per_layer(name, layers as usize, 0..=most)? else { return Ok(None) };
        let mut some = all.iter().copied().filter(|&one| one > 0);
        let Some(first) = some.next() else {
            return Err(Error::key(&self.name(name), format!("is 0; 1 to {most} is possible")));
        };
        match some.all(|one| one == first) {
            true => Ok(Some(first)),
            false => {
                Err(self
                    .unsupported(name, "has different values for layers, which is not supported"))
            }
        }
    }

    /// The width of feed-forward networks; that of experts where there is no other.
    fn ffn_dim(&self, layers: u32) -> Result<u32> {
        const EXPERTS: &str = "expert_feed_forward_length";
        let own = self.of_layers("feed_forward_length", layers, limit::WIDTH)?;
        match own
            .map_or_else(|| self.of_layers(EXPERTS, layers, limit::WIDTH), |own| Ok(Some(own)))?
        {
            Some(width) => Ok(width),
            None => self.required("feed_forward_length", 1..=limit::WIDTH),
        }
    }
}

/// True for each layer with a window, or the number of layers to one without.
const PATTERN: &str = "attention.sliding_window_pattern";

/// The name of a tensor of a layer.
pub(super) fn blk(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}")
}

impl Source<'_> {
    /// The window of all layers; 0 in the file means full attention.
    pub fn window(&self) -> Result<Option<usize>> {
        let window = self.window_size(None)?;
        let pattern = self.keys.name(PATTERN);
        let all = match self.keys.metadata.opt_bool(&pattern) {
            Ok(all) => all.unwrap_or(true),
            // An error says that layers differ, or that it is another number.
            Err(_) => false,
        };
        if window.is_some() && !all {
            let problem = "names layers without the window; only one for all is supported";
            return Err(self.keys.unsupported(PATTERN, problem));
        }
        Ok(window)
    }

    /// The window of each layer. `default`: positions where the file names no window.
    /// Without a pattern in the file every `period`-th layer sees everything.
    pub fn windows(
        &self,
        layers: usize,
        default: Option<usize>,
        period: usize,
    ) -> Result<Vec<Option<usize>>> {
        self.windows_from(layers, default, period, 1)
    }

    /// The window of each layer, where the first of every `period` sees everything.
    pub fn windows_from_second(&self, layers: usize, period: usize) -> Result<Vec<Option<usize>>> {
        self.windows_from(layers, None, period, 0)
    }

    /// `shift`: 1 if the last of every `period` layers sees everything, 0 if the first does.
    fn windows_from(
        &self,
        layers: usize,
        default: Option<usize>,
        period: usize,
        shift: usize,
    ) -> Result<Vec<Option<usize>>> {
        let window = self.window_size(default)?;
        let every = |period: usize| -> Vec<bool> {
            (0..layers).map(|i| period == 0 || !(i + shift).is_multiple_of(period)).collect()
        };
        let key = self.keys.name(PATTERN);
        let wrong = || {
            let problem = format!("is neither a number of layers nor {layers} booleans");
            Error::key(&key, problem)
        };
        let pattern = match self.keys.metadata.get(&key) {
            None => every(period),
            Some(Value::Bool(all)) => vec![*all; layers],
            Some(Value::Array(Array::Bool(pattern))) if pattern.len() == layers => pattern.to_vec(),
            Some(Value::Array(_)) => return Err(wrong()),
            Some(_) => {
                let period = self.keys.metadata.opt_u32(&key)?.ok_or_else(wrong)?;
                every(period as usize)
            }
        };
        Ok(pattern.into_iter().map(|has| window.filter(|_| has)).collect())
    }

    /// Positions that layers with a window see; none for 0.
    fn window_size(&self, default: Option<usize>) -> Result<Option<usize>> {
        let window = self.keys.optional("attention.sliding_window", 0..=u32::MAX)?;
        let window = window.map(|window| window as usize).or(default);
        Ok(window.filter(|&window| window > 0))
    }

    /// Embedding, `layers` and output, by their usual names.
    pub fn decoder(
        &mut self,
        sizes: &Sizes,
        ropes: Vec<Rope>,
        layer: impl FnMut(&mut Self, usize) -> Result<LayerPlan>,
    ) -> Result<Plan> {
        self.decoder_with_norm("output_norm", sizes, ropes, layer)
    }

    /// The same, with another name of the last norm.
    pub fn decoder_with_norm(
        &mut self,
        norm: &str,
        sizes: &Sizes,
        ropes: Vec<Rope>,
        mut layer: impl FnMut(&mut Self, usize) -> Result<LayerPlan>,
    ) -> Result<Plan> {
        let table = self.tensors.token_table(sizes.dim)?;
        let norm = self.norm(norm, sizes)?;
        let output = match self.tensors.has("output.weight") {
            true => self.tensors.matrix("output", table.0.rows(), sizes.dim)?,
            // The embedding again.
            false => Matrix::from(table.0.clone()),
        };
        let layers = (0..sizes.layers).map(|index| layer(self, index)).collect::<Result<_>>()?;
        let embed = Embed {
            table,
            scale: 1.0,
            layer_inputs: None,
            types: None,
            positions: None,
            norm: None,
        };
        let head = Head { norm: Some(norm), output: Some(output), scale: 1.0, soft_cap: None };
        Ok(Plan { embed, layers, head, pooled: Pooled::default(), ropes })
    }

    /// A layer that normalizes before attention and before a gated network.
    pub fn layer(
        &mut self,
        sizes: &Sizes,
        index: usize,
        attention: Attention,
    ) -> Result<LayerPlan> {
        let dense = self.gated(sizes, index)?;
        self.layer_of(sizes, index, Mixer::Attention(attention), Ffn::Dense(dense))
    }

    /// A layer that normalizes before its two branches.
    pub fn layer_of(
        &mut self,
        sizes: &Sizes,
        index: usize,
        mixer: Mixer,
        ffn: Ffn,
    ) -> Result<LayerPlan> {
        let norms = Norms {
            before_mixer: Some(self.norm(&blk(index, "attn_norm"), sizes)?),
            before_ffn: Some(self.norm(&blk(index, "ffn_norm"), sizes)?),
            ..Norms::default()
        };
        Ok(LayerPlan::new(norms, mixer, ffn))
    }

    /// The norms of a layer's branches before they are added: `post_attention_norm` and
    /// `post_ffw_norm`.
    pub fn post_norms(&mut self, sizes: &Sizes, index: usize) -> Result<Norms> {
        Ok(Norms {
            after_mixer: Some(self.norm(&blk(index, "post_attention_norm"), sizes)?),
            after_ffn: Some(self.norm(&blk(index, "post_ffw_norm"), sizes)?),
            ..Norms::default()
        })
    }

    /// RMS norms of each head of queries and keys: `attn_q_norm`, `attn_k_norm`.
    pub fn head_norms(&mut self, sizes: &Sizes, index: usize) -> Result<[HeadNorm; 2]> {
        let mut norm = |name: &str| -> Result<HeadNorm> {
            let weight = self.tensors.vector(&blk(index, name), sizes.head_dim)?;
            Ok(HeadNorm { weight, epsilon: sizes.epsilon })
        };
        Ok([norm("attn_q_norm.weight")?, norm("attn_k_norm.weight")?])
    }

    /// Norms of all queries of a row together, and of all keys: `attn_q_norm`, `attn_k_norm`.
    pub fn row_norms(&mut self, sizes: &Sizes, index: usize) -> Result<[Norm; 2]> {
        let mut norm = |name, dim| self.norm(&blk(index, name), &Sizes { dim, ..*sizes });
        Ok([norm("attn_q_norm", sizes.q_dim())?, norm("attn_k_norm", sizes.kv_dim())?])
    }

    /// Attention with a norm of each head of queries and keys.
    pub fn normed_attention(&mut self, sizes: &Sizes, index: usize) -> Result<Attention> {
        let [q_norm, k_norm] = self.head_norms(sizes, index)?;
        let attention = self.attention(sizes, index)?;
        Ok(Attention { q_norm: Some(q_norm), k_norm: Some(k_norm), ..attention })
    }

    /// The rotation of heads by the usual keys.
    pub fn rope(&self, sizes: &Sizes, pairing: Pairing) -> Result<Rope> {
        self.keys.rope(pairing, self.keys.n_rot(sizes.head_dim)?, None)
    }

    /// Attention with matrices of their own for queries, keys and values.
    pub fn attention(&mut self, sizes: &Sizes, index: usize) -> Result<Attention> {
        let Sizes { dim, .. } = *sizes;
        let q = self.tensors.matrix(&blk(index, "attn_q"), sizes.q_dim(), dim)?;
        self.attention_with(sizes, index, q)
    }

    /// The same, with this matrix for queries.
    pub fn attention_with(&mut self, sizes: &Sizes, index: usize, q: Matrix) -> Result<Attention> {
        let dim = sizes.dim;
        let k = self.tensors.matrix(&blk(index, "attn_k"), sizes.kv_dim(), dim)?;
        let v = self.tensors.matrix(&blk(index, "attn_v"), sizes.kv_dim(), dim)?;
        self.attention_of(sizes, index, [q, k, v])
    }

    /// Attention with queries alone, which reads layer `cache` of the KV cache.
    pub fn reading_attention(
        &mut self,
        sizes: &Sizes,
        index: usize,
        cache: usize,
    ) -> Result<Attention> {
        let q = self.tensors.matrix(&blk(index, "attn_q"), sizes.q_dim(), sizes.dim)?;
        Ok(Attention { cache, ..self.attention_of_some(sizes, index, q, [None, None])? })
    }

    /// Attention with these matrices for queries, keys and values, and what is usual
    /// else.
    pub fn attention_of(
        &mut self,
        sizes: &Sizes,
        index: usize,
        [q, k, v]: [Matrix; 3],
    ) -> Result<Attention> {
        self.attention_of_some(sizes, index, q, [Some(k), Some(v)])
    }

    /// The same where keys and values may have none.
    pub fn attention_of_some(
        &mut self,
        sizes: &Sizes,
        index: usize,
        q: Matrix,
        [k, v]: [Option<Matrix>; 2],
    ) -> Result<Attention> {
        let Sizes { kv_heads, head_dim, dim, .. } = *sizes;
        Ok(Attention {
            kv_heads,
            head_dim,
            q,
            k,
            v,
            output: self.tensors.matrix(&blk(index, "attn_output"), dim, sizes.q_dim())?,
            gated: false,
            row_norms: None,
            q_norm: None,
            k_norm: None,
            v_norm: None,
            norm_last: false,
            rope: Some(0),
            window: None,
            sight: Sight::Before,
            divisor: (head_dim as f32).sqrt(),
            soft_cap: None,
            slopes: None,
            sinks: None,
            cache: index,
        })
    }

    /// A gated network with matrices of their own for gate and up.
    pub fn gated(&mut self, sizes: &Sizes, index: usize) -> Result<Dense> {
        let Sizes { dim, ffn_dim, .. } = *sizes;
        Ok(Dense {
            activation: Activation::Silu,
            gate: Some(self.tensors.matrix(&blk(index, "ffn_gate"), ffn_dim, dim)?),
            up: self.tensors.matrix(&blk(index, "ffn_up"), ffn_dim, dim)?,
            down: self.tensors.matrix(&blk(index, "ffn_down"), dim, ffn_dim)?,
        })
    }

    /// The norm `name`, with its bias if the file has one.
    pub fn norm(&mut self, name: &str, sizes: &Sizes) -> Result<Norm> {
        let Sizes { dim, norm, epsilon, .. } = *sizes;
        let weight = self.tensors.vector(&format!("{name}.weight"), dim)?;
        if norm == NormKind::Rms {
            return Ok(Norm::Rms { weight, epsilon });
        }
        let bias = format!("{name}.bias");
        let bias = match self.tensors.has(&bias) {
            true => Some(self.tensors.vector(&bias, dim)?),
            false => None,
        };
        Ok(Norm::Layer { weight, bias, epsilon })
    }
}
