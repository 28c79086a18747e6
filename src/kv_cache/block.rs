//! A block: pages of one layer in one piece of memory.
//!
//! ```text
//! [kv_heads][pages][bytes of a head's part of a page]
//! ```
//! A head reads all pages one after the other, so they lie one after the other.
//! The memory is mapped from the system: aligned, zero, taken only as it is
//! touched, and in huge pages where the system has them (a walk over a long past
//! would spend a fifth of its time on misses of the address cache).

use std::ops::Range;

use memmap2::MmapMut;

use super::budget::{Charge, Promise};
use super::page::{Head, HeadMut, HeadShape};
use super::{KvLayer, KvShape, KvType, PAGE};
use crate::error::{Bounded, Error, Result};

/// A block has as many pages as fill a huge page, up to [`MOST_PAGES`].
const BYTES: usize = 2 << 20;

/// A fork copies whole blocks, and a window holds up to one that it left.
const MOST_PAGES: usize = 16;

/// Pages per block, the same for all `layers`: with a sliding window at most an eighth
/// of it, so that what was left but is still held stays small beside what is seen.
pub(super) fn pages(layers: &[KvLayer], kv_type: KvType) -> usize {
    let page = layers.iter().map(|layer| layer.page_bytes(kv_type)).max().unwrap_or(0).max(1);
    let window = layers.iter().filter_map(|layer| layer.window).min();
    let most = window.map_or(MOST_PAGES, |window| (window / PAGE / 8).clamp(1, MOST_PAGES));
    BYTES.div_ceil(page).clamp(1, most)
}

/// Pages of one layer.
#[derive(Debug)]
pub(crate) struct Block {
    // In this order: the memory is given back before its bytes count as free.
    map: MmapMut,
    charge: Charge,
    head: HeadShape,
    pages: usize,
}

impl Block {
    /// Pages of layer `layer`, all zero, paid by `promise` or, beyond that, by its
    /// budget.
    pub fn new(shape: &KvShape, layer: usize, promise: &mut Promise) -> Result<Self> {
        let (bytes, head) = (shape.block_bytes(layer), shape.head(layer));
        let charge = promise.spend(bytes)?;
        match MmapMut::map_anon(bytes) {
            Ok(map) => {
                // Without huge pages all still works.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Ok(Block { map, charge, head, pages: shape.block_pages() })
            }
            Err(_) => {
                promise.regain(charge);
                Err(Error::limit(Bounded::Memory("bytes for the KV cache"), bytes, 0))
            }
        }
    }

    /// Has the system find the memory now, not when it is first written.
    pub fn touch(&mut self) {
        self.map.iter_mut().step_by(4096).for_each(|byte| *byte = 0);
    }

    /// A second block of layer `layer` whose first `used` pages are the same.
    pub fn copied(
        &self,
        shape: &KvShape,
        layer: usize,
        used: usize,
        promise: &mut Promise,
    ) -> Result<Self> {
        let mut copy = Block::new(shape, layer, promise)?;
        let of_head = self.pages * self.head.bytes();
        let used = used.min(self.pages) * self.head.bytes();
        let heads = self.map.chunks_exact(of_head).zip(copy.map.chunks_exact_mut(of_head));
        for (from, to) in heads {
            to[..used].copy_from_slice(&from[..used]);
        }
        Ok(copy)
    }

    /// Gives the memory back and leaves what it cost.
    pub fn unmap(self) -> Charge {
        drop(self.map);
        self.charge
    }

    /// The bytes of KV head `head`'s part of page `page`.
    #[inline]
    pub fn part(&self, page: usize, head: usize) -> &[u8] {
        let len = self.head.bytes();
        &self.map[(head * self.pages + page) * len..][..len]
    }

    /// As [`part`](Block::part), to be written.
    pub fn part_mut(&mut self, page: usize, head: usize) -> &mut [u8] {
        let len = self.head.bytes();
        &mut self.map[(head * self.pages + page) * len..][..len]
    }

    /// KV head `head`'s part of page `page`.
    #[inline]
    pub fn head(&self, page: usize, head: usize) -> Head<'_> {
        Head::new(self.head, self.part(page, head))
    }

    /// Every KV head's parts of some pages, to be written: `[pages][kv_heads]`.
    pub fn heads_mut(&mut self, which: Range<usize>) -> Vec<Vec<HeadMut<'_>>> {
        let (shape, len) = (self.head, self.head.bytes());
        let mut all = Vec::new();
        all.resize_with(which.len(), Vec::new);
        for head in self.map.chunks_exact_mut(self.pages * len) {
            let parts = head[which.start * len..which.end * len].chunks_exact_mut(len);
            for (heads, part) in all.iter_mut().zip(parts) {
                heads.push(HeadMut::new(shape, part));
            }
        }
        all
    }
}
