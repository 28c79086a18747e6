//! When the context is too small for the conversation.

/// What to do when the context is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum ContextFull {
    /// End with [`FinishReason::ContextFull`](super::FinishReason::ContextFull); a
    /// prompt that does not fit is an error.
    #[default]
    Stop,
    /// Fail with [`Error::Limit`](crate::Error::Limit).
    Error,
    /// Of a prompt that does not fit drop the oldest tokens but its first `num_keep`,
    /// so that the answer has room: `num_predict` positions, a quarter of the context
    /// if there is no such limit, never more than half. End when the context is full.
    /// [`Summary::dropped_tokens`](super::Summary::dropped_tokens) tells.
    Truncate {
        /// Tokens at the start that are never dropped (system prompt); at most
        /// half the context.
        num_keep: usize,
    },
    /// Drop the older half of the conversation but its first `num_keep` tokens,
    /// compute the rest anew and go on, as often as needed;
    /// [`Summary::dropped_tokens`](super::Summary::dropped_tokens) tells.
    Shift {
        /// Tokens at the start that are never dropped (system prompt); at most
        /// half the context.
        num_keep: usize,
    },
}

/// What is left of a conversation.
pub(crate) struct Kept {
    pub tokens: Vec<u32>,
    /// How many were dropped.
    pub dropped: usize,
}

impl ContextFull {
    /// What to feed instead of a prompt (with all that is before it) which does not
    /// fit `num_ctx` positions; none if it is to be fed as it is, or to fail.
    pub(crate) fn fit_prompt(
        self,
        tokens: &[u32],
        num_ctx: usize,
        num_predict: Option<usize>,
    ) -> Option<Kept> {
        if tokens.len() <= num_ctx {
            return None;
        }
        match self {
            ContextFull::Stop | ContextFull::Error => None,
            ContextFull::Truncate { num_keep } => {
                let room = num_predict.unwrap_or((num_ctx / 4).max(1)).min(num_ctx / 2);
                Some(keep(tokens, num_keep.min(num_ctx / 2), num_ctx - room))
            }
            ContextFull::Shift { .. } => self.shift(tokens, num_ctx),
        }
    }

    /// What to feed instead of a conversation that has filled `num_ctx` positions and
    /// is to go on; none if it is not.
    pub(crate) fn shift(self, tokens: &[u32], num_ctx: usize) -> Option<Kept> {
        let ContextFull::Shift { num_keep } = self else { return None };
        let start = num_keep.min(num_ctx / 2).min(tokens.len());
        Some(keep(tokens, start, start + ((num_ctx - start) / 2).max(1)))
    }

    /// Whether a generation ends when the context is full.
    pub(crate) fn ends(self) -> bool {
        matches!(self, ContextFull::Stop | ContextFull::Truncate { .. })
    }
}

/// The first `start` of `tokens` and as many of the newest as make `most`; at least one.
fn keep(tokens: &[u32], start: usize, most: usize) -> Kept {
    let start = start.min(tokens.len());
    let tail = most.saturating_sub(start).max(1).min(tokens.len() - start);
    let mut kept = tokens[..start].to_vec();
    kept.extend_from_slice(&tokens[tokens.len() - tail..]);
    Kept { dropped: tokens.len() - kept.len(), tokens: kept }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// What is kept fits, leaves room, is the start and the end, and is counted.
        #[test]
        fn what_is_kept_fits(
            len in 1usize..200,
            num_ctx in 1usize..100,
            num_keep in 0usize..120,
            num_predict in proptest::option::of(0usize..150),
            shift: bool,
        ) {
            let tokens: Vec<u32> = (0..len as u32).collect();
            let full = match shift {
                true => ContextFull::Shift { num_keep },
                false => ContextFull::Truncate { num_keep },
            };
            let Some(kept) = full.fit_prompt(&tokens, num_ctx, num_predict) else {
                prop_assert!(len <= num_ctx);
                return Ok(());
            };
            prop_assert_eq!(kept.tokens.len() + kept.dropped, len);
            prop_assert!(!kept.tokens.is_empty() && kept.tokens.len() <= num_ctx);
            // (Of two positions one may be for the start, and one is for the newest.)
            if num_ctx > 2 && num_predict != Some(0) {
                prop_assert!(kept.tokens.len() < num_ctx, "no room to go on");
            }
            let start = num_keep.min(num_ctx / 2);
            prop_assert_eq!(&kept.tokens[..start], &tokens[..start]);
            let tail = &kept.tokens[start..];
            prop_assert_eq!(tail, &tokens[len - tail.len()..]);
        }
    }
}
