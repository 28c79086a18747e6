//! Keys and values of the positions seen so far, per layer.
//!
//! A layer's cache is a queue of blocks of a few pages, and a page is [`PAGE`]
//! positions, aligned to absolute positions. A layer with a sliding window drops
//! blocks that have left the window: the queue is a ring whose capacity is the
//! window (plus what a truncation may show again, the rows of one batch and one
//! block). Blocks are shared between [forks](KvCache::fork) and copied when one of
//! them writes.
//!
//! Layers that are no attention keep a state of all positions instead (`state.rs`).
//!
//! Blocks and states are paid from a budget (`budget.rs`), which a cache can have set aside
//! for its growth (`reservation.rs`).

mod block;
mod budget;
mod check;
mod page;
mod reservation;
mod rewind;
mod shape;
mod state;

use std::collections::VecDeque;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

pub(crate) use budget::KvBudget;
pub(crate) use check::{check_part, clear_slots};
pub(crate) use page::{
    ByteLine, Codes, Head, HeadMut, HeadShape, Line, MIN_SCALE, PAGE, Ratios, Scales, max_code,
    place_of_key, place_of_value,
};
pub(crate) use shape::{KvLayer, KvShape};
pub(crate) use state::StatePass;

use block::Block;
use budget::{Promise, over_budget};
use reservation::Target;
use state::States;

use crate::error::{Bounded, Error, Result};

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

impl KvType {
    /// All types, in the order of this enum.
    pub const ALL: [KvType; 3] = [KvType::I16, KvType::Q8_0, KvType::F32];

    /// The name that [`FromStr`](std::str::FromStr) reads: `i16`, `q8_0` or `f32`.
    pub fn name(self) -> &'static str {
        match self {
            KvType::I16 => "i16",
            KvType::Q8_0 => "q8_0",
            KvType::F32 => "f32",
        }
    }
}

impl fmt::Display for KvType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for KvType {
    type Err = Error;

    /// Reads a [`name`](KvType::name) in any case. `f16`, which other engines call their
    /// 16 bits, is [`KvType::I16`].
    ///
    /// # Errors
    /// [`Error::Misuse`] for any other name.
    fn from_str(name: &str) -> Result<Self> {
        let lower = name.to_ascii_lowercase();
        let known = KvType::ALL.into_iter().find(|kv_type| kv_type.name() == lower);
        known.or((lower == "f16").then_some(KvType::I16)).ok_or_else(|| {
            let name: String = name.chars().take(40).collect();
            Error::misuse(format!(
                "KV type {name:?} is unknown; i16 (or f16), q8_0 and f32 are known"
            ))
        })
    }
}

/// The cache of one conversation.
#[derive(Debug)]
pub struct KvCache {
    shape: Arc<KvShape>,
    layers: Vec<Layer>,
    states: States,
    len: usize,
    capacity: usize,
    /// Memory set aside for blocks not made yet.
    promise: Promise,
    /// How far the promise reaches, if there is a reservation.
    target: Option<Target>,
}

/// One layer's blocks, the first of them number `first`.
#[derive(Debug, Clone, Default)]
struct Layer {
    blocks: VecDeque<Arc<Block>>,
    first: usize,
    /// Number of the first page held: in block `first` or, of a cache that was
    /// read from a file, behind it.
    begin: usize,
    /// Number of the first page not made yet.
    end: usize,
}

impl KvCache {
    /// A [`truncate`](KvCache::truncate) by up to as many positions works also
    /// where sliding windows have moved on: rejected drafts are taken back so.
    pub(crate) const MOST_BACK: usize = 64;

    /// An empty cache for up to `capacity` positions. Memory is taken as
    /// positions come.
    pub(crate) fn new(shape: Arc<KvShape>, capacity: usize) -> Self {
        KvCache::within(shape, capacity, KvBudget::unlimited())
    }

