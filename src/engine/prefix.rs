//! What ended requests computed, kept for the next one that begins the same way.
//!
//! Entries are found by their tokens, compared one by one; there are few, and a wrong
//! hit would be a wrong answer. Memory belongs to running requests first: when a
//! reservation is short, entries go, those that were found least often first and of these
//! the least recently used. So what is asked for once, and a client that cancels leaves much
//! of that, does not displace what is found again and again. Counts age, or an entry that
//! nobody wants any more would stay.

use crate::kv_cache::KvCache;

use super::memory;

/// Entries at most; each holds at least one block of every layer.
const MOST: usize = 256;

/// Sharing a part of an entry costs a copy of its last pages: that is not worth it for
/// fewer tokens.
pub(super) const LEAST: usize = 16;

/// Counts of uses end here, so that they are old after a few halvings.
const MOST_USES: u32 = 7;

/// Counts are halved after so many evictions: an entry that is found more often than once
/// in these keeps its place.
const HALVING: u32 = 16;

#[derive(Default)]
pub(super) struct Prefixes {
    /// Least recently used first.
    entries: Vec<Entry>,
    /// Since counts were halved.
    evictions: u32,
}

struct Entry {
    /// What the cache has computed.
    tokens: Vec<u32>,
    cache: KvCache,
    uses: u32,
}

impl Entry {
    /// Whether it can be taken back to exactly `tokens`.
    fn holds(&self, tokens: &[u32]) -> bool {
        let len = tokens.len();
        self.tokens.starts_with(tokens) && self.cache.reachable(len) == len
    }
}

/// What a sequence takes over, or leaves.
pub(super) struct Kept {
    pub cache: KvCache,
    /// How often it was found, before it was as long as it is.
    pub uses: u32,
    /// Whether it is a fork: the entry, or the sequence, that it came from stays.
    pub forked: bool,
}

impl From<KvCache> for Kept {
    /// Never found yet.
    fn from(cache: KvCache) -> Self {
        Kept::new(cache, 0)
    }
}

impl Kept {
    pub fn new(cache: KvCache, uses: u32) -> Self {
        Kept { cache, uses, forked: false }
    }

    /// A fork of another cache.
    pub fn fork(cache: KvCache) -> Self {
        Kept { cache, uses: 0, forked: true }
    }
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
    pub fn take(&mut self, found: Found) -> Kept {
        let entry = self.entries.remove(found.entry);
        if found.whole {
            return Kept::new(entry.cache, entry.uses);
        }
        let mut fork = entry.cache.fork();
        self.entries.push(entry);
        fork.rewind_to(found.common);
        Kept::fork(fork)
    }

    /// Counts that what was taken is used for a text that begins with `tokens`.
    pub fn count_use(&mut self, kept: &mut Kept, tokens: &[u32]) {
        let common = &tokens[..kept.cache.len().min(tokens.len())];
        let uses = if kept.forked {
            let entry = self.entries.iter_mut().rfind(|entry| entry.tokens.starts_with(common));
            entry.map(|entry| &mut entry.uses)
        } else {
            Some(&mut kept.uses)
        };
        if let Some(uses) = uses {
            *uses = MOST_USES.min(*uses + 1);
        }
    }

    /// Keeps what has computed the first of `tokens`. Entries that it continues are
    /// dropped.
    pub fn insert(&mut self, mut tokens: Vec<u32>, kept: Kept) {
        let Kept { mut cache, mut uses, .. } = kept;
        cache.end_reservation();
        tokens.truncate(cache.len());
        if tokens.is_empty() || tokens.len() != cache.len() {
            return;
        }
        self.entries.retain(|entry| {
            // A state that the longer one cannot be taken back to is kept beside it.
            let len = entry.tokens.len();
            let continued = tokens.starts_with(&entry.tokens) && cache.reachable(len) == len;
            uses = if continued { uses.max(entry.uses) } else { uses };
            !continued
        });
        if self.entries.iter().any(|entry| entry.holds(&tokens)) {
            return;
        }
        if self.entries.len() >= MOST {
            self.evict();
        }
        self.entries.push(Entry { tokens, cache, uses });
    }

    /// Drops the entry that was found least often, of several the least recently used, if
    /// there is one.
    pub fn evict(&mut self) -> bool {
        let entries = self.entries.iter().enumerate();
        let Some((index, _)) = entries.min_by_key(|(_, entry)| entry.uses) else { return false };
        self.entries.remove(index);
        self.evictions += 1;
        if self.evictions == HALVING {
            self.evictions = 0;
            self.entries.iter_mut().for_each(|entry| entry.uses /= 2);
        }
        true
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
        let entry = self.entries.iter().find(|entry| entry.holds(tokens))?;
        let mut fork = entry.cache.fork();
        fork.rewind_to(tokens.len());
        Some(fork)
    }
}
