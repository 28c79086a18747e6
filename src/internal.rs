//! What the tests, benches and examples of this repository reach into. It is no part of
//! the interface and may change in any release.

pub use crate::bench::{Attention, Heads, Multiplication, synthesize};
pub use crate::engine::hidden_states;
pub use crate::session::feed_together;

/// What this machine can do at best.
pub mod machine {
    pub use crate::machine::*;
}

/// Block formats, and products with one row of each.
pub mod quant {
    pub use crate::quant::*;
}

#[cfg(feature = "constrain")]
pub use constraints::{Vocabulary, accepts};

/// Constraints without a model.
#[cfg(feature = "constrain")]
mod constraints {
    use std::sync::Arc;

    use crate::constrain::{Constraint, Grammars};
    use crate::{Result, Tokenizer};

    pub use crate::constrain::accepts;

    /// A vocabulary that is ready for constraints.
    #[derive(Debug)]
    pub struct Vocabulary(Grammars);

    impl Vocabulary {
        /// Of a tokenizer.
        pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self> {
            Ok(Vocabulary(Grammars::new(tokenizer)?))
        }

        /// How many of `tokens` a constraint allows one after the other, and how many of those
        /// had no alternative.
        pub fn follow(&self, constraint: &Constraint, tokens: &[u32]) -> Result<(usize, usize)> {
            let mut text = self.0.start(constraint, false)?;
            let (mut taken, mut forced) = (0, 0);
            for &token in tokens {
                let Ok(mask) = text.mask() else { break };
                if !mask.allows(token) || text.accept(token).is_err() {
                    break;
                }
                taken += 1;
                forced += usize::from(mask.only() == Some(token));
            }
            Ok((taken, forced))
        }
    }
}
