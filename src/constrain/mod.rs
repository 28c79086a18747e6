//! Constraints: what a generated text is allowed to be.
//!
//! A [`Constraint`] is a JSON schema, a grammar, a regular expression or a list of choices.
//! Before each token the sampler leaves only those that can still lead to an allowed text;
//! the end token is allowed where the text is complete.

#[cfg(feature = "constrain")]
mod bytes;
#[cfg(feature = "constrain")]
mod compile;
#[cfg(feature = "constrain")]
mod compiled;
#[cfg(feature = "constrain")]
mod follow;
mod gbnf;
mod lark;
#[cfg(feature = "constrain")]
mod refuse;
mod schema;
mod token;
#[cfg(not(feature = "constrain"))]
mod unavailable;
#[cfg(feature = "constrain")]
mod vocabulary;

use serde_json::Value as Json;

use crate::error::{Error, Result};

#[cfg(feature = "constrain")]
#[doc(hidden)]
pub use bytes::accepts;
#[cfg(feature = "constrain")]
pub(crate) use compile::Grammars;
pub(crate) use token::{Mask, Stuck, TokenConstraint};
#[cfg(not(feature = "constrain"))]
pub(crate) use unavailable::Grammars;

/// What a generated text is allowed to be.
///
/// ```
/// use tramontane::Constraint;
/// let constraint = Constraint::json_schema(serde_json::json!({
///     "type": "object",
///     "properties": {"city": {"type": "string"}, "degrees": {"type": "integer"}},
///     "required": ["city", "degrees"],
/// }));
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Constraint(pub(crate) Kind);

/// The forms of a constraint.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// Values of a JSON schema.
    JsonSchema(Json),
    /// A regular expression for the whole text, in the dialect of Rust's `regex`.
    Regex(String),
    /// A grammar in llguidance's dialect of Lark.
    Lark(String),
    /// One of these texts.
    Choices(Vec<String>),
}

impl Constraint {
    /// Any JSON object.
    pub fn json() -> Self {
        Constraint::json_schema(serde_json::json!({"type": "object"}))
    }

    /// Values that a JSON schema allows.
    pub fn json_schema(schema: impl Into<Json>) -> Self {
        Constraint(Kind::JsonSchema(schema.into()))
    }

    /// Texts that match a regular expression from their beginning to their end.
    pub fn regex(pattern: impl Into<String>) -> Self {
        Constraint(Kind::Regex(pattern.into()))
    }

    /// Texts of a grammar in llguidance's dialect of Lark.
    pub fn lark(grammar: impl Into<String>) -> Self {
        Constraint(Kind::Lark(grammar.into()))
    }

    /// Texts of a grammar in llama.cpp's notation (GBNF). Parts that no recursion goes through
    /// match as much as they can where llama.cpp tries every length; a part that could go on
    /// with what follows it is matched character by character, which takes longer.
    ///
    /// # Errors
    /// [`Error::Misuse`], with line and column, for what is no grammar; [`Error::Limit`] for
    /// one of more than 256 KiB.
    pub fn gbnf(grammar: &str) -> Result<Self> {
        Ok(Constraint::lark(gbnf::to_lark(grammar)?))
    }

    /// One of these texts.
    pub fn choices<S: AsRef<str>>(choices: impl IntoIterator<Item = S>) -> Self {
        let choices = choices.into_iter().map(|text| text.as_ref().to_owned());
        Constraint(Kind::Choices(choices.collect()))
    }

    /// Whether it can be followed, found out without a model: tokens that a grammar names are
    /// not looked for.
    ///
    /// # Errors
    /// As [`Model::check_constraint`](crate::Model::check_constraint).
    pub fn check(&self) -> Result<()> {
        #[cfg(feature = "constrain")]
        return bytes::check(self);
        #[cfg(not(feature = "constrain"))]
        unavailable::check(self)
    }

    /// A rule `start` of a Lark grammar that matches what this constraint allows. It needs no
    /// other rules: a whole grammar is nested in it.
    ///
    /// # Errors
    /// [`Error::Misuse`] for what cannot be a part of a grammar.
    pub(crate) fn rules(&self, start: &str) -> Result<String> {
        let expression = match &self.0 {
            Kind::JsonSchema(schema) => format!("%json {}", schema::prepare(schema)?),
            Kind::Regex(pattern) => {
                schema::check_literal(pattern.len())?;
                lark::regex(pattern)?
            }
            Kind::Lark(grammar) => format!("%lark {{\n{}\n}}", lark::prepare(grammar)?),
            Kind::Choices(choices) => {
                if choices.is_empty() {
                    return Err(Error::misuse("a constraint to choices needs at least one"));
                }
                let longest = choices.iter().map(String::len).max().unwrap_or(0);
                schema::check_literal(longest)?;
                let choices: Vec<String> = choices.iter().map(|text| lark::escaped(text)).collect();
                lark::regex(&format!("(?:{})", choices.join("|")))?
            }
        };
        Ok(format!("{start}: {expression}\n"))
    }
}
