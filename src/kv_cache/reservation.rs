//! Reservations: memory set aside so that a cache can grow without asking.
//!
//! A cache with a reservation to P positions owns, at any later moment, at most
//! ```text
//! peak = min(max(ring, sole blocks before the write point + blocks from there that it holds),
//!            sole blocks before the write point + blocks from there to P)
//! ```
//! blocks of a layer alone; `ring` is the most that a window ever spans (no bound
//! for full attention), but a longer pass before may have left more; of those from the write
//! point on only the first may be shared. The reservation is `peak` less what it owns alone already, up
//! to P: a truncation may have left blocks beyond.
//! Shared blocks before the write point are never written, so they cost nothing;
//! the one at the write point is copied, so it counts. Making a block, dropping
//! one that left the window and truncating keep the sum of blocks and reservation.

use std::sync::Arc;

use super::budget::over_budget;
use super::{KvCache, KvLayer, KvShape, block::Block};
use crate::error::Error;

/// How far a reservation reaches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Target {
    pub positions: usize,
    /// Most rows of one forward pass.
    pub rows: usize,
}

/// A reservation that was refused: bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Short {
    /// What the cache needs beside the blocks that it holds.
    pub needed: usize,
    /// The blocks that it holds, shared or not.
    pub held: usize,
    /// What it could have now, its own reservation included.
    pub free: usize,
    /// The whole budget.
    pub limit: usize,
}

impl Short {
    /// Whether waiting for others cannot help: it would not fit an otherwise
    /// empty budget.
    pub fn never_fits(&self) -> bool {
        self.needed.saturating_add(self.held) > self.limit
    }
}

impl From<Short> for Error {
    fn from(short: Short) -> Error {
        match short.never_fits() {
            true => over_budget(short.needed.saturating_add(short.held), short.limit),
            false => over_budget(short.needed, short.free),
        }
    }
}

impl KvShape {
    /// The most bytes that a cache takes while it grows from nothing to
    /// `positions`, by passes of at most `rows` rows; `usize::MAX` if the number
    /// does not fit.
    pub fn bytes_for(&self, positions: usize, rows: usize) -> usize {
        let of_block = self.block_positions();
        let most = positions.div_ceil(of_block);
        let of_layer = |(index, layer): (usize, &KvLayer)| {
            let blocks = ring(layer.window, rows, of_block).min(most);
            blocks.saturating_mul(self.block_bytes(index))
        };
        let states = self.state_bytes().saturating_mul(2);
        self.layers().iter().enumerate().map(of_layer).fold(states, usize::saturating_add)
    }
}

/// The most blocks that one layer holds at once: those of the rows being written,
/// and those that a truncation by [`KvCache::MOST_BACK`] may show again.
fn ring(window: Option<usize>, rows: usize, of_block: usize) -> usize {
    let Some(window) = window else { return usize::MAX };
    let span = (window - 1).saturating_add(KvCache::MOST_BACK).saturating_add(rows.max(1));
    // A span of n positions touches at most 1 + ⌈(n − 1) / block⌉ blocks.
    1 + (span - 1).div_ceil(of_block)
}

impl KvCache {
    /// Sets memory aside so that this cache can grow to `positions` positions, by
    /// passes of at most `rows` rows, and [`allocate`](KvCache::allocate) does not
    /// fail on the budget: not after a [`truncate`](KvCache::truncate) to no less
    /// than what it holds now either, since blocks freed by it return to the reservation.
    /// A second reservation takes the place of the first.
    ///
    /// What is not used goes back with [`end_reservation`](KvCache::end_reservation),
    /// [`clear`](KvCache::clear) and the cache itself. [`fork`](KvCache::fork)
    /// makes blocks shared that this reservation counts as its own: reserve again, or have the
    /// fork copy the one that both would write ([`allocate`](KvCache::allocate)) at once.
    ///
    /// # Errors
    /// What is missing; nothing is changed then.
    pub(crate) fn reserve(&mut self, positions: usize, rows: usize) -> Result<(), Short> {
        self.reserve_beside(Target { positions, rows }, |block| Arc::strong_count(block) == 1)
    }

