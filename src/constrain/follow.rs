//! A text that follows a grammar.

use std::fmt;
use std::sync::Arc;

use llguidance::Matcher;
use llguidance::api::StopReason;

use super::compiled::Compiled;
use super::token::{Mask, Stuck, TokenConstraint};

/// The parser of one text.
pub(crate) struct Following {
    grammar: Arc<Compiled>,
    matcher: Matcher,
    /// The text so far.
    tokens: Vec<u32>,
}

impl Following {
    /// At the start of a text.
    pub(super) fn new(grammar: Arc<Compiled>) -> Self {
        let matcher = grammar.start();
        Following { grammar, matcher, tokens: Vec::new() }
    }

    /// Parses the text anew: an error is final, also one on a way that was not taken.
    fn replay(&mut self) -> Result<(), Stuck> {
        self.matcher = self.grammar.start();
        self.matcher.consume_tokens(&self.tokens).map_err(|_| Stuck)
    }
}

impl TokenConstraint for Following {
    fn mask(&mut self) -> Result<Mask, Stuck> {
        let mask = self.matcher.compute_mask_or_eos().map_err(|_| Stuck)?;
        Ok(Mask::new(mask.as_slice().to_vec()))
    }

    fn accept(&mut self, token: u32) -> Result<(), Stuck> {
        self.tokens.push(token);
        self.matcher.consume_token(token).map_err(|_| Stuck)
    }

    fn rollback(&mut self, count: usize) -> Result<(), Stuck> {
        self.tokens.truncate(self.tokens.len().saturating_sub(count));
        // A mask is cached by the place in the text, not by the text.
        self.matcher.invalidate_bias_cache();
        match self.matcher.rollback(count) {
            Ok(()) => Ok(()),
            Err(_) => self.replay(),
        }
    }

    fn forced(&mut self) -> Option<u32> {
        if self.matcher.is_stopped() {
            return None;
        }
        self.matcher.compute_ff_tokens().first().copied()
    }

    fn valid(&mut self, tokens: &[u32]) -> usize {
        self.matcher.validate_tokens(tokens).unwrap_or_else(|_| {
            // If this fails too, the next mask tells.
            let _ = self.replay();
            0
        })
    }

    fn is_complete(&self) -> bool {
        matches!(self.matcher.stop_reason(), StopReason::NoExtension | StopReason::EndOfSentence)
    }
}

impl fmt::Debug for Following {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Following").field("tokens", &self.tokens.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::{Constraint, bytes};
    use super::*;

    /// xorshift.
    struct Random(u64);

    impl Random {
        fn below(&mut self, end: usize) -> usize {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            (self.0 % end as u64) as usize
        }
    }

    fn allowed(following: &mut dyn TokenConstraint) -> Vec<u32> {
        let mask = following.mask().unwrap();
        (0..262).filter(|&token| mask.allows(token)).collect()
    }

    /// Whatever else was asked before, and whatever was tried and taken back.
    #[test]
    fn masks_depend_on_the_tokens_alone() {
        let constraints = [
            Constraint::json_schema(json!({
                "properties": {
                    "name": {"type": "string", "maxLength": 6},
                    "names": {"type": "array", "items": {"enum": ["a", "ab", 1, 12, null]}},
                    "n": {"anyOf": [{"type": "integer"}, {"properties": {"a": {"$ref": "#"}}}]},
                },
                "required": ["names"],
            })),
            Constraint::lark(
                "start: (\"a\" x | \"b\" y)+\nx: \"c\" | \"dd\" x\ny: \"c\" | \"de\" x y\n",
            ),
            Constraint::regex("(ab|abc|[a-d]{3}!)*"),
        ];
        let mut random = Random(7);
        for constraint in constraints.iter().cycle().take(30) {
            let start = || bytes::follow(constraint).unwrap();
            let (mut following, mut tokens) = (start(), Vec::new());
            for _ in 0..60 {
                if following.is_complete() {
                    break;
                }
                match random.below(5) {
                    0 => _ = following.forced(),
                    1 => _ = following.valid(&[34, 97 + random.below(4) as u32, 98, 99]),
                    2 => {
                        let mut tried = 0;
                        while tried < 4 && !following.is_complete() {
                            let all = allowed(&mut *following);
                            following.accept(all[random.below(all.len())]).unwrap();
                            tried += 1;
                        }
                        following.rollback(tried).unwrap();
                    }
                    _ => {
                        let all = allowed(&mut *following);
                        let token = all[random.below(all.len())];
                        // The end tokens of this vocabulary are no text.
                        if token < 256 {
                            following.accept(token).unwrap();
                            tokens.push(token);
                        }
                    }
                }
                let mut fresh = start();
                tokens.iter().for_each(|&token| fresh.accept(token).unwrap());
                assert_eq!(fresh.is_complete(), following.is_complete(), "{tokens:?}");
                let (expected, found) = (allowed(&mut *fresh), allowed(&mut *following));
                assert_eq!(found, expected, "{constraint:?} {tokens:?}");
            }
        }
    }

    /// What is refused is taken back like anything else.
    #[test]
    fn an_error_on_a_way_not_taken_is_undone() {
        let mut following = bytes::follow(&Constraint::regex("abc")).unwrap();
        following.accept(97).unwrap();
        assert_eq!(following.accept(120), Err(Stuck));
        assert_eq!(following.mask(), Err(Stuck));
        following.rollback(1).unwrap();
        assert_eq!(allowed(&mut *following), [98]);
    }
}
