//! The shape of a network: numbers only, no weights, no names of architectures.

use crate::kernel::rope::Rope;
use crate::kv_cache::{KvShape, KvType};

/// What the forward pass needs to know beside the weights.
#[derive(Debug, Clone)]
pub(crate) struct Config {
    /// Width of the residual stream.
    pub dim: usize,
    pub ffn_dim: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub n_vocab: usize,
    /// Positions that the model was trained for.
    pub context_length: usize,
    pub rms_epsilon: f32,
    pub rope: Rope,
    /// The sliding window of each layer; `None` = full attention.
    pub windows: Vec<Option<usize>>,
}

impl Config {
    /// Number of layers.
    pub fn layers(&self) -> usize {
        self.windows.len()
    }

    /// Width of all query heads together.
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// The shape of a cache.
    pub fn kv_shape(&self, kv_type: KvType) -> KvShape {
        let (windows, kv_heads, head_dim) = (self.windows.clone(), self.kv_heads, self.head_dim);
        KvShape { windows, kv_heads, head_dim, kv_type }
    }

    /// Width of all key (or value) heads together.
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }
}
