//! When to look again at a text that is still growing, so that all looks together stay linear.

/// Shorter texts are looked at each time.
const SHORT: usize = 256;
/// Looks at longer ones may read so many bytes together, and this many times the text.
const FREE: usize = 1 << 20;
const FACTOR: usize = 16;

/// Counts the looks at one answer.
#[derive(Debug, Clone, Default)]
pub(super) struct Attempts {
    /// Bytes that were read in vain.
    spent: usize,
    /// Length of the text at the last look.
    last: usize,
}

impl Attempts {
    /// Whether to look at a text of `length` bytes now. `likely`: what came could end a call.
    /// `total`: the length of the answer.
    pub(super) fn due(&self, length: usize, likely: bool, total: usize) -> bool {
        let free = self.spent + length <= FREE.saturating_add(total.saturating_mul(FACTOR));
        length < SHORT || likely && free || length >= self.last.saturating_mul(2)
    }

    /// A look that told nothing.
    pub(super) fn in_vain(&mut self, length: usize) {
        self.last = length;
        self.spent += length;
    }

    /// A look that told something: the next one is at another text.
    pub(super) fn done(&mut self) {
        self.last = 0;
    }
}
