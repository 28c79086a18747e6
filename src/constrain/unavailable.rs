//! In the place of the compiler where the crate is built without it.

use std::sync::Arc;

use crate::error::{Error, Place, Result};
use crate::tokenizer::Tokenizer;

use super::{Constraint, TokenConstraint};

/// Compiles nothing.
#[derive(Debug)]
pub(crate) struct Grammars(());

impl Grammars {
    /// # Errors
    /// [`Error::Unsupported`], always.
    pub fn new(_tokenizer: Arc<Tokenizer>) -> Result<Self> {
        Err(unsupported())
    }

    /// # Errors
    /// [`Error::Unsupported`], always.
    pub fn start(&self, constraint: &Constraint, _blank: bool) -> Result<Box<dyn TokenConstraint>> {
        Err(check(constraint).err().unwrap_or_else(unsupported))
    }
}

/// # Errors
/// [`Error::Unsupported`], always.
pub(super) fn check(constraint: &Constraint) -> Result<()> {
    constraint.rules("text")?;
    Err(unsupported())
}

fn unsupported() -> Error {
    let problem = "this build follows none; build the crate with its feature \"constrain\"";
    Error::unsupported(Place::Constraint, problem)
}
