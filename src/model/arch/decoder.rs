//! What most decoders have in common: sizes, and the parts of a layer by their usual
//! names.

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::matrix::Matrix;
use crate::kernel::rope::{Pairing, Rope};
use crate::model::plan::{Attention, Dense, Embed, Ffn, Head, LayerPlan, Mixer, Norm, Norms, Plan};

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
    pub epsilon: f32,
}

impl Sizes {
    /// Reads and checks them.
    pub fn read(keys: &Keys<'_>) -> Result<Self> {
        let dim = keys.required("embedding_length", 1..=limit::WIDTH)?;
        let heads = keys.required("attention.head_count", 1..=limit::HEADS)?;
        let kv_heads = keys.optional("attention.head_count_kv", 1..=heads)?.unwrap_or(heads);
        if heads % kv_heads != 0 {
            let problem = format!("is {kv_heads}, which does not divide the {heads} heads");
            return Err(Error::key(&keys.name("attention.head_count_kv"), problem));
        }
        let head_dim = match keys.optional("attention.key_length", 1..=limit::HEAD_DIM)? {
            Some(head_dim) => head_dim,
            None if dim % heads == 0 && dim / heads <= limit::HEAD_DIM => dim / heads,
            None => {
                let problem = format!("is {heads}, which does not divide the width {dim}");
                return Err(Error::key(&keys.name("attention.head_count"), problem));
            }
        };
        let value_dim = keys.optional("attention.value_length", 1..=limit::HEAD_DIM)?;
        if value_dim.is_some_and(|value_dim| value_dim != head_dim) {
            let problem = format!("must equal the key length {head_dim}");
            return Err(keys.unsupported("attention.value_length", &problem));
        }
        Ok(Sizes {
            dim: dim as usize,
            heads: heads as usize,
            kv_heads: kv_heads as usize,
            head_dim: head_dim as usize,
            ffn_dim: keys.required("feed_forward_length", 1..=limit::WIDTH)? as usize,
            layers: keys.required("block_count", 1..=limit::LAYERS)? as usize,
            epsilon: keys.positive("attention.layer_norm_rms_epsilon", None)?,
        })
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

/// The name of a tensor of a layer.
pub(super) fn blk(layer: usize, part: &str) -> String {
    format!("blk.{layer}.{part}")
}

impl Source<'_> {
    /// The window of all layers; 0 in the file means full attention.
    pub fn window(&self) -> Result<Option<usize>> {
        let window = self.keys.optional("attention.sliding_window", 0..=u32::MAX)?;
        let window = window.map(|window| window as usize).filter(|&window| window > 0);
        // True for each layer with a window, or the number of layers to one without.
        const PATTERN: &str = "attention.sliding_window_pattern";
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

    /// Embedding, `layers` and output, by their usual names.
    pub fn decoder(
        &mut self,
        sizes: &Sizes,
        rope: Rope,
        mut layer: impl FnMut(&mut Self, usize) -> Result<LayerPlan>,
    ) -> Result<Plan> {
        let table = self.tensors.token_table(sizes.dim)?;
        let norm = self.rms_norm("output_norm.weight", sizes.dim, sizes.epsilon)?;
        let output = match self.tensors.has("output.weight") {
            true => self.tensors.matrix("output", table.0.rows(), sizes.dim)?,
            // The embedding again.
            false => Matrix::from(table.0.clone()),
        };
        let layers = (0..sizes.layers).map(|index| layer(self, index)).collect::<Result<_>>()?;
        let (embed, head) = (Embed { table }, Head { norm, output });
        Ok(Plan { embed, layers, head, ropes: vec![rope] })
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
        let mut norm = |part: &str| self.rms_norm(&blk(index, part), sizes.dim, sizes.epsilon);
        let norms =
            Norms { before_mixer: norm("attn_norm.weight")?, before_ffn: norm("ffn_norm.weight")? };
        Ok(LayerPlan { norms, mixer, ffn })
    }

    /// The rotation of heads by the usual keys.
    pub fn rope(&self, sizes: &Sizes, pairing: Pairing) -> Result<Rope> {
        self.keys.rope(pairing, self.keys.n_rot(sizes.head_dim)?, None)
    }

    /// Attention with matrices of their own for queries, keys and values.
    pub fn attention(&mut self, sizes: &Sizes, index: usize) -> Result<Attention> {
        let Sizes { dim, .. } = *sizes;
        let q = self.tensors.matrix(&blk(index, "attn_q"), sizes.q_dim(), dim)?;
        let k = self.tensors.matrix(&blk(index, "attn_k"), sizes.kv_dim(), dim)?;
        let v = self.tensors.matrix(&blk(index, "attn_v"), sizes.kv_dim(), dim)?;
        self.attention_of(sizes, index, [q, k, v])
    }

    /// Attention with these matrices for queries, keys and values, and what is usual
    /// else.
    pub fn attention_of(
        &mut self,
        sizes: &Sizes,
        index: usize,
        [q, k, v]: [Matrix; 3],
    ) -> Result<Attention> {
        let Sizes { kv_heads, head_dim, dim, .. } = *sizes;
        Ok(Attention {
            kv_heads,
            head_dim,
            q,
            k,
            v,
            output: self.tensors.matrix(&blk(index, "attn_output"), dim, sizes.q_dim())?,
            q_norm: None,
            k_norm: None,
            rope: Some(0),
            window: self.window()?,
            divisor: (head_dim as f32).sqrt(),
            cache: index,
        })
    }

    /// A gated network with matrices of their own for gate and up.
    fn gated(&mut self, sizes: &Sizes, index: usize) -> Result<Dense> {
        let Sizes { dim, ffn_dim, .. } = *sizes;
        Ok(Dense {
            activation: Activation::Silu,
            gate: self.tensors.matrix(&blk(index, "ffn_gate"), ffn_dim, dim)?,
            up: self.tensors.matrix(&blk(index, "ffn_up"), ffn_dim, dim)?,
            down: self.tensors.matrix(&blk(index, "ffn_down"), dim, ffn_dim)?,
        })
    }

    fn rms_norm(&mut self, name: &str, len: usize, epsilon: f32) -> Result<Norm> {
        Ok(Norm::Rms { weight: self.tensors.vector(name, len)?, epsilon })
    }
}
