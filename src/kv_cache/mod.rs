//! Keys and values of the positions seen so far, per layer.
//!
//! A layer's cache is a queue of slabs of a few pages, and a page is [`PAGE`]
//! positions, aligned to absolute positions. A layer with a sliding window drops
//! slabs that have left the window: the queue is a ring whose capacity is the
//! window (plus the rows of one batch and one slab). Slabs are shared between
//! [forks](KvCache::fork) and copied when one of them writes.

mod page;
mod slab;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use page::{
    ByteLine, Codes, Head, HeadMut, Line, PAGE, Ratios, Scales, head_bytes, max_code, place_of_key,
    place_of_value,
};

use slab::Slab;

use crate::error::{Error, Result};

/// How keys and values are stored. Sums over integer codes are exact, so all
/// types give the same bits on every processor.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KvType {
    /// 16-bit integers and one scale per position and KV head: the default.
    /// In the place of half precision: as much memory, as precise, and faster.
    #[default]
    I16,
    /// 8-bit integers with a scale for each 32 of them: 54 % of that memory.
    Q8_0,
    /// Single precision: twice the memory and slow, for comparing engines.
    F32,
}

/// The shape of a model's cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct KvShape {
    /// The window of each layer; `None` = full attention.
    pub windows: Vec<Option<usize>>,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub kv_type: KvType,
}

impl KvShape {
    /// Groups of 16 dimensions per head.
    pub fn width(&self) -> usize {
        self.head_dim.div_ceil(16)
    }

    /// Groups of 32 dimensions per head: each has its scale in Q8_0.
    pub fn groups(&self) -> usize {
        self.head_dim.div_ceil(32)
    }

    /// Lines of codes in the keys (or the values) of one head of a page.
    pub fn lines(&self) -> usize {
        PAGE / 2 * self.width()
    }
}

/// The cache of one conversation.
#[derive(Debug, Clone)]
pub struct KvCache {
    shape: Arc<KvShape>,
    layers: Vec<Layer>,
    len: usize,
    capacity: usize,
}

/// One layer's slabs, the first of them number `first`.
#[derive(Debug, Clone, Default)]
struct Layer {
    slabs: VecDeque<Arc<Slab>>,
    first: usize,
    /// Number of the first page not made yet.
    end: usize,
}

impl KvCache {
    /// An empty cache for up to `capacity` positions. Memory is taken as
    /// positions come.
    pub(crate) fn new(shape: Arc<KvShape>, capacity: usize) -> Self {
        let layers = vec![Layer::default(); shape.windows.len()];
        KvCache { shape, layers, len: 0, capacity }
    }

    /// Positions held: the next token gets this position.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Positions that fit (the context length).
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Changes how many positions fit; nothing is reloaded or moved.
    ///
    /// # Errors
    /// [`Error::Misuse`] if more positions than that are already held.
    pub fn set_capacity(&mut self, capacity: usize) -> Result<()> {
        if capacity < self.len {
            let len = self.len;
            return Err(Error::misuse(format!("the cache holds {len} positions, over {capacity}")));
        }
        self.capacity = capacity;
        Ok(())
    }

    /// A second cache with the same content. Memory is shared until one of
    /// the two writes to it.
    pub fn fork(&self) -> KvCache {
        self.clone()
    }

    /// Forgets all positions.
    pub fn clear(&mut self) {
        self.layers.fill(Layer::default());
        self.len = 0;
    }

