//! Grammars in llama.cpp's notation (GBNF) → Lark.
//!
//! ```text
//! root ::= "[" item ("," item)* "]"
//! item ::= [0-9]+ | root            # comments end with the line
//! ```

mod ends;
mod parse;
mod translate;

use crate::error::Result;

/// The same grammar in llguidance's dialect of Lark.
///
/// # Errors
/// [`Error::Misuse`](crate::Error::Misuse), with line and column, for what is no grammar.
pub(super) fn to_lark(grammar: &str) -> Result<String> {
    Ok(translate::lark(&parse::grammar(grammar)?))
}

#[cfg(all(test, feature = "constrain"))]
mod tests;
