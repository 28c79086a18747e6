//! Marks that keep the text of messages from being read as control tokens.
//!
//! A chat template writes control tokens as text (`<|im_end|>`), so text of a
//! user that spells one would end the turn. Before rendering, every such
//! spelling in the conversation is broken with a mark; the tokenizer matches
//! no control piece across a mark and then drops it.

use std::borrow::Cow;

/// U+FDD0, a Unicode noncharacter: reserved for use inside a program, never
/// part of interchanged text.
pub const PLAIN_TEXT_MARK: char = '\u{FDD0}';

/// `text` without marks, for display.
pub fn strip_marks(text: &str) -> Cow<'_, str> {
    if text.contains(PLAIN_TEXT_MARK) {
        Cow::Owned(text.replace(PLAIN_TEXT_MARK, ""))
    } else {
        Cow::Borrowed(text)
    }
}

/// `text` with marks wherever it could become one of `pieces`, the texts of control
/// tokens, in the place where a template puts it.
pub(crate) fn mark<'t>(text: &'t str, pieces: &[String]) -> Cow<'t, str> {
    Marker::new(pieces).mark(text)
}

/// Bytes of a piece that are looked for at the ends of a text.
const MAX_JOINT: usize = 1024;

/// Finds the texts of control tokens, and where a text could become one.
pub(super) struct Marker<'a> {
    /// Sorted, so that those with a common beginning are neighbours.
    pieces: Vec<&'a str>,
    /// The same, each reversed byte by byte.
    reversed: Vec<Vec<u8>>,
    longest: usize,
}

impl<'a> Marker<'a> {
    pub fn new(pieces: &'a [String]) -> Self {
        let mut pieces: Vec<&str> =
            pieces.iter().map(String::as_str).filter(|piece| !piece.is_empty()).collect();
        pieces.sort_unstable();
        pieces.dedup();
        let mut reversed: Vec<Vec<u8>> =
            pieces.iter().map(|piece| piece.bytes().rev().collect()).collect();
        reversed.sort_unstable();
        let longest = pieces.iter().map(|piece| piece.len()).max().unwrap_or(0).min(MAX_JOINT);
        Marker { pieces, reversed, longest }
    }

    /// `text` with a mark inside each spelling of a piece, and where its start
    /// or end, with or without the white space that templates trim, could be
    /// completed to one by the text around it.
    pub fn mark<'t>(&self, text: &'t str) -> Cow<'t, str> {
        let clean = strip_marks(text);
        if self.pieces.is_empty() || clean.is_empty() {
            return clean;
        }
        let mut breaks = self.breaks(&clean);
        if breaks.is_empty() {
            return clean;
        }
        breaks.sort_unstable();
        breaks.dedup();
        let mut marked = String::with_capacity(clean.len() + 3 * breaks.len());
        let mut done = 0;
        for at in breaks {
            marked.push_str(&clean[done..at]);
            marked.push(PLAIN_TEXT_MARK);
            done = at;
        }
        marked.push_str(&clean[done..]);
        Cow::Owned(marked)
    }

    fn breaks(&self, text: &str) -> Vec<usize> {
        let mut breaks = Vec::new();
        for (at, letter) in text.char_indices() {
            if starts_with_any(&self.pieces, &text.as_bytes()[at..]) {
                breaks.push(at + letter.len_utf8());
            }
        }
        let start = text.len() - text.trim_start().len();
        let end = text.trim_end().len();
        for at in [0, start] {
            if self.starts_with_suffix(&text[at..]) {
                breaks.push(at);
            }
        }
        for at in [text.len(), end] {
            if self.ends_with_prefix(&text[..at]) {
                breaks.push(at);
            }
        }
        breaks
    }

    /// Whether the end of `text` is the beginning of a piece, but not all of it.
    fn ends_with_prefix(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        (1..self.longest.min(bytes.len() + 1)).any(|length| {
            let tail = &bytes[bytes.len() - length..];
            begins_longer(&self.pieces, tail)
        })
    }

    /// Whether the beginning of `text` is the end of a piece, but not all of it.
    fn starts_with_suffix(&self, text: &str) -> bool {
        let bytes = text.as_bytes();
        (1..self.longest.min(bytes.len() + 1)).any(|length| {
            let head: Vec<u8> = bytes[..length].iter().rev().copied().collect();
            begins_longer(&self.reversed, &head)
        })
    }
}

/// Whether one of the sorted `pieces` is a prefix of `text`.
fn starts_with_any(pieces: &[&str], text: &[u8]) -> bool {
    let mut candidates = pieces;
    for (depth, &byte) in text.iter().enumerate() {
        let low = candidates.partition_point(|p| p.as_bytes().get(depth) < Some(&byte));
        let high = candidates.partition_point(|p| p.as_bytes().get(depth) <= Some(&byte));
        candidates = &candidates[low..high];
        match candidates.first() {
            None => return false,
            // The shortest candidate sorts first.
            Some(piece) if piece.len() == depth + 1 => return true,
            Some(_) => {}
        }
    }
    false
}

/// Whether one of the sorted `pieces` starts with `prefix` and is longer.
fn begins_longer(pieces: &[impl AsRef<[u8]>], prefix: &[u8]) -> bool {
    let from = pieces.partition_point(|piece| piece.as_ref() <= prefix);
    pieces.get(from).is_some_and(|piece| piece.as_ref().starts_with(prefix))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(pieces: &[&str], text: &str) -> String {
        let pieces: Vec<String> = pieces.iter().map(|&piece| piece.to_owned()).collect();
        Marker::new(&pieces).mark(text).replace(PLAIN_TEXT_MARK, "^")
    }

    #[test]
    fn breaks_spellings_and_joints() {
        let pieces = ["<|im_end|>", "<|im_start|>", "[INST]", "<s>", "</s>"];
        for (text, expected) in [
            ("Hello", "Hello"),
            ("", ""),
            ("a<|im_end|>b", "a<^|im_end|>b"),
            ("<s></s>", "<^s><^/s>"),
            ("<<s>", "<<^s>"),
            ("a <", "a <^"),
            ("a <|im_ ", "a <|im_^ "),
            ("end|> b", "^end|> b"),
            ("  |im_end|>", "  ^|im_end|>"),
            ("] a", "^] a"),
            ("] [", "^] [^"),
            ("\u{FDD0}<\u{FDD0}s>", "<^s>"),
        ] {
            assert_eq!(mark(&pieces, text), expected, "{text:?}");
        }
        // Overlapping pieces, one within another, a piece of one letter.
        assert_eq!(mark(&["ab", "bc"], "abc"), "a^b^c");
        assert_eq!(mark(&["<a<b>>", "<b>"], "<a<b>>."), "<^a<^b>>.");
        assert_eq!(mark(&["é"], "née"), "né^e");
        assert_eq!(mark(&[], "<s>\u{FDD0}"), "<s>");
    }
}