    /// Gives back what was reserved and not used.
    pub(crate) fn end_reservation(&mut self) {
        self.target = None;
        let needed = self.len.div_ceil(self.shape.block_positions());
        for layer in &mut self.layers {
            layer.blocks.truncate(needed.saturating_sub(layer.first));
        }
        self.states.end_reservation();
        self.promise.lower(0);
    }

    fn reserve_beside(
        &mut self,
        target: Target,
        sole: impl Fn(&Arc<Block>) -> bool,
    ) -> Result<(), Short> {
        let needed = self.missing(target, sole);
        let result = self.promise.set(needed);
        result.map_err(|free| Short {
            needed,
            held: self.held_bytes(),
            free,
            limit: self.promise.budget().limit(),
        })?;
        self.target = Some(target);
        Ok(())
    }

    /// Bytes of the blocks and states that it holds, shared or not.
    pub(crate) fn held_bytes(&self) -> usize {
        let layers = self.layers.iter().enumerate();
        let bytes = layers.map(|(i, l)| l.blocks.len().saturating_mul(self.shape.block_bytes(i)));
        bytes.fold(self.states.bytes(&self.shape), usize::saturating_add)
    }

    /// Bytes of the blocks and states that this cache still has to make on its way to
    /// `target`; `sole` tells which blocks are its own.
    fn missing(&self, target: Target, sole: impl Fn(&Arc<Block>) -> bool) -> usize {
        let of_block = self.shape.block_positions();
        let written = self.len / of_block;
        // Blocks behind the last that will be written, left by a truncation, are no help.
        let end = target.positions.div_ceil(of_block);
        let ahead = end.saturating_sub(written);
        let mut bytes = self.states.missing(&self.shape);
        for (index, layer) in self.layers.iter().enumerate() {
            let window = self.shape.layers()[index].window;
            let numbers = (layer.first..).zip(&layer.blocks);
            let (before, behind) = numbers
                .filter(|&(number, block)| number < end && sole(block))
                .fold((0, 0), |(b, a), (number, _)| match number < written {
                    true => (b + 1, a),
                    false => (b, a + 1),
                });
            let held = end.min(layer.first + layer.blocks.len()).saturating_sub(written);
            let most = ring(window, target.rows, of_block).max(before + held);
            let peak = most.min(ahead.saturating_add(before));
            let blocks = peak.saturating_sub(before + behind);
            bytes = bytes.saturating_add(blocks.saturating_mul(self.shape.block_bytes(index)));
        }
        bytes
    }