    /// An empty cache whose memory is part of `budget`.
    pub(crate) fn within(shape: Arc<KvShape>, capacity: usize, budget: Arc<KvBudget>) -> Self {
        let layers = vec![Layer::default(); shape.layers().len()];
        let (states, promise) = (States::default(), Promise::new(budget));
        KvCache { shape, layers, states, len: 0, capacity, promise, target: None }
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

    /// A second cache with the same content and budget, without the reservation. Memory
    /// is shared until one of the two writes to it.
    pub fn fork(&self) -> KvCache {
        let mut layers = self.layers.clone();
        let needed = self.len.div_ceil(self.shape.block_positions());
        for layer in &mut layers {
            // What is ready for the original's next positions is its own.
            layer.blocks.truncate(needed.saturating_sub(layer.first));
        }
        KvCache {
            shape: self.shape.clone(),
            layers,
            states: self.states.fork(),
            len: self.len,
            capacity: self.capacity,
            promise: Promise::new(self.promise.budget().clone()),
            target: None,
        }
    }

    /// Makes up to `most` of the blocks that `rows` more positions will need, and has
    /// the system find their memory, which takes milliseconds each: done a few at a
    /// time, no forward pass waits for a whole set of them. Returns how many it made.
    ///
    /// # Errors
    /// As [`allocate`](KvCache::allocate); it will say so again.
    pub(crate) fn prepare(&mut self, rows: usize, most: usize) -> Result<usize> {
        let KvCache { shape, layers, promise, len, capacity, .. } = self;
        let end = len.saturating_add(rows).min(*capacity);
        let needed = end.div_ceil(shape.block_positions());
        let mut made = 0;
        for (index, layer) in layers.iter_mut().enumerate() {
            while made < most && layer.first + layer.blocks.len() < needed {
                let mut block = Block::new(shape, index, promise)?;
                block.touch();
                layer.blocks.push_back(Arc::new(block));
                made += 1;
            }
        }
        Ok(made)
    }

    /// Whether the blocks for `rows` more positions are there.
    pub(crate) fn is_prepared(&self, rows: usize) -> bool {
        let needed = self.len.saturating_add(rows).div_ceil(self.shape.block_positions());
        self.layers.iter().all(|layer| layer.first + layer.blocks.len() >= needed)
    }

    /// Forgets all positions, and ends the reservation.
    pub fn clear(&mut self) {
        self.layers.fill(Layer::default());
        self.states = States::default();
        self.len = 0;
        self.target = None;
        self.promise.lower(0);
    }

    /// Bytes of all pages and states held, shared ones included.
    pub fn bytes(&self) -> usize {
        let layers = self.layers.iter().enumerate();
        let pages = layers.map(|(i, l)| (l.end - l.begin) * self.shape.page_bytes(i));
        pages.sum::<usize>() + self.states.bytes(&self.shape)
    }

    /// Makes pages for `rows` more positions, unshared where they will be
    /// written, so that the forward pass cannot fail half-way.
    ///
    /// # Errors
    /// [`Error::Limit`] if they do not fit the capacity or, beyond what was
    /// reserved, the budget; nothing is changed then. The same if the system has no
    /// memory; what was made until then stays for the next call.
    pub(crate) fn allocate(&mut self, rows: usize) -> Result<()> {
        let end = self.len.saturating_add(rows);
        if end > self.capacity {
            return Err(Error::limit(Bounded::Context, end, self.capacity));
        }
        self.fill(end)
    }

    /// Pays for and makes what is missing up to position `end`.
    fn fill(&mut self, end: usize) -> Result<()> {
        let bytes = self.unmade(end).saturating_add(self.states.unmade(&self.shape));
        if bytes > self.promise.bytes() {
            self.promise.set(bytes).map_err(|free| over_budget(bytes, free))?;
        }
        let made = self.make(end);
        if made.is_err() {
            self.settle();
        }
        made
    }

    /// Bytes of the blocks that [`make`](KvCache::make) would make.
    fn unmade(&self, end: usize) -> usize {
        let of_block = self.shape.block_positions();
        let of_layer = |(index, layer): (usize, &Layer)| {
            let written = layer.blocks.iter().skip(self.len / of_block - layer.first);
            let shared = written.filter(|block| Arc::strong_count(block) > 1).count();
            let new = end.div_ceil(of_block).saturating_sub(layer.first + layer.blocks.len());
            shared.saturating_add(new).saturating_mul(self.shape.block_bytes(index))
        };
        self.layers.iter().enumerate().map(of_layer).fold(0, usize::saturating_add)
    }

    /// Makes blocks up to position `end`, and copies those that are shared from the
    /// one on that is written next.
    fn make(&mut self, end: usize) -> Result<()> {
        let KvCache { shape, layers, states, promise, len, .. } = self;
        let of_block = shape.block_positions();
        for (index, layer) in layers.iter_mut().enumerate() {
            let written =
                (layer.first..).zip(&mut layer.blocks).skip(*len / of_block - layer.first);
            for (number, block) in written {
                if Arc::get_mut(block).is_none() {
                    let used = len.saturating_sub(number * of_block).div_ceil(PAGE);
                    *block = Arc::new(block.copied(shape, index, used, promise)?);
                }
            }
            while layer.first + layer.blocks.len() < end.div_ceil(of_block) {
                layer.blocks.push_back(Arc::new(Block::new(shape, index, promise)?));
            }
            layer.end = layer.end.max(end.div_ceil(PAGE));
        }
        states.make(shape, end - *len, promise)
    }

    /// What the pass under way reads and writes of recurrent layer `layer`: between
    /// [`allocate`](KvCache::allocate) and [`commit`](KvCache::commit).
    pub(crate) fn state(&mut self, layer: usize) -> Option<StatePass<'_>> {
        self.states.pass(&self.shape, layer)
    }

