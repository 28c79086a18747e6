//! Why a constraint is refused: what the compiler says, in sentences for its author.

use crate::error::{Bounded, Error, Place};

use super::schema::place_of;
use super::{Constraint, Kind};

/// What the compiler says, the keyword that it means, and what to say instead.
const KEYWORDS: [(&str, &str, &str); 7] = [
    (
        "oneOf constraints are not supported",
        "oneOf",
        "alternatives of \"oneOf\" that can apply to the same value are not supported; use \
         \"anyOf\"",
    ),
    (
        "min/maxProperties only supported",
        "minProperties",
        "\"minProperties\" and \"maxProperties\" are supported only where all of \"properties\" \
         are required",
    ),
    ("Only absolute $ref", "$ref", "\"$ref\" is supported only within the schema (\"#/…\")"),
    ("Reference segment", "$ref", "\"$ref\" names a place that the schema does not have"),
    (
        "circular references with sibling",
        "$ref",
        "\"$ref\" in a circle is not supported beside other keywords",
    ),
    (
        "patternProperty regexes",
        "patternProperties",
        "\"patternProperties\" that overlap are not supported",
    ),
    (
        "Unable to determine if regex is empty",
        "pattern",
        "\"pattern\" is too complex; use a simpler one",
    ),
];

/// What the compiler says when it has done enough.
const LIMITS: [&str; 8] = [
    "fuel exhausted",
    "too large",
    "Too many items",
    "too many expressions",
    "too many states",
    "too complex",
    "lexer precomputation failed",
    "stack level exceeded",
];

/// A grammar of too many bytes.
pub(super) fn too_large(bytes: usize, allowed: usize) -> Error {
    Error::limit(Bounded::Constraint("bytes of a constraint's grammar"), bytes, allowed)
}

/// The error for what the compiler `said`.
pub(super) fn reason(constraint: &Constraint, said: &str) -> Error {
    if let Kind::JsonSchema(schema) = &constraint.0 {
        let unsupported = |keyword: &str, value: Option<&str>, problem: String| {
            Error::unsupported(place_of(schema, keyword, value), problem)
        };
        if let Some(keyword) = quoted_after(said, "Unimplemented keys: [") {
            let problem = format!("keyword {keyword:?} is not supported; leave it out");
            return unsupported(keyword, None, problem);
        }
        if let Some((_, format)) = said.split_once("Unknown format: ") {
            let problem = format!("format {format:?} is not supported; leave it out");
            return unsupported("format", Some(format), problem);
        }
        for (mark, keyword, problem) in KEYWORDS {
            if said.contains(mark) {
                return unsupported(keyword, None, problem.into());
            }
        }
        if said.contains("regex") && place_of(schema, "pattern", None) != Place::Schema("#".into())
        {
            let problem = format!("\"pattern\" is not supported: {}", shorten(said));
            return unsupported("pattern", None, problem);
        }
    }
    if LIMITS.iter().any(|mark| said.contains(mark)) {
        let problem = "takes too many steps to compile or to follow; make it simpler";
        return Error::misuse(format!("constraint: {problem} ({})", shorten(said)));
    }
    if said.contains("Unsatisfiable schema") || said.contains("no tokens") || said.is_empty() {
        return Error::misuse(format!("constraint: it allows no text ({})", shorten(said)));
    }
    Error::misuse(format!("constraint: {}", shorten(said)))
}

/// The first text in quotes after `mark`.
fn quoted_after<'t>(text: &'t str, mark: &str) -> Option<&'t str> {
    let (_, rest) = text.split_once(mark)?;
    rest.split('"').nth(1)
}

/// At most 200 characters: grammars and patterns come from clients.
fn shorten(said: &str) -> String {
    let said = said.trim_end_matches("<non-verbose/>").trim();
    match said.char_indices().nth(200) {
        Some((end, _)) => format!("{}…", &said[..end]),
        None => said.to_owned(),
    }
}
