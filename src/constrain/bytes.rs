//! Constraints without a model: every token is a byte.

use std::sync::{Arc, OnceLock};

use llguidance::toktrie::ApproximateTokEnv;

use crate::error::{Error, Place, Result};

use super::{Constraint, Grammars};

/// Compiles `constraint` and forgets it.
///
/// # Errors
/// As [`Model::check_constraint`](crate::Model::check_constraint).
pub(super) fn check(constraint: &Constraint) -> Result<()> {
    grammars()?.compile(constraint, false).map(|_| ())
}

/// Which of `texts` a constraint allows.
///
/// # Errors
/// As [`Model::check_constraint`](crate::Model::check_constraint).
pub fn accepts(constraint: &Constraint, texts: &[&str]) -> Result<Vec<bool>> {
    let start = grammars()?.compile(constraint, false)?;
    let accepts = |text: &&str| {
        let mut matcher = start.deep_clone();
        let bytes: Vec<u32> = text.bytes().map(u32::from).collect();
        let taken = matcher.try_consume_tokens(&bytes).unwrap_or(0);
        taken == bytes.len() && matcher.is_accepting().unwrap_or(false)
    };
    Ok(texts.iter().map(accepts).collect())
}

/// A text of bytes at its start.
#[cfg(test)]
pub(super) fn follow(constraint: &Constraint) -> Result<Box<dyn super::TokenConstraint>> {
    grammars()?.start(constraint, false)
}

fn grammars() -> Result<&'static Grammars> {
    static GRAMMARS: OnceLock<Result<Grammars>> = OnceLock::new();
    let grammars =
        GRAMMARS.get_or_init(|| Grammars::of(Arc::new(ApproximateTokEnv::single_byte())));
    grammars.as_ref().map_err(|error| Error::unsupported(Place::Constraint, error.to_string()))
}