    /// The present states of all recurrent layers; `None` at position 0.
    pub(crate) fn present_state(&self) -> Option<&[f32]> {
        self.states.present()
    }

    /// As [`present_state`](KvCache::present_state), to be written; `None` also if it is
    /// shared.
    pub(crate) fn present_state_mut(&mut self) -> Option<&mut [f32]> {
        self.states.present_mut()
    }

    /// The shape.
    pub(crate) fn shape(&self) -> &KvShape {
        &self.shape
    }

    /// The pages of `rows` allocated positions after those held, to be written:
    /// each page's heads, and the positions among the `rows` that lie in it.
    pub(crate) fn allocated(&mut self, layer: usize, rows: usize) -> Vec<Allocated<'_>> {
        let (start, end) = (self.len, self.len + rows);
        let shape = &*self.shape;
        let (of_block, pages) = (shape.block_positions(), shape.block_pages());
        let Layer { blocks, first, .. } = &mut self.layers[layer];
        let mut all = Vec::new();
        for (number, block) in (*first..).zip(blocks).skip(start / of_block - *first) {
            // The pages of the block that are written.
            let first_page = (start / PAGE).max(number * pages);
            let end_page = end.div_ceil(PAGE).min((number + 1) * pages);
            if first_page >= end_page {
                break;
            }
            // `allocate` made the block and owns it alone.
            let block = Arc::get_mut(block);
            debug_assert!(block.is_some(), "block {number} not allocated");
            let Some(block) = block else { continue };
            let which = first_page - number * pages..end_page - number * pages;
            for (page, heads) in (first_page..).zip(block.heads_mut(which)) {
                let positions = start.max(page * PAGE)..end.min((page + 1) * PAGE);
                let rows = positions.start - start..positions.end - start;
                all.push(Allocated { heads, rows, slot: positions.start % PAGE });
            }
        }
        all
    }

    /// Counts `rows` written positions as held, and drops blocks that no later
    /// position can see, nor one up to [`MOST_BACK`](KvCache::MOST_BACK) earlier.
    pub(crate) fn commit(&mut self, rows: usize) {
        self.states.commit(self.len, rows);
        self.len += rows;
        let (of_block, pages) = (self.shape.block_positions(), self.shape.block_pages());
        let mut freed = Vec::new();
        for (layer, KvLayer { window, .. }) in self.layers.iter_mut().zip(self.shape.layers()) {
            while (layer.first + 1) * of_block <= first_kept(self.len, *window) {
                freed.extend(layer.blocks.pop_front());
                layer.first += 1;
                layer.begin = layer.begin.max(layer.first * pages);
            }
        }
        self.give_back(freed, Vec::new());
    }

    /// What the row at `position` sees in `layer`.
    pub(crate) fn seen(&self, layer: usize, position: usize) -> Range<usize> {
        first_seen(position, self.shape.layers()[layer].window)..position + 1
    }

    /// Positions `number · PAGE ..` of `layer`, of one KV head; `None` if they
    /// are not held.
    #[inline]
    pub(crate) fn head(&self, layer: usize, number: usize, kv_head: usize) -> Option<Head<'_>> {
        let layer = &self.layers[layer];
        let (block, page) = self.shape.place(number);
        let block = layer.blocks.get(block.checked_sub(layer.first)?)?;
        Some(block.head(page, kv_head))
    }

    /// The pages of `layer` that a copy of this cache needs: those that the next
    /// position sees, or one up to [`MOST_BACK`](KvCache::MOST_BACK) earlier.
    pub(crate) fn pages(&self, layer: usize) -> Range<usize> {
        let kept = *kept_pages(self.len, self.shape.layers()[layer].window).start();
        kept.max(self.layers[layer].begin)..self.len.div_ceil(PAGE)
    }

    /// The bytes of one KV head's part of a page; `None` if it is not held.
    pub(crate) fn part(&self, layer: usize, number: usize, kv_head: usize) -> Option<&[u8]> {
        let layer = &self.layers[layer];
        let (block, page) = self.shape.place(number);
        let block = layer.blocks.get(block.checked_sub(layer.first)?)?;
        Some(block.part(page, kv_head))
    }

    /// As [`part`](KvCache::part), to be written; `None` also if it is shared.
    pub(crate) fn part_mut(
        &mut self,
        layer: usize,
        number: usize,
        kv_head: usize,
    ) -> Option<&mut [u8]> {
        let layer = &mut self.layers[layer];
        let (block, page) = self.shape.place(number);
        let block = layer.blocks.get_mut(block.checked_sub(layer.first)?)?;
        Some(Arc::get_mut(block)?.part_mut(page, kv_head))
    }

    /// A cache of `len` positions, all zero, for [`part_mut`](KvCache::part_mut):
    /// layer i holds the pages from `begin[i]` on.
    ///
    /// # Errors
    /// [`Error::Limit`] if the budget or the system has not the memory.
    pub(crate) fn blank(
        shape: Arc<KvShape>,
        budget: Arc<KvBudget>,
        len: usize,
        begin: &[usize],
    ) -> Result<Self> {
        let mut cache = KvCache::within(shape, len, budget);
        let pages = cache.shape.block_pages();
        for (layer, &begin) in cache.layers.iter_mut().zip(begin) {
            (layer.first, layer.begin) = (begin / pages, begin);
        }
        // With `len` at the end no block counts as written, so all are made.
        cache.len = len;
        cache.fill(len)?;
        let KvCache { shape, states, promise, .. } = &mut cache;
        // What a pass would write is not needed yet.
        states.end_reservation();
        states.blank(shape, len, promise)?;
        Ok(cache)
    }
}

