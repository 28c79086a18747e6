//! Several conversations in one forward pass.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::error::{Error, Result};
use crate::model::forward::{Feed, Wanted};

use super::{Session, finite};

/// Appends tokens to several sessions of one model and returns the logits after
/// the last token of each, `[n_vocab]`, in their order: the same bits as
/// [`Session::feed`] one by one, but the weights are read once for all. No pass
/// has more tokens than the first session's `num_batch`, or one per session.
///
/// ```
/// let model = tramontane::Model::open("models/storyteller-q4_k_m.gguf")?;
/// let (mut a, mut b) = (model.session(&Default::default())?, model.session(&Default::default())?);
/// let logits = tramontane::internal::feed_together(&mut [(&mut a, &[1, 5]), (&mut b, &[1])])?;
/// assert_eq!(logits.len(), 2);
/// # Ok::<(), tramontane::Error>(())
/// ```
///
/// # Errors
/// [`Error::Misuse`] for sessions of different models, and what
/// [`Session::feed`] gives for each; nothing is fed then.
pub fn feed_together(feeds: &mut [(&mut Session, &[u32])]) -> Result<Vec<Vec<f32>>> {
    let Some((first, _)) = feeds.first_mut() else { return Ok(Vec::new()) };
    let (model, num_batch) = (first.model.clone(), first.num_batch);
    let mut state = std::mem::take(&mut first.state);
    let mut rest = Vec::new();
    for (session, tokens) in feeds.iter_mut() {
        if !Arc::ptr_eq(&session.model.0, &model.0) {
            return Err(Error::misuse("sessions of different models cannot be fed together"));
        }
        rest.push(session.with_pending(tokens)?.into_owned());
    }
    let mut logits = vec![Vec::new(); feeds.len()];
    while rest.iter().any(|tokens| !tokens.is_empty()) {
        let lens = shares(&rest, num_batch);
        let mut pass = Vec::new();
        for ((session, _), (tokens, &len)) in feeds.iter_mut().zip(rest.iter().zip(&lens)) {
            if len > 0 {
                let wanted = if len == tokens.len() { Wanted::Last } else { Wanted::None };
                pass.push(Feed { cache: &mut session.cache, tokens: &tokens[..len], wanted });
            }
        }
        model.transformer().forward(&mut state, &mut pass, &AtomicBool::new(false))?;
        let mut rows = state.logits.chunks_exact(model.n_vocab());
        for (i, (session, _)) in feeds.iter_mut().enumerate() {
            if lens[i] == 0 {
                continue;
            }
            session.tokens.extend(rest[i].drain(..lens[i]));
            session.pending.clear();
            if rest[i].is_empty() {
                logits[i] = rows.next().unwrap_or_default().to_vec();
            }
        }
    }
    if let Some((first, _)) = feeds.first_mut() {
        first.state = state;
    }
    logits.iter().try_for_each(|logits| finite(logits).map(|_| ()))?;
    Ok(logits)
}

/// How many tokens of each list the next pass takes.
fn shares(rest: &[Vec<u32>], num_batch: usize) -> Vec<usize> {
    let waiting = rest.iter().filter(|tokens| !tokens.is_empty()).count().max(1);
    let share = (num_batch / waiting).max(1);
    rest.iter().map(|tokens| tokens.len().min(share)).collect()
}