    /// Forgets the positions from `len` on.
    ///
    /// # Errors
    /// [`Error::Misuse`] if `len` is more than is held, or if a sliding window
    /// has already dropped positions that the token at `len` would see. Nothing
    /// is changed then; [`clear`](KvCache::clear) and feed again.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        if len > self.len {
            let held = self.len;
            return Err(Error::misuse(format!("cannot truncate {held} positions to {len}")));
        }
        let of_slab = slab::positions(&self.shape);
        for (layer, window) in self.layers.iter().zip(&self.shape.windows) {
            let held = layer.first * of_slab;
            if held > first_seen(len, *window) {
                return Err(Error::misuse(format!(
                    "cannot truncate to {len} positions: the sliding window has dropped those \
                     before {held}"
                )));
            }
        }
        for layer in &mut self.layers {
            layer.slabs.truncate(len.div_ceil(of_slab).saturating_sub(layer.first));
            layer.end = layer.end.min(len.div_ceil(PAGE));
        }
        self.len = len;
        Ok(())
    }

    /// Bytes of all pages held, shared ones included.
    pub fn bytes(&self) -> usize {
        let of_slab = slab::pages(&self.shape);
        let pages: usize = self.layers.iter().map(|layer| layer.end - layer.first * of_slab).sum();
        pages * slab::page_bytes(&self.shape)
    }

    /// Makes pages for `rows` more positions, unshared where they will be
    /// written, so that the forward pass cannot fail half-way.
    ///
    /// # Errors
    /// [`Error::Limit`] if they do not fit the capacity or memory is short.
    pub(crate) fn reserve(&mut self, rows: usize) -> Result<()> {
        let end = self.len.saturating_add(rows);
        if end > self.capacity {
            return Err(Error::Limit {
                what: "positions in the context",
                needed: end as u64,
                allowed: self.capacity as u64,
            });
        }
        let shape = &*self.shape;
        let of_slab = slab::positions(shape);
        let first_written = self.len / of_slab;
        for layer in &mut self.layers {
            let written = (layer.first..).zip(&mut layer.slabs).skip(first_written - layer.first);
            for (number, slab) in written {
                if Arc::get_mut(slab).is_none() {
                    let used = self.len.saturating_sub(number * of_slab).div_ceil(PAGE);
                    *slab = Arc::new(slab.copied(shape, used)?);
                }
            }
            while layer.first + layer.slabs.len() < end.div_ceil(of_slab) {
                layer.slabs.push_back(Arc::new(Slab::new(shape)?));
            }
            layer.end = layer.end.max(end.div_ceil(PAGE));
        }
        Ok(())
    }

    /// The shape.
    pub(crate) fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// The pages of `rows` reserved positions after those held, to be written:
    /// each page's heads, and the positions among the `rows` that lie in it.
    pub(crate) fn reserved(&mut self, layer: usize, rows: usize) -> Vec<Reserved<'_>> {
        let (start, end) = (self.len, self.len + rows);
        let shape = &*self.shape;
        let (of_slab, pages) = (slab::positions(shape), slab::pages(shape));
        let Layer { slabs, first, .. } = &mut self.layers[layer];
        let mut all = Vec::new();
        for (number, slab) in (*first..).zip(slabs).skip(start / of_slab - *first) {
            // The pages of the slab that are written.
            let first_page = (start / PAGE).max(number * pages);
            let end_page = end.div_ceil(PAGE).min((number + 1) * pages);
            if first_page >= end_page {
                break;
            }
            // `reserve` made the slab and owns it alone.
            let slab = Arc::get_mut(slab);
            debug_assert!(slab.is_some(), "slab {number} not reserved");
            let Some(slab) = slab else { continue };
            let which = first_page - number * pages..end_page - number * pages;
            for (page, heads) in (first_page..).zip(slab.heads_mut(shape, which)) {
                let positions = start.max(page * PAGE)..end.min((page + 1) * PAGE);
                let rows = positions.start - start..positions.end - start;
                all.push(Reserved { heads, rows, slot: positions.start % PAGE });
            }
        }
        all
    }

    /// Counts `rows` written positions as held, and drops slabs that no later
    /// position can see.
    pub(crate) fn commit(&mut self, rows: usize) {
        self.len += rows;
        let of_slab = slab::positions(&self.shape);
        for (layer, window) in self.layers.iter_mut().zip(&self.shape.windows) {
            while (layer.first + 1) * of_slab <= first_seen(self.len, *window) {
                layer.slabs.pop_front();
                layer.first += 1;
            }
        }
    }

    /// What the row at `position` sees in `layer`.
    pub(crate) fn seen(&self, layer: usize, position: usize) -> Range<usize> {
        first_seen(position, self.shape.windows[layer])..position + 1
    }

    /// Positions `number · PAGE ..` of `layer`, of one KV head; `None` if they
    /// are not held.
    #[inline]
    pub(crate) fn head(&self, layer: usize, number: usize, kv_head: usize) -> Option<Head<'_>> {
        let layer = &self.layers[layer];
        let (slab, page) = slab::place(&self.shape, number);
        let slab = layer.slabs.get(slab.checked_sub(layer.first)?)?;
        Some(slab.head(&self.shape, page, kv_head))
    }
}

/// A page's heads, to be written from slot `slot` on.
#[derive(Debug)]
pub(crate) struct Reserved<'a> {
    /// `[kv_heads]`
    pub heads: Vec<HeadMut<'a>>,
    /// Which of the reserved rows lie in the page.
    pub rows: Range<usize>,
    pub slot: usize,
}

