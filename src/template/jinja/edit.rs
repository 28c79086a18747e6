//! Edits of a template's source.

use std::borrow::Cow;

/// Text to put at a byte offset of the source, replacing `removed` bytes.
pub(super) struct Edit {
    pub at: usize,
    pub rank: Rank,
    pub removed: usize,
    pub text: Cow<'static, str>,
}

/// Order of edits at one offset: inner closings come first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// Behind a literal.
    Literal,
    /// Behind an operand.
    Operand,
    /// Behind what [`super::translate`] puts in parentheses.
    Translated,
    /// Behind an operand of `~`.
    Term,
    /// Behind a whole expression.
    Expression,
    Open,
    /// Takes the place of what stands there.
    Replace,
}

/// Puts `text` at a byte offset.
pub(super) fn insert(at: usize, rank: Rank, text: &'static str, edits: &mut Vec<Edit>) {
    edits.push(Edit { at, rank, removed: 0, text: Cow::Borrowed(text) });
}

/// Puts `text` in the place of the bytes `from..to`.
pub(super) fn replace(
    from: usize,
    to: usize,
    text: impl Into<Cow<'static, str>>,
    edits: &mut Vec<Edit>,
) {
    edits.push(Edit { at: from, rank: Rank::Replace, removed: to - from, text: text.into() });
}

/// `source` with all of it.
pub(super) fn apply(source: &str, mut edits: Vec<Edit>) -> String {
    edits.sort_by_key(|edit: &Edit| (edit.at, edit.rank));
    let mut result = String::with_capacity(source.len() + edits.len() * 12);
    let mut done = 0;
    let mut last = (usize::MAX, "");
    for edit in &edits {
        // `a + b + c` asks for the guard of `b` twice.
        if edit.rank == Rank::Operand && last == (edit.at, &edit.text) {
            continue;
        }
        // Within what was replaced; it has a syntax error then.
        let Some(before) = source.get(done..edit.at) else { continue };
        last = (edit.at, &edit.text);
        result.push_str(before);
        result.push_str(&edit.text);
        done = edit.at + edit.removed;
    }
    result.push_str(source.get(done..).unwrap_or_default());
    result
}
