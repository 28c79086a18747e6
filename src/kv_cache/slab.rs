//! A slab: pages of one layer in one piece of memory.
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

use super::page::{Head, HeadMut, head_bytes};
use super::{KvShape, PAGE};
use crate::error::{Error, Result};

/// A slab has as many pages as fill a huge page, up to [`MOST_PAGES`].
const BYTES: usize = 2 << 20;

/// A fork copies whole slabs, and a window holds up to one that it left.
const MOST_PAGES: usize = 16;

/// Pages per slab: with a sliding window at most an eighth of it, so that what was
/// left but is still held stays small beside what is seen.
pub(crate) fn pages(shape: &KvShape) -> usize {
    let page = (shape.kv_heads * head_bytes(shape)).max(1);
    let window = shape.windows.iter().flatten().min();
    let most = window.map_or(MOST_PAGES, |window| (window / PAGE / 8).clamp(1, MOST_PAGES));
    BYTES.div_ceil(page).clamp(1, most)
}

/// Pages of one layer.
#[derive(Debug)]
pub(crate) struct Slab(MmapMut);

impl Slab {
    /// Pages of zeros.
    pub fn new(shape: &KvShape) -> Result<Self> {
        let page = shape.kv_heads.checked_mul(head_bytes(shape));
        let bytes = page.and_then(|page| page.checked_mul(pages(shape))).unwrap_or(usize::MAX);
        let map = MmapMut::map_anon(bytes).map_err(|_| Error::Limit {
            what: "bytes for the KV cache",
            needed: bytes as u64,
            allowed: 0,
        })?;
        // Without huge pages all still works.
        #[cfg(target_os = "linux")]
        let _ = map.advise(memmap2::Advice::HugePage);
        Ok(Slab(map))
    }

    /// A second slab whose first `used` pages are the same.
    pub fn copied(&self, shape: &KvShape, used: usize) -> Result<Self> {
        let mut copy = Slab::new(shape)?;
        let of_head = pages(shape) * head_bytes(shape);
        let used = used.min(pages(shape)) * head_bytes(shape);
        let heads = self.0.chunks_exact(of_head).zip(copy.0.chunks_exact_mut(of_head));
        for (from, to) in heads {
            to[..used].copy_from_slice(&from[..used]);
        }
        Ok(copy)
    }

    /// KV head `head`'s part of page `page`.
    #[inline]
    pub fn head(&self, shape: &KvShape, page: usize, head: usize) -> Head<'_> {
        let len = head_bytes(shape);
        Head::new(shape, &self.0[(head * pages(shape) + page) * len..][..len])
    }

    /// Every KV head's parts of some pages, to be written: `[pages][kv_heads]`.
    pub fn heads_mut(&mut self, shape: &KvShape, which: Range<usize>) -> Vec<Vec<HeadMut<'_>>> {
        let len = head_bytes(shape);
        let mut all = Vec::new();
        all.resize_with(which.len(), Vec::new);
        for head in self.0.chunks_exact_mut(pages(shape) * len) {
            let parts = head[which.start * len..which.end * len].chunks_exact_mut(len);
            for (heads, part) in all.iter_mut().zip(parts) {
                heads.push(HeadMut::new(shape, part));
            }
        }
        all
    }
}

/// Bytes of one page of `shape`.
pub(crate) fn page_bytes(shape: &KvShape) -> usize {
    shape.kv_heads * head_bytes(shape)
}

/// The slab of page `number`, and the page's place in it.
pub(crate) fn place(shape: &KvShape, number: usize) -> (usize, usize) {
    (number / pages(shape), number % pages(shape))
}

/// Positions of a slab.
pub(crate) fn positions(shape: &KvShape) -> usize {
    pages(shape) * PAGE
}