/// The first position that a token at `position` sees: with window W, token i
/// sees j while i − j < W.
fn first_seen(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(window: Option<usize>, capacity: usize) -> KvCache {
        let shape =
            KvShape { windows: vec![window, None], kv_heads: 2, head_dim: 4, kv_type: KvType::F32 };
        KvCache::new(Arc::new(shape), capacity)
    }

    fn feed(cache: &mut KvCache, rows: usize, tag: f32) {
        cache.reserve(rows).unwrap();
        let held = cache.len();
        for layer in 0..2 {
            for Reserved { heads, rows, slot } in cache.reserved(layer, rows) {
                for (head, part) in heads.into_iter().enumerate() {
                    let HeadMut::F32 { keys, .. } = part else { unreachable!() };
                    for (i, row) in rows.clone().enumerate() {
                        let number = tag + ((held + row) * 8 + 4 * head) as f32;
                        keys[(slot + i) * 4..][..4].fill(number);
                    }
                }
            }
        }
        cache.commit(rows);
    }

    /// The first number of every key of head 1 that `position` sees.
    fn seen(cache: &KvCache, layer: usize, position: usize) -> Vec<f32> {
        let key = |p: usize| {
            let head = cache.head(layer, p / PAGE, 1).unwrap();
            let Head::F32 { keys, .. } = head else { unreachable!() };
            keys[p % PAGE * 4]
        };
        cache.seen(layer, position).map(key).collect()
    }

    #[test]
    fn a_window_sees_its_last_positions_and_drops_the_rest() {
        let mut cache = cache(Some(10), 10_000);
        for _ in 0..1000 {
            feed(&mut cache, 7, 0.0);
            assert!(cache.layers[0].slabs.len() <= 2);
        }
        let expected: Vec<f32> = (6990..7000).map(|p| (p * 8 + 4) as f32).collect();
        assert_eq!(seen(&cache, 0, 6999), expected);
        assert_eq!(seen(&cache, 1, 6999).len(), 7000);
        let of_slab = slab::positions(cache.shape());
        assert_eq!(cache.layers[1].slabs.len(), 7000usize.div_ceil(of_slab));
    }

    #[test]
    fn forks_share_until_they_write() {
        let mut a = cache(None, 5000);
        let of_slab = slab::positions(a.shape());
        feed(&mut a, of_slab + 100, 0.0);
        let mut b = a.fork();
        assert!(Arc::ptr_eq(&a.layers[0].slabs[1], &b.layers[0].slabs[1]));
        feed(&mut a, 1, 5000.0);
        feed(&mut b, 1, 7000.0);
        assert!(Arc::ptr_eq(&a.layers[0].slabs[0], &b.layers[0].slabs[0]));
        let last = of_slab + 100;
        assert_eq!(seen(&a, 0, last)[..last], seen(&b, 0, last)[..last]);
        assert_eq!(seen(&a, 0, last)[last] + 2000.0, seen(&b, 0, last)[last]);
    }

    #[test]
    fn truncate_keeps_a_prefix_or_refuses() {
        let mut full = cache(None, 1000);
        feed(&mut full, 200, 0.0);
        let before = seen(&full, 0, 69);
        full.truncate(70).unwrap();
        assert_eq!((full.len(), seen(&full, 0, 69)), (70, before));
        assert!(full.truncate(71).is_err());
        full.truncate(0).unwrap();
        assert_eq!(full.bytes(), 0);

        let mut windowed = cache(Some(10), 5000);
        let of_slab = slab::positions(windowed.shape());
        feed(&mut windowed, of_slab + 100, 0.0);
        assert!(windowed.truncate(of_slab).is_err(), "positions before are gone");
        assert_eq!(windowed.len(), of_slab + 100);
        windowed.truncate(of_slab + 99).unwrap();
    }

    #[test]
    fn bytes_are_those_of_the_numbers() {
        let per_number = |kv_type, head_dim| {
            let shape = KvShape { windows: vec![None], kv_heads: 2, head_dim, kv_type };
            let mut cache = KvCache::new(Arc::new(shape), 100);
            cache.reserve(1).unwrap();
            cache.bytes() as f64 / (2 * 2 * PAGE * head_dim) as f64
        };
        assert_eq!(per_number(KvType::F32, 128), 4.0);
        assert_eq!(per_number(KvType::I16, 128), 260.0 / 128.0);
        assert_eq!(per_number(KvType::Q8_0, 128), 140.0 / 128.0);
        assert_eq!(per_number(KvType::F32, 20), 4.0);
    }

    #[test]
    fn the_capacity_is_a_limit_not_a_panic() {
        let mut cache = cache(None, 10);
        feed(&mut cache, 10, 0.0);
        assert!(matches!(cache.reserve(1), Err(Error::Limit { needed: 11, allowed: 10, .. })));
        assert!(matches!(cache.reserve(usize::MAX), Err(Error::Limit { .. })));
        assert!(cache.set_capacity(9).is_err());
        cache.set_capacity(11).unwrap();
        cache.reserve(1).unwrap();
    }
}
