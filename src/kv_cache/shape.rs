//! The shape of a cache: what its layers keep, and in which blocks.

use std::ops::Range;

use super::KvType;
use super::block;
use super::page::{HeadShape, PAGE};

/// What one layer keeps of each position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct KvLayer {
    pub kv_heads: usize,
    pub head_dim: usize,
    /// `None` = full attention.
    pub window: Option<usize>,
}

impl KvLayer {
    /// Bytes of one page; `usize::MAX` if the number does not fit.
    pub(super) fn page_bytes(&self, kv_type: KvType) -> usize {
        let head = HeadShape { head_dim: self.head_dim, kv_type };
        self.kv_heads.saturating_mul(head.bytes())
    }
}

/// The shape of a cache. Caches of the same shape and model hold what the other would.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KvShape {
    layers: Vec<KvLayer>,
    kv_type: KvType,
    /// Whether keys are rotated with the frequencies for long contexts, where a model
    /// has such: keys of the two kinds do not mix.
    long_rope: bool,
    /// Pages per block.
    pages: usize,
    /// Floats of each recurrent layer's state.
    states: Vec<usize>,
}

/// States begin at a multiple of this many floats.
const STATE_ALIGNMENT: usize = 16;

impl KvShape {
    pub fn new(layers: Vec<KvLayer>, kv_type: KvType, long_rope: bool) -> Self {
        let pages = block::pages(&layers, kv_type);
        KvShape { layers, kv_type, long_rope, pages, states: Vec::new() }
    }

    /// The same with recurrent layers, whose states have so many floats.
    pub fn with_states(self, states: Vec<usize>) -> Self {
        KvShape { states, ..self }
    }

    /// Floats of each recurrent layer's state.
    pub fn states(&self) -> &[usize] {
        &self.states
    }

    /// Where the state of layer `layer` lies among those of all.
    pub(super) fn state_range(&self, layer: usize) -> Range<usize> {
        let start = padded(&self.states[..layer]);
        start..start + self.states[layer]
    }

    /// Bytes of all states; `usize::MAX` if the number does not fit.
    pub fn state_bytes(&self) -> usize {
        padded(&self.states).saturating_mul(size_of::<f32>())
    }

    pub fn layers(&self) -> &[KvLayer] {
        &self.layers
    }

    pub fn kv_type(&self) -> KvType {
        self.kv_type
    }

    pub fn long_rope(&self) -> bool {
        self.long_rope
    }

    /// The shape of one head of layer `layer`.
    pub fn head(&self, layer: usize) -> HeadShape {
        HeadShape { head_dim: self.layers[layer].head_dim, kv_type: self.kv_type }
    }

    /// Bytes of one page of layer `layer`.
    pub(super) fn page_bytes(&self, layer: usize) -> usize {
        self.layers[layer].page_bytes(self.kv_type)
    }

    /// Bytes of a block of layer `layer`; `usize::MAX` if the number does not fit.
    pub fn block_bytes(&self, layer: usize) -> usize {
        self.page_bytes(layer).saturating_mul(self.pages)
    }

    /// Pages of a block.
    pub(super) fn block_pages(&self) -> usize {
        self.pages
    }

    /// Positions of a block.
    pub fn block_positions(&self) -> usize {
        self.pages * PAGE
    }

    /// The block of page `number`, and the page's place in it.
    pub(super) fn place(&self, number: usize) -> (usize, usize) {
        (number / self.pages, number % self.pages)
    }
}

/// Floats of states one behind the other, each from an aligned place on.
fn padded(states: &[usize]) -> usize {
    let floats = states.iter().map(|&floats| floats.saturating_add(STATE_ALIGNMENT - 1));
    floats.fold(0, |all, floats| all.saturating_add(floats - floats % STATE_ALIGNMENT))
}
