//! The merge loop of byte pair encoding, shared by all algorithms that merge.
//!
//! ```text
//! repeat:
//!     among all neighbours that may be joined,
//!     join the pair of the lowest rank, the leftmost if several have it
//! ```
//!
//! The symbols are a linked list and the pairs wait in a heap, so a text of n
//! symbols takes O(n log n) steps whatever it says.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// The end of the list.
const NONE: usize = usize::MAX;

/// A span of the text. Length 0: joined to its left neighbour.
#[derive(Debug, Clone, Copy)]
pub(super) struct Symbol {
    pub start: usize,
    pub len: usize,
    /// Its token, where the algorithm knows one.
    pub id: Option<u32>,
    prev: usize,
    next: usize,
}

/// What two neighbours become, and how early.
#[derive(Debug, Clone, Copy)]
pub(super) struct Join {
    pub rank: u32,
    pub id: u32,
}

/// Two neighbours that may be joined; stale once either has changed.
struct Pair {
    join: Join,
    left: usize,
    right: usize,
    /// Bytes of both together when this was made. A symbol only grows, so a
    /// stale pair is known by another length.
    len: usize,
}

impl Ord for Pair {
    fn cmp(&self, other: &Self) -> Ordering {
        // The heap gives the greatest: the lowest rank, then the leftmost.
        (other.join.rank, other.left).cmp(&(self.join.rank, self.left))
    }
}

impl PartialOrd for Pair {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Pair {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Pair {}

/// The buffers of the loop, to be used for one word after the other.
#[derive(Default)]
pub(super) struct Merger {
    symbols: Vec<Symbol>,
    pairs: BinaryHeap<Pair>,
}

impl Merger {
    /// Forgets the last word.
    pub fn clear(&mut self) {
        self.symbols.clear();
        self.pairs.clear();
    }

    /// Adds a symbol at the right end.
    pub fn push(&mut self, start: usize, len: usize, id: Option<u32>) {
        let index = self.symbols.len();
        if let Some(last) = self.symbols.last_mut() {
            last.next = index;
        }
        let prev = index.checked_sub(1).unwrap_or(NONE);
        self.symbols.push(Symbol { start, len, id, prev, next: NONE });
    }

    /// Joins until no neighbours may be joined; gives what is left, in order.
    /// `join` tells what two neighbours become.
    pub fn run(
        &mut self,
        join: impl Fn(&Symbol, &Symbol) -> Option<Join>,
    ) -> impl Iterator<Item = &Symbol> {
        let Merger { symbols, pairs } = self;
        let pair = |symbols: &[Symbol], left: usize| {
            let a = symbols.get(left)?;
            let b = symbols.get(a.next)?;
            Some(Pair { join: join(a, b)?, left, right: a.next, len: a.len + b.len })
        };
        pairs.extend((0..symbols.len()).filter_map(|left| pair(symbols, left)));
        while let Some(Pair { join, left, right, len }) = pairs.pop() {
            let (a, b) = (symbols[left], symbols[right]);
            if a.len == 0 || b.len == 0 || a.len + b.len != len {
                continue;
            }
            symbols[left] = Symbol { len, id: Some(join.id), next: b.next, ..a };
            symbols[right].len = 0;
            if let Some(next) = symbols.get_mut(b.next) {
                next.prev = left;
            }
            pairs.extend(pair(symbols, a.prev));
            pairs.extend(pair(symbols, left));
        }
        symbols.iter().filter(|symbol| symbol.len > 0)
    }
}
