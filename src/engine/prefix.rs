//! What ended requests computed, kept for the next one that begins the same way.
//!
//! Entries are found by their tokens, compared one by one; there are few, and a wrong
//! hit would be a wrong answer. Memory belongs to running requests first: entries go,
//! least recently used first, when a reservation is short.

use crate::kv_cache::KvCache;

use super::memory;

/// Entries at most; each holds at least one block of every layer.
const MOST: usize = 256;

/// Sharing a part of an entry costs a copy of its last pages: that is not worth it for
/// fewer tokens.
pub(super) const LEAST: usize = 16;

#[derive(Default)]
pub(super) struct Prefixes {
    /// Least recently used first.
    entries: Vec<Entry>,
}

struct Entry {
    /// What the cache has computed.
    tokens: Vec<u32>,
    cache: KvCache,
}

/// Where a prompt's beginning was found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Found {
    entry: usize,
    /// Tokens in common.
    pub common: usize,
    /// All that the entry has: it can be continued as it is.
    whole: bool,
}

/// The number of first tokens that both have.
pub(super) fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

impl Prefixes {
    /// Entries, and tokens of all.
    pub fn size(&self) -> (usize, usize) {
        (self.entries.len(), self.entries.iter().map(|entry| entry.tokens.len()).sum())
    }

    /// The longest beginning of `prompt`, which must be longer: its last token has to
    /// be computed, for the logits after it. `long_rope`: of the prompt's context; keys of
    /// the two kinds do not mix.
    pub fn find(&self, prompt: &[u32], long_rope: bool) -> Option<Found> {
        let prompt = &prompt[..prompt.len().saturating_sub(1)];
        let entries = self.entries.iter().enumerate();
        let entries = entries.filter(|(_, kept)| kept.cache.shape().long_rope() == long_rope);
        let found = entries.map(|(entry, kept)| {
            // As far as the entry's state can be taken back to.
            let common = kept.cache.reachable(common(&kept.tokens, prompt));
            Found { entry, common, whole: common == kept.tokens.len() }
        });
        let usable = found.filter(|found| found.common >= if found.whole { 1 } else { LEAST });
        usable.max_by_key(|found| (found.common, found.whole, found.entry))
    }

    /// A cache with the tokens that were found. A whole entry is taken out, of another
    /// one a fork is made.
    pub fn take(&mut self, found: Found) -> KvCache {
        let entry = self.entries.remove(found.entry);
        if found.whole {
            return entry.cache;
        }
        let mut fork = entry.cache.fork();
        self.entries.push(entry);
        fork.rewind_to(found.common);
        fork
    }

    /// Keeps `cache`, which has computed `tokens`. Entries that it continues are
    /// dropped.
    pub fn insert(&mut self, mut tokens: Vec<u32>, mut cache: KvCache) {
        cache.end_reservation();
        tokens.truncate(cache.len());
        if tokens.is_empty() || tokens.len() != cache.len() {
            return;
        }
        self.entries.retain(|entry| !tokens.starts_with(&entry.tokens));
        if self.entries.iter().any(|entry| entry.tokens.starts_with(&tokens)) {
            return;
        }
        if self.entries.len() >= MOST {
            self.evict();
        }
        self.entries.push(Entry { tokens, cache });
    }

    /// Drops the least recently used entry, if there is one.
    pub fn evict(&mut self) -> bool {
        let any = !self.entries.is_empty();
        if any {
            self.entries.remove(0);
        }
        any
    }

    /// Reserves memory for `positions`, and makes `cache` the owner of the pages that it
    /// will write. Entries make room; whether that was enough.
    pub fn reserve(&mut self, cache: &mut KvCache, positions: usize, num_batch: usize) -> bool {
        let rows = memory::rows_ahead(num_batch);
        if cache.set_capacity(positions.max(cache.len())).is_err() {
            return false;
        }
        while let Err(short) = cache.reserve(positions, rows) {
            // Nothing is dropped for a request that has to wait all the same.
            let enough = short.free.saturating_add(self.bytes()) >= short.needed;
            if !enough || !self.evict() {
                return false;
            }
        }
        cache.allocate(0).is_ok()
    }

    /// The most that dropping all of them would give.
    pub fn bytes(&self) -> usize {
        self.entries.iter().map(|entry| entry.cache.held_bytes()).sum()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    /// A fork of the cache that has computed exactly `tokens`, or more.
    pub fn holding(&self, tokens: &[u32]) -> Option<KvCache> {
        let entry = self.entries.iter().find(|entry| entry.tokens.starts_with(tokens))?;
        let mut fork = entry.cache.fork();
        (fork.rewind_to(tokens.len()) == tokens.len()).then_some(fork)
    }
}
