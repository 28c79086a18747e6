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

use super::budget::{Charge, Promise};
use super::page::{Head, HeadMut, head_bytes};
use super::{KvShape, PAGE};
use crate::error::{Bounded, Error, Result};

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
pub(crate) struct Slab {
    // In this order: the memory is given back before its bytes count as free.
    map: MmapMut,
    charge: Charge,
}

impl Slab {
    /// Pages of zeros, paid by `promise` or, beyond that, by its budget.
    pub fn new(shape: &KvShape, promise: &mut Promise) -> Result<Self> {
        let bytes = bytes(shape);
        let charge = promise.spend(bytes)?;
        match MmapMut::map_anon(bytes) {
            Ok(map) => {
                // Without huge pages all still works.
                #[cfg(target_os = "linux")]
                let _ = map.advise(memmap2::Advice::HugePage);
                Ok(Slab { map, charge })
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

    /// A second slab whose first `used` pages are the same.
    pub fn copied(&self, shape: &KvShape, used: usize, promise: &mut Promise) -> Result<Self> {
        let mut copy = Slab::new(shape, promise)?;
        let of_head = pages(shape) * head_bytes(shape);
        let used = used.min(pages(shape)) * head_bytes(shape);
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
    pub fn part(&self, shape: &KvShape, page: usize, head: usize) -> &[u8] {
        let len = head_bytes(shape);
        &self.map[(head * pages(shape) + page) * len..][..len]
    }

    /// As [`part`](Slab::part), to be written.
    pub fn part_mut(&mut self, shape: &KvShape, page: usize, head: usize) -> &mut [u8] {
        let len = head_bytes(shape);
        &mut self.map[(head * pages(shape) + page) * len..][..len]
    }

    /// KV head `head`'s part of page `page`.
    #[inline]
    pub fn head(&self, shape: &KvShape, page: usize, head: usize) -> Head<'_> {
        Head::new(shape, self.part(shape, page, head))
    }

    /// Every KV head's parts of some pages, to be written: `[pages][kv_heads]`.
    pub fn heads_mut(&mut self, shape: &KvShape, which: Range<usize>) -> Vec<Vec<HeadMut<'_>>> {
        let len = head_bytes(shape);
        let mut all = Vec::new();
        all.resize_with(which.len(), Vec::new);
        for head in self.map.chunks_exact_mut(pages(shape) * len) {
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

/// Bytes of a slab of `shape`; `usize::MAX` if the number does not fit.
pub(crate) fn bytes(shape: &KvShape) -> usize {
    let page = shape.kv_heads.checked_mul(head_bytes(shape));
    page.and_then(|page| page.checked_mul(pages(shape))).unwrap_or(usize::MAX)
}

/// The slab of page `number`, and the page's place in it.
pub(crate) fn place(shape: &KvShape, number: usize) -> (usize, usize) {
    (number / pages(shape), number % pages(shape))
}

/// Positions of a slab.
pub(crate) fn positions(shape: &KvShape) -> usize {
    pages(shape) * PAGE
}
