//! What the sampler and the engine see of a constraint: which tokens may come next.

use std::fmt::Debug;

/// Which tokens may come next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mask {
    /// A bit per token.
    words: Vec<u32>,
}

impl Mask {
    /// Of a bit per token, the lowest first.
    #[cfg(any(feature = "constrain", test))]
    pub fn new(words: Vec<u32>) -> Self {
        Mask { words }
    }

    /// Whether `token` may come next.
    pub fn allows(&self, token: u32) -> bool {
        let word = self.words.get(token as usize / 32);
        word.is_some_and(|word| word >> (token % 32) & 1 == 1)
    }

    /// Takes tokens out.
    pub fn forbid(&mut self, tokens: &[u32]) {
        for &token in tokens {
            if let Some(word) = self.words.get_mut(token as usize / 32) {
                *word &= !(1 << (token % 32));
            }
        }
    }

    /// The token, if there is but one.
    pub fn only(&self) -> Option<u32> {
        let mut set = (0u32..).zip(&self.words).filter(|(_, word)| **word != 0);
        let (index, word) = set.next()?;
        let one = word.is_power_of_two() && set.next().is_none();
        one.then(|| 32 * index + word.trailing_zeros())
    }

    /// Whether no token may come next.
    pub fn is_empty(&self) -> bool {
        self.words.iter().all(|word| *word == 0)
    }
}

/// The text cannot go on: nothing is allowed, or to follow it became too costly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stuck;

/// Follows one text, token by token. What it allows depends on the tokens so far alone.
pub(crate) trait TokenConstraint: Debug + Send {
    /// Which tokens may come next; those that end the answer where it may end.
    fn mask(&mut self) -> Result<Mask, Stuck>;

    /// Takes a token that the mask allows.
    fn accept(&mut self, token: u32) -> Result<(), Stuck>;

    /// Forgets the last `count` tokens, also if one of them was refused.
    fn rollback(&mut self, count: usize) -> Result<(), Stuck>;

    /// The token that comes next if nothing else may, where that is known without a mask.
    fn forced(&mut self) -> Option<u32>;

    /// How many of the first of `tokens` may come next. A mask may be narrower: of the ways
    /// to spell the same text it allows one where the text is certain.
    fn valid(&mut self, tokens: &[u32]) -> usize;

    /// Whether nothing may come but the end.
    fn is_complete(&self) -> bool;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mask_knows_its_tokens() {
        let mut mask = Mask::new(vec![0, 1 << 31, 1]);
        assert_eq!((mask.only(), mask.is_empty()), (None, false));
        assert!(mask.allows(63) && mask.allows(64) && !mask.allows(62) && !mask.allows(1000));
        mask.forbid(&[64, 5000]);
        assert_eq!(mask.only(), Some(63));
        mask.forbid(&[63]);
        assert_eq!((mask.only(), mask.is_empty()), (None, true));
        assert_eq!(Mask::new(vec![3]).only(), None);
    }
}