/// A page's heads, to be written from slot `slot` on.
#[derive(Debug)]
pub(crate) struct Allocated<'a> {
    /// `[kv_heads]`
    pub heads: Vec<HeadMut<'a>>,
    /// Which of the rows lie in the page.
    pub rows: Range<usize>,
    pub slot: usize,
}

/// The first position that a token at `position` sees: with window W, token i
/// sees j while i − j < W.
fn first_seen(position: usize, window: Option<usize>) -> usize {
    window.map_or(0, |window| (position + 1).saturating_sub(window))
}

/// Where the pages of a layer with `len` positions may begin: the first that a
/// truncation may show again, to the first that the next position sees.
pub(crate) fn kept_pages(len: usize, window: Option<usize>) -> RangeInclusive<usize> {
    first_kept(len, window) / PAGE..=first_seen(len, window) / PAGE
}

/// The first position that a layer must keep at `len` positions.
fn first_kept(len: usize, window: Option<usize>) -> usize {
    first_seen(len.saturating_sub(KvCache::MOST_BACK), window)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(window: Option<usize>, capacity: usize) -> KvCache {
        let layer = |window| KvLayer { kv_heads: 2, head_dim: 4, window };
        let shape = KvShape::new(vec![layer(window), layer(None)], KvType::F32, false);
        KvCache::new(Arc::new(shape), capacity)
    }

    fn feed(cache: &mut KvCache, rows: usize, tag: f32) {
        cache.allocate(rows).unwrap();
        let held = cache.len();
        for layer in 0..2 {
            for Allocated { heads, rows, slot } in cache.allocated(layer, rows) {
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
            // 10 positions, 64 for a truncation, 7 rows: two pages or three.
            assert!(cache.layers[0].blocks.len() <= 3);
        }
        let expected: Vec<f32> = (6990..7000).map(|p| (p * 8 + 4) as f32).collect();
        assert_eq!(seen(&cache, 0, 6999), expected);
        assert_eq!(seen(&cache, 1, 6999).len(), 7000);
        let of_block = cache.shape().block_positions();
        assert_eq!(cache.layers[1].blocks.len(), 7000usize.div_ceil(of_block));
    }

    #[test]
    fn a_window_that_has_moved_on_starts_again_at_0() {
        let mut cache = cache(Some(10), 10_000);
        feed(&mut cache, 500, 0.0);
        assert_eq!((cache.reachable(0), cache.rewind_to(0), cache.len()), (0, 0, 0));
        feed(&mut cache, 20, 7.0);
        let expected: Vec<f32> = (10..20).map(|p| 7.0 + (p * 8 + 4) as f32).collect();
        assert_eq!(seen(&cache, 0, 19), expected);
        feed(&mut cache, 500, 0.0);
        cache.truncate(0).unwrap();
        feed(&mut cache, 20, 7.0);
        assert_eq!(seen(&cache, 0, 19), expected);
    }

    #[test]
    fn forks_share_until_they_write() {
        let mut a = cache(None, 5000);
        let of_block = a.shape().block_positions();
        feed(&mut a, of_block + 100, 0.0);
        let mut b = a.fork();
        assert!(Arc::ptr_eq(&a.layers[0].blocks[1], &b.layers[0].blocks[1]));
        feed(&mut a, 1, 5000.0);
        feed(&mut b, 1, 7000.0);
        assert!(Arc::ptr_eq(&a.layers[0].blocks[0], &b.layers[0].blocks[0]));
        let last = of_block + 100;
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
        feed(&mut windowed, 400, 0.0);
        assert!(windowed.truncate(200).is_err(), "positions before are gone");
        assert_eq!(windowed.len(), 400);
        windowed.truncate(399).unwrap();
    }

    #[test]
    fn the_last_positions_of_a_window_can_be_taken_back_at_any_length() {
        for len in 1..400 {
            let mut windowed = cache(Some(10), 5000);
            feed(&mut windowed, len, 0.0);
            let back = len.saturating_sub(KvCache::MOST_BACK);
            windowed.truncate(back).unwrap();
            feed(&mut windowed, 1, 0.0);
            let first = (back + 1).saturating_sub(10);
            let expected: Vec<f32> = (first..=back).map(|p| (p * 8 + 4) as f32).collect();
            assert_eq!(seen(&windowed, 0, back), expected, "from {len} to {back}");
        }
    }

    #[test]
    fn bytes_are_those_of_the_numbers() {
        let per_number = |kv_type, head_dim| {
            let layer = KvLayer { kv_heads: 2, head_dim, window: None };
            let shape = KvShape::new(vec![layer], kv_type, false);
            let mut cache = KvCache::new(Arc::new(shape), 100);
            cache.allocate(1).unwrap();
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
        assert!(matches!(cache.allocate(1), Err(Error::Limit { needed: 11, allowed: 10, .. })));
        assert!(matches!(cache.allocate(usize::MAX), Err(Error::Limit { .. })));
        assert!(cache.set_capacity(9).is_err());
        cache.set_capacity(11).unwrap();
        cache.allocate(1).unwrap();
    }

    #[test]
    fn a_budget_is_a_limit_and_a_refusal_changes_nothing() {
        let shape = cache(None, 1).shape;
        let block = shape.block_bytes(0);
        // Two layers: four blocks are two of each, and one byte less is one of each.
        let budget = KvBudget::new(4 * block - 1);
        let of_block = shape.block_positions();
        let mut a = KvCache::within(shape.clone(), 10_000, budget.clone());
        feed(&mut a, of_block, 0.0);
        let before = seen(&a, 1, of_block - 1);
        let error = a.allocate(1).unwrap_err();
        assert!(matches!(error, Error::Limit { needed, allowed, .. }
            if (needed, allowed) == (2 * block as u64, 2 * block as u64 - 1)));
        assert_eq!((a.len(), budget.used(), budget.promised()), (of_block, 2 * block, 0));
        assert_eq!(seen(&a, 1, of_block - 1), before);
        a.truncate(of_block - 3).unwrap();
        feed(&mut a, 3, 0.0);
        let b = a.fork();
        assert_eq!(budget.used(), 2 * block, "shared blocks count once");
        a.truncate(1).unwrap();
        assert!(matches!(a.allocate(1), Err(Error::Limit { .. })), "the copy does not fit");
        drop(b);
        feed(&mut a, 1, 0.0);
        drop(a);
        assert_eq!((budget.used(), budget.promised()), (0, 0));
    }
}
