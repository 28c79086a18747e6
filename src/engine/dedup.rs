//! Prefix dedup: of requests that begin alike and run at the same time one computes the
//! common prefix, and the others wait for it and share the result.

use super::prefix::{self, Kept};
use super::sequence::Sequence;
use super::worker::Worker;

impl Worker {
    /// Sequences that wait for another to compute their common prefix take it over once
    /// it is there.
    pub(super) fn share_prefixes(&mut self) {
        for index in 0..self.sequences.len() {
            let Some((id, common)) = self.sequences[index].prefix_source else { continue };
            let tokens = &self.sequences[index].tokens;
            let shared = match self.sequences.iter().find(|sequence| sequence.id == id) {
                // It may have dropped a part of its text meanwhile.
                Some(source) => {
                    let common = common.min(prefix::common(&source.tokens, tokens));
                    let computes =
                        source.reserved && !source.decodes() && !source.sink.must_pause();
                    if source.cache.len() < common && computes {
                        continue;
                    }
                    let mut fork = source.cache.fork();
                    (fork.rewind_to(common) >= prefix::LEAST).then(|| Kept::fork(fork))
                }
                // It ended; what it computed may have been kept.
                None => {
                    let long_rope = self.sequences[index].cache.shape().long_rope();
                    let found = self.prefixes.find(tokens, long_rope);
                    found.map(|found| self.prefixes.take(found))
                }
            };
            self.sequences[index].prefix_source = None;
            if let Some(kept) = shared {
                self.change_cache(index, kept);
            }
        }
    }

    /// Gives a sequence a cache that has computed more of its tokens than its own.
    fn change_cache(&mut self, index: usize, mut kept: Kept) {
        let Worker { sequences, prefixes, options, .. } = self;
        let sequence = &mut sequences[index];
        let found = kept.cache.len();
        sequence.cache.end_reservation();
        if prefixes.reserve(&mut kept.cache, sequence.positions, options.num_batch) {
            prefixes.count_use(&mut kept, &sequence.tokens);
            sequence.adopt(kept);
            self.count(|stats| stats.reused_tokens += found as u64);
        } else {
            // A fork that stayed would share what another sequence is about to write.
            if !kept.forked {
                prefixes.insert(sequence.tokens[..found].to_vec(), kept);
            }
            // What it had set aside was just given back.
            sequence.reserved = false;
        }
    }
}

/// A running sequence that has, or will have, more first tokens in common with `tokens`
/// than is worth computing twice.
pub(super) fn prefix_source(
    sequences: &[Sequence],
    tokens: &[u32],
    long_rope: bool,
) -> Option<(u64, usize)> {
    let tokens = &tokens[..tokens.len().saturating_sub(1)];
    // Keys of long and of short contexts do not mix.
    let alike = |sequence: &&Sequence| {
        !sequence.is_embedding() && sequence.cache.shape().long_rope() == long_rope
    };
    let sources = sequences.iter().filter(alike);
    let sources = sources.map(|sequence| {
        let others = &sequence.tokens;
        (sequence.id, prefix::common(others, tokens))
    });
    sources.filter(|(_, common)| *common >= prefix::LEAST).max_by_key(|(_, common)| *common)
}
