//! A constraint on its way through an answer: masks that were computed ahead.

use std::collections::VecDeque;

use crate::constrain::{Mask, Stuck, TokenConstraint};

/// Keeps an answer to its constraint.
#[derive(Debug)]
pub(crate) struct Guide {
    constraint: Box<dyn TokenConstraint>,
    /// Tokens that are never chosen.
    never: Vec<u32>,
    /// For the next token, and for those after each of `draft`.
    ready: VecDeque<Result<Mask, Stuck>>,
    draft: VecDeque<u32>,
}

impl Guide {
    pub fn new(constraint: Box<dyn TokenConstraint>, never: &[u32]) -> Self {
        let (ready, draft) = (VecDeque::new(), VecDeque::new());
        Guide { constraint, never: never.to_vec(), ready, draft }
    }

    /// Computes the masks for the next token and for those after each of `draft`, as far as
    /// it is allowed.
    pub fn prepare(&mut self, draft: &[u32]) {
        if !self.ready.is_empty() && self.draft.iter().eq(draft) {
            return;
        }
        self.forget();
        self.draft.extend(draft);
        let mut accepted = 0;
        for next in draft.iter().map(Some).chain([None]) {
            let mask = self.compute();
            let goes_on = next.filter(|&&next| mask.as_ref().is_ok_and(|mask| mask.allows(next)));
            self.ready.push_back(mask);
            let Some(&next) = goes_on else { break };
            accepted += 1;
            if self.constraint.accept(next).is_err() {
                break;
            }
        }
        if accepted > 0 && self.constraint.rollback(accepted).is_err() {
            self.ready = VecDeque::from([Err(Stuck)]);
        }
    }

    /// Which tokens may come next: at least one.
    pub fn mask(&mut self) -> Result<Mask, Stuck> {
        self.ready.pop_front().unwrap_or_else(|| self.compute())
    }

    fn compute(&mut self) -> Result<Mask, Stuck> {
        let mut mask = self.constraint.mask()?;
        mask.forbid(&self.never);
        if mask.is_empty() { Err(Stuck) } else { Ok(mask) }
    }

    /// Takes the next token. What was computed ahead stays if it is the drafted one.
    pub fn accept(&mut self, token: u32) -> Result<(), Stuck> {
        if self.draft.pop_front() != Some(token) {
            self.forget();
        }
        self.constraint.accept(token)
    }

    /// The next token, where nothing else is allowed.
    pub fn forced(&mut self) -> Option<Result<u32, Stuck>> {
        let token = self.constraint.forced()?;
        Some(if self.never.contains(&token) { Err(Stuck) } else { Ok(token) })
    }

    /// Cuts a draft before the first token that is not allowed.
    pub fn clip(&mut self, draft: &mut Vec<u32>) {
        draft.truncate(self.constraint.valid(draft));
    }

    /// Whether nothing may come but the end.
    pub fn is_complete(&self) -> bool {
        self.constraint.is_complete()
    }

    fn forget(&mut self) {
        self.ready.clear();
        self.draft.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Allows tokens up to how many there are.
    #[derive(Debug, Default)]
    struct Stairs {
        tokens: Vec<u32>,
    }

    impl TokenConstraint for Stairs {
        fn mask(&mut self) -> Result<Mask, Stuck> {
            Ok(Mask::new(vec![(2 << self.tokens.len()) - 1]))
        }

        fn accept(&mut self, token: u32) -> Result<(), Stuck> {
            self.tokens.push(token);
            Ok(())
        }

        fn rollback(&mut self, count: usize) -> Result<(), Stuck> {
            self.tokens.truncate(self.tokens.len() - count);
            Ok(())
        }

        fn forced(&mut self) -> Option<u32> {
            self.tokens.is_empty().then_some(0)
        }

        fn valid(&mut self, tokens: &[u32]) -> usize {
            tokens.iter().take_while(|&&token| token < 5).count()
        }

        fn is_complete(&self) -> bool {
            false
        }
    }

    fn guide(never: &[u32]) -> Guide {
        Guide::new(Box::new(Stairs::default()), never)
    }

    fn highest(mask: Result<Mask, Stuck>) -> Option<u32> {
        (0..32).filter(|&token| mask.as_ref().is_ok_and(|mask| mask.allows(token))).max()
    }

    #[test]
    fn masks_of_a_draft_serve_as_long_as_it_is_right() {
        let mut guide = guide(&[]);
        guide.prepare(&[0, 1, 1]);
        assert_eq!(guide.ready.len(), 4);
        for (token, most) in [(0, 0), (1, 1), (0, 2)] {
            assert_eq!(highest(guide.mask()), Some(most));
            guide.accept(token).unwrap();
        }
        // The third token was another one.
        assert!(guide.ready.is_empty());
        assert_eq!(highest(guide.mask()), Some(3));
    }

    #[test]
    fn a_draft_ends_where_it_is_not_allowed() {
        let mut guide = guide(&[]);
        guide.prepare(&[0, 7, 1]);
        assert_eq!(guide.ready.len(), 2);
        guide.prepare(&[0, 1]);
        assert_eq!(guide.ready.len(), 3);
        let mut draft = vec![1, 4, 5, 0];
        guide.clip(&mut draft);
        assert_eq!(draft, [1, 4]);
    }

    #[test]
    fn tokens_that_are_never_chosen_are_taken_out() {
        let mut guide = guide(&[0]);
        assert_eq!(guide.mask(), Err(Stuck));
        assert_eq!(guide.forced(), Some(Err(Stuck)));
    }
}
