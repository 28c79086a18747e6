//! Keys and values of the positions seen so far, per layer.
//!
//! A layer's cache is a queue of pages of [`PAGE`] positions, aligned to
//! absolute positions. A layer with a sliding window drops pages that have left
//! the window: the queue is a ring whose capacity is the window (plus the rows
//! of one batch). Pages are shared between [forks](KvCache::fork) and copied
//! when one of them writes.

mod page;

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

pub(crate) use page::{
    ByteLine, Codes, Head, HeadMut, Line, PAGE, Page, Scales, max_code, place_of_key,
    place_of_value,
};

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

/// One layer's pages; the first holds positions from `first · PAGE`.
#[derive(Debug, Clone, Default)]
struct Layer {
    pages: VecDeque<Arc<Page>>,
    first: usize,
}

impl KvCache {
    /// An empty cache for up to `capacity` positions. Memory is taken page by
    /// page as positions come.
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

    /// A second cache with the same content. Pages are shared until one of the
    /// two writes to them.
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
        for (layer, window) in self.layers.iter().zip(&self.shape.windows) {
            if layer.first * PAGE > first_seen(len, *window) {
                return Err(Error::misuse(format!(
                    "cannot truncate to {len} positions: the sliding window has dropped those \
                     before {}",
                    layer.first * PAGE
                )));
            }
        }
        for layer in &mut self.layers {
            layer.pages.truncate(len.div_ceil(PAGE).saturating_sub(layer.first));
        }
        self.len = len;
        Ok(())
    }

    /// Bytes of all pages held, shared ones included.
    pub fn bytes(&self) -> usize {
        let pages: usize = self.layers.iter().map(|layer| layer.pages.len()).sum();
        pages * Page::bytes(&self.shape)
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
        let first_written = self.len / PAGE;
        for layer in &mut self.layers {
            for page in layer.pages.iter_mut().skip(first_written - layer.first) {
                if Arc::get_mut(page).is_none() {
                    *page = Arc::new(page.copied()?);
                }
            }
            while layer.first + layer.pages.len() < end.div_ceil(PAGE) {
                layer.pages.push_back(Arc::new(Page::new(&self.shape)?));
            }
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
        let Layer { pages, first } = &mut self.layers[layer];
        let mut all = Vec::new();
        for (number, page) in (*first..).zip(pages).skip(start / PAGE - *first) {
            let positions = start.max(number * PAGE)..end.min((number + 1) * PAGE);
            // `reserve` made the page and owns it alone.
            let page = Arc::get_mut(page);
            debug_assert!(page.is_some() || positions.is_empty(), "{positions:?} not reserved");
            if let (Some(page), false) = (page, positions.is_empty()) {
                let rows = positions.start - start..positions.end - start;
                let heads = page.heads_mut(&self.shape);
                all.push(Reserved { heads, rows, slot: positions.start % PAGE });
            }
        }
        all
    }

    /// Counts `rows` written positions as held, and drops pages that no later
    /// position can see.
    pub(crate) fn commit(&mut self, rows: usize) {
        self.len += rows;
        for (layer, window) in self.layers.iter_mut().zip(&self.shape.windows) {
            while (layer.first + 1) * PAGE <= first_seen(self.len, *window) {
                layer.pages.pop_front();
                layer.first += 1;
            }
        }
    }

    /// What the row at `position` sees in `layer`.
    pub(crate) fn seen(&self, layer: usize, position: usize) -> Range<usize> {
        first_seen(position, self.shape.windows[layer])..position + 1
    }

    /// Positions `number · PAGE ..` of `layer`; `None` if they are not held.
    pub(crate) fn page(&self, layer: usize, number: usize) -> Option<&Page> {
        let layer = &self.layers[layer];
        layer.pages.get(number.checked_sub(layer.first)?).map(|page| &**page)
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
            let page = cache.page(layer, p / PAGE).unwrap();
            let Head::F32 { keys, .. } = page.head(cache.shape(), 1) else { unreachable!() };
            keys[p % PAGE * 4]
        };
        cache.seen(layer, position).map(key).collect()
    }

    #[test]
    fn a_window_sees_its_last_positions_and_drops_the_rest() {
        let mut cache = cache(Some(10), 1000);
        for _ in 0..100 {
            feed(&mut cache, 7, 0.0);
        }
        let expected: Vec<f32> = (690..700).map(|p| (p * 8 + 4) as f32).collect();
        assert_eq!(seen(&cache, 0, 699), expected);
        assert_eq!(seen(&cache, 1, 699).len(), 700);
        assert!(cache.layers[0].pages.len() <= 2);
        assert_eq!(cache.layers[1].pages.len(), 700usize.div_ceil(PAGE));
    }

    #[test]
    fn forks_share_until_they_write() {
        let mut a = cache(None, 1000);
        feed(&mut a, 100, 0.0);
        let mut b = a.fork();
        assert!(Arc::ptr_eq(&a.layers[0].pages[1], &b.layers[0].pages[1]));
        feed(&mut a, 1, 5000.0);
        feed(&mut b, 1, 7000.0);
        assert!(Arc::ptr_eq(&a.layers[0].pages[0], &b.layers[0].pages[0]));
        assert_eq!(seen(&a, 0, 100)[..100], seen(&b, 0, 100)[..100]);
        assert_eq!(seen(&a, 0, 100)[100] + 2000.0, seen(&b, 0, 100)[100]);
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

        let mut windowed = cache(Some(10), 1000);
        feed(&mut windowed, 200, 0.0);
        assert!(windowed.truncate(100).is_err(), "positions 91.. are gone");
        assert_eq!(windowed.len(), 200);
        windowed.truncate(199).unwrap();
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
