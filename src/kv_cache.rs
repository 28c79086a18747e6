//! Keys and values of the positions seen so far, per layer.
//!
//! A layer's cache is a queue of pages of [`PAGE`] positions, aligned to
//! absolute positions. A layer with a sliding window drops pages that have left
//! the window: the queue is a ring whose capacity is the window (plus the rows
//! of one batch). Pages are shared between [forks](KvCache::fork) and copied
//! when one of them writes.
//!
//! Page layout: keys and values each `[kv_heads, PAGE, head_dim]`, keys after
//! the rotary embedding.

use std::collections::VecDeque;
use std::sync::Arc;

use half::f16;

use crate::error::{Error, Result};

/// Positions per page. Attention works page by page, so this is also the unit
/// in which its sums are formed: changing it changes the last bits of results.
pub(crate) const PAGE: usize = 64;

/// How keys and values are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum KvType {
    /// Half precision: the default.
    #[default]
    F16,
    /// Single precision: twice the memory, for comparing engines.
    F32,
}

impl KvType {
    fn bytes(self) -> usize {
        match self {
            KvType::F16 => 2,
            KvType::F32 => 4,
        }
    }
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
    /// Numbers in the keys (or the values) of one page.
    fn page_len(&self) -> usize {
        self.kv_heads * PAGE * self.head_dim
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

/// Keys and values of [`PAGE`] positions.
#[derive(Debug, Clone)]
pub(crate) struct Page {
    pub keys: Rows,
    pub values: Rows,
}

/// `[kv_heads, PAGE, head_dim]`
#[derive(Debug, Clone)]
pub(crate) enum Rows {
    F16(Vec<u16>),
    F32(Vec<f32>),
}

impl Rows {
    fn zeroed(len: usize, kv_type: KvType) -> Result<Self> {
        match kv_type {
            KvType::F16 => zeroed(len).map(Rows::F16),
            KvType::F32 => zeroed(len).map(Rows::F32),
        }
    }

    fn copied(&self) -> Result<Self> {
        match self {
            Rows::F16(rows) => copied(rows).map(Rows::F16),
            Rows::F32(rows) => copied(rows).map(Rows::F32),
        }
    }

    /// Writes `row` at `start`.
    fn write(&mut self, start: usize, row: &[f32]) {
        match self {
            Rows::F16(rows) => {
                for (out, &x) in rows[start..].iter_mut().zip(row) {
                    *out = f16::from_f32(x).to_bits();
                }
            }
            Rows::F32(rows) => rows[start..start + row.len()].copy_from_slice(row),
        }
    }
}

fn no_memory(bytes: usize) -> Error {
    Error::Limit { what: "bytes for the KV cache", needed: bytes as u64, allowed: 0 }
}

fn zeroed<T: Clone + Default>(len: usize) -> Result<Vec<T>> {
    let mut rows = Vec::new();
    rows.try_reserve_exact(len).map_err(|_| no_memory(len * size_of::<T>()))?;
    rows.resize(len, T::default());
    Ok(rows)
}

fn copied<T: Clone>(rows: &[T]) -> Result<Vec<T>> {
    let mut copy = Vec::new();
    copy.try_reserve_exact(rows.len()).map_err(|_| no_memory(size_of_val(rows)))?;
    copy.extend_from_slice(rows);
    Ok(copy)
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
        pages * 2 * self.shape.page_len() * self.shape.kv_type.bytes()
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
        let (page_len, kv_type) = (self.shape.page_len(), self.shape.kv_type);
        let first_written = self.len / PAGE;
        for layer in &mut self.layers {
            for page in layer.pages.iter_mut().skip(first_written - layer.first) {
                if Arc::get_mut(page).is_none() {
                    let (keys, values) = (page.keys.copied()?, page.values.copied()?);
                    *page = Arc::new(Page { keys, values });
                }
            }
            while layer.first + layer.pages.len() < end.div_ceil(PAGE) {
                let keys = Rows::zeroed(page_len, kv_type)?;
                let values = Rows::zeroed(page_len, kv_type)?;
                layer.pages.push_back(Arc::new(Page { keys, values }));
            }
        }
        Ok(())
    }

    /// Writes key and value (`[kv_heads, head_dim]`) of a reserved `position`.
    pub(crate) fn write(&mut self, layer: usize, position: usize, key: &[f32], value: &[f32]) {
        let head_dim = self.shape.head_dim;
        let layer = &mut self.layers[layer];
        // `reserve` made the page and owns it alone.
        let page = layer.pages.get_mut(position / PAGE - layer.first).and_then(Arc::get_mut);
        let Some(page) = page else {
            debug_assert!(false, "position {position} was not reserved");
            return;
        };
        for (head, (key, value)) in
            key.chunks_exact(head_dim).zip(value.chunks_exact(head_dim)).enumerate()
        {
            let start = (head * PAGE + position % PAGE) * head_dim;
            page.keys.write(start, key);
            page.values.write(start, value);
        }
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
    pub(crate) fn view(&self, layer: usize, position: usize) -> View<'_> {
        let start = first_seen(position, self.shape.windows[layer]);
        View { layer: &self.layers[layer], start, end: position + 1 }
    }
}

/// The first position that a token at `position` sees: with window W, token i
/// sees j while i − j < W.
fn first_seen(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// The positions `start..end` of one layer.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    layer: &'a Layer,
    start: usize,
    end: usize,
}

impl<'a> View<'a> {
    /// The pages in ascending order, each with its slots that are seen.
    pub fn pages(self) -> impl Iterator<Item = (&'a Page, std::ops::Range<usize>)> {
        let View { layer, start, end } = self;
        (start / PAGE..end.div_ceil(PAGE)).filter_map(move |number| {
            let slots = start.saturating_sub(number * PAGE)..(end - number * PAGE).min(PAGE);
            Some((&**layer.pages.get(number - layer.first)?, slots))
        })
    }
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
        for position in cache.len()..cache.len() + rows {
            let row: Vec<f32> = (0..8).map(|i| tag + (position * 8 + i) as f32).collect();
            cache.write(0, position, &row, &row);
            cache.write(1, position, &row, &row);
        }
        cache.commit(rows);
    }

    /// The first number of every key of head 1 that `position` sees.
    fn seen(cache: &KvCache, layer: usize, position: usize) -> Vec<f32> {
        let pages = cache.view(layer, position).pages();
        pages
            .flat_map(|(page, slots)| {
                let Rows::F32(keys) = &page.keys else { unreachable!() };
                slots.map(|slot| keys[(PAGE + slot) * 4]).collect::<Vec<_>>()
            })
            .collect()
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