    /// Gives back what the reservation no longer needs: after blocks returned to it.
    pub(super) fn settle(&mut self) {
        let sole = |block: &Arc<Block>| Arc::strong_count(block) == 1;
        let needed = self.target.map_or(0, |target| self.missing(target, sole));
        self.promise.lower(needed);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{KvBudget, KvType, Promise};
    use super::*;

    fn shape(windows: &[Option<usize>]) -> Arc<KvShape> {
        let layer = |&window| KvLayer { kv_heads: 1, head_dim: 4, window };
        Arc::new(KvShape::new(windows.iter().map(layer).collect(), KvType::F32, false))
    }

    fn feed(cache: &mut KvCache, rows: usize) {
        cache.allocate(rows).unwrap();
        cache.commit(rows);
    }

    #[test]
    fn a_reservation_is_the_worst_case_and_no_more() {
        let shape = shape(&[None, Some(100)]);
        let block = shape.block_bytes(0);
        assert_eq!(shape.block_positions(), 64, "one page, because of the window");
        // Full: 16 blocks. Window: 99 + 64 + 32 positions touch at most 5.
        assert_eq!(shape.bytes_for(1000, 32), 21 * block);
        assert_eq!(shape.bytes_for(65, 32), 4 * block);
        assert_eq!(shape.bytes_for(0, 32), 0);
        assert_eq!(shape.bytes_for(usize::MAX, usize::MAX), usize::MAX);

        let budget = KvBudget::new(21 * block);
        let mut cache = KvCache::within(shape.clone(), 5000, budget.clone());
        cache.reserve(1000, 32).unwrap();
        assert_eq!((budget.used(), budget.free()), (0, 0));
        let mut most = 0;
        while cache.len() < 1000 {
            let rows = 32.min(1000 - cache.len());
            feed(&mut cache, rows);
            most = most.max(budget.used());
        }
        assert_eq!(most, 20 * block, "passes of 32 meet pages better than the worst case");
        cache.clear();
        assert_eq!((budget.used(), budget.promised()), (0, 0));
    }

    #[test]
    fn a_refused_reservation_says_what_is_missing_and_whether_to_wait() {
        let shape = shape(&[None]);
        let (block, of_block) = (shape.block_bytes(0), shape.block_positions());
        let budget = KvBudget::new(10 * block);
        let new = || KvCache::within(shape.clone(), usize::MAX, budget.clone());
        let (mut a, mut b) = (new(), new());
        a.reserve(6 * of_block, 1).unwrap();
        let short = b.reserve(5 * of_block, 1).unwrap_err();
        let expected = Short { needed: 5 * block, held: 0, free: 4 * block, limit: 10 * block };
        assert_eq!(short, expected);
        assert!(!short.never_fits());
        assert!(b.reserve(11 * of_block, 1).unwrap_err().never_fits());
        assert!(b.reserve(usize::MAX, usize::MAX).unwrap_err().never_fits());
        b.reserve(4 * of_block, 1).unwrap();
        assert!(b.reserve(5 * of_block, 1).is_err());
        assert_eq!(budget.promised(), 10 * block, "the first reservation stays");
        b.reserve(of_block, 1).unwrap();
        a.end_reservation();
        assert_eq!(budget.promised(), block);
        feed(&mut b, 2 * of_block);
        assert!(b.reserve(11 * of_block, 1).unwrap_err().never_fits(), "with what it holds");
        drop(b);
        assert_eq!((budget.used(), budget.promised()), (0, 0));
    }

    /// What happens to one of several caches.
    #[derive(Debug, Clone)]
    enum Act {
        Feed(usize),
        /// A pass that was cancelled.
        Reserve(usize),
        Truncate(usize),
        ReserveUpTo(usize, usize),
        EndReservation,
        Fork,
        Clear,
        Drop,
    }

    fn act() -> impl Strategy<Value = (usize, Act)> {
        let act = prop_oneof![
            8 => (1usize..=150).prop_map(Act::Feed),
            2 => (1usize..=150).prop_map(Act::Reserve),
            4 => (0usize..=64).prop_map(Act::Truncate),
            1 => (0usize..=3000).prop_map(Act::Truncate),
            3 => (0usize..3000, 1usize..=150).prop_map(|(p, r)| Act::ReserveUpTo(p, r)),
            1 => Just(Act::EndReservation),
            2 => Just(Act::Fork),
            1 => Just(Act::Clear),
            1 => Just(Act::Drop),
        ];
        (0usize..6, act)
    }

    /// A cache, and what its reservation promises: the target, and the length down to
    /// which it may be truncated.
    struct Reserved {
        cache: KvCache,
        promise: Option<(Target, usize)>,
    }

    impl Reserved {
        /// Whether growing by `rows` must not fail, whatever others take.
        fn covers(&self, rows: usize) -> bool {
            self.promise.is_some_and(|(target, floor)| {
                let len = self.cache.len();
                rows <= target.rows && len >= floor && len + rows <= target.positions
            })
        }
    }

    /// Bytes of the blocks and states that are alive.
    fn alive(caches: &[Reserved], shape: &KvShape) -> usize {
        let blocks = caches.iter().flat_map(|c| &c.cache.layers).flat_map(|l| &l.blocks);
        let alive: std::collections::HashSet<_> = blocks.map(Arc::as_ptr).collect();
        let states: std::collections::HashSet<_> =
            caches.iter().flat_map(|c| c.cache.states.addresses()).collect();
        alive.len() * shape.block_bytes(0) + states.len() * shape.state_bytes()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(400))]
        #[test]
        fn a_cache_with_a_reservation_never_fails_and_the_budget_is_never_exceeded(
            acts in proptest::collection::vec(act(), 1..120),
            windows in prop_oneof![
                Just(vec![None]), Just(vec![Some(70), None]), Just(vec![Some(1200), Some(100)]),
                Just(vec![Some(1)]), Just(vec![Some(2048), None]),
            ],
            blocks in 4usize..60,
            states in prop_oneof![Just(vec![]), Just(vec![5, 100])],
        ) {
            let shape = Arc::new((*shape(&windows)).clone().with_states(states));
            let block = shape.block_bytes(0);
            let budget = KvBudget::new(blocks * block + 17);
            let new = || Reserved {
                cache: KvCache::within(shape.clone(), usize::MAX, budget.clone()),
                promise: None,
            };
            let mut caches = vec![new()];
            for (which, act) in acts {
                let which = which % caches.len();
                let one = &mut caches[which];
                match act {
                    Act::Feed(rows) | Act::Reserve(rows) => {
                        let covered = one.covers(rows);
                        let used = budget.used();
                        // Somebody else has all that is free: only the reservation helps.
                        let mut other = Promise::new(budget.clone());
                        if covered {
                            other.set(budget.free()).unwrap();
                        }
                        match one.cache.allocate(rows) {
                            Ok(()) if matches!(act, Act::Feed(_)) => one.cache.commit(rows),
                            Ok(()) => {}
                            Err(error) => {
                                prop_assert!(!covered, "{error}");
                                prop_assert!(matches!(error, Error::Limit { .. }), "{error}");
                                prop_assert_eq!(budget.used(), used);
                            }
                        }
                        // A pass beyond the reservation may have used what was for later.
                        if !covered {
                            one.promise = None;
                        }
                    }
                    Act::Truncate(back) => {
                        let len = one.cache.len().saturating_sub(back);
                        _ = one.cache.truncate(len);
                        // To 0, where a window has moved on, it starts again.
                        one.promise = one.promise.filter(|_| one.cache.target.is_some());
                    }
                    Act::ReserveUpTo(positions, rows) => {
                        if one.cache.reserve(positions, rows).is_ok() {
                            one.promise = Some((Target { positions, rows }, one.cache.len()));
                        }
                    }
                    Act::EndReservation => {
                        one.cache.end_reservation();
                        one.promise = None;
                    }
                    Act::Fork => {
                        // Its blocks are no longer its own.
                        one.promise = None;
                        let cache = one.cache.fork();
                        caches.push(Reserved { cache, promise: None });
                    }
                    Act::Clear => {
                        one.cache.clear();
                        one.promise = None;
                    }
                    Act::Drop => {
                        caches.swap_remove(which);
                        if caches.is_empty() {
                            caches.push(new());
                        }
                    }
                }
                if caches.len() > 8 {
                    caches.remove(0);
                }
                prop_assert_eq!(budget.used(), alive(&caches, &shape));
                let promised: usize = caches.iter().map(|c| c.cache.promise.bytes()).sum();
                prop_assert_eq!(budget.promised(), promised);
                prop_assert!(budget.used() + budget.promised() <= budget.limit());
                for one in &caches {
                    prop_assert!(one.cache.target.is_some() || one.cache.promise.bytes() == 0);
                }
            }
            drop(caches);
            prop_assert_eq!((budget.used(), budget.promised()), (0, 0));
        }
    }
}
