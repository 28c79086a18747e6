//! SentencePiece's byte pair encoding, the tokenizer of Llama 2 and Mistral 7B.
//!
//! ```text
//! symbols = the characters of the text, spaces written as ▁
//! repeat:
//!     among all neighbours (a, b) whose text a·b is a piece,
//!     join the one whose piece scores highest, the leftmost if several do
//! a symbol that is no piece becomes the byte tokens of its UTF-8
//! ```
//!
//! The score of the *result* decides and equal scores go to the left, so
//! (a, bc) and (ab, c) rank the same.

use crate::error::{Error, Place, Result, Warning};
use crate::gguf::Metadata;

use super::merge::{Join, Merger, Symbol};
use super::vocab::{Kind, Vocab, byte_of, check_length};

const SCORES: &str = "tokenizer.ggml.scores";

/// How SentencePiece writes a space.
pub(super) const SPACE: char = '\u{2581}';

pub(super) struct Spm {
    /// Of each token: 0 for the highest score, the same for equal scores.
    ranks: Vec<u32>,
    bytes: ByteTokens,
    /// Bytes in the longest piece.
    longest: usize,
    /// Whether a space goes in front of text.
    pub add_space_prefix: bool,
}

impl Spm {
    pub fn parse(metadata: &Metadata, vocab: &Vocab, warnings: &mut Vec<Warning>) -> Result<Self> {
        let ranks = match metadata.opt_f32s(SCORES)? {
            Some(scores) => {
                check_length(SCORES, scores.len(), vocab.len())?;
                let mut all = (0u32..).zip(&*scores);
                if let Some((id, score)) = all.find(|(_, score)| !score.is_finite()) {
                    return Err(Error::file(Place::Token(id), format!("{SCORES} is {score}")));
                }
                ranks(&scores)
            }
            None => {
                let problem = "is missing; all tokens count as equally likely";
                warnings.push(Warning::key(SCORES, problem));
                vec![0; vocab.len()]
            }
        };
        Ok(Spm {
            ranks,
            bytes: ByteTokens::of(vocab),
            longest: vocab.iter().map(|(_, piece, _)| piece.len()).max().unwrap_or(0),
            add_space_prefix: metadata.opt_bool("tokenizer.ggml.add_space_prefix")?.unwrap_or(true),
        })
    }

    /// Appends the ids of `text`, with a space in front if `prefix`.
    pub fn encode(&self, vocab: &Vocab, text: &str, prefix: bool, ids: &mut Vec<u32>) {
        let mut spelled = String::with_capacity(text.len() + 8);
        spelled.extend(prefix.then_some(SPACE));
        spelled.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
        self.join(vocab, &spelled, |symbol| match symbol.id {
            Some(id) => ids.push(id),
            None => self.spell(vocab, &spelled[symbol.start..symbol.start + symbol.len], ids),
        });
    }

    /// Calls `each` with what the text falls into once nothing can be joined
    /// any more. A character that was not joined has no token yet.
    fn join(&self, vocab: &Vocab, text: &str, each: impl FnMut(&Symbol)) {
        let mut merger = Merger::default();
        for (start, c) in text.char_indices() {
            merger.push(start, c.len_utf8(), None);
        }
        let join = |a: &Symbol, b: &Symbol| {
            let len = a.len + b.len;
            if len > self.longest {
                return None;
            }
            let id = plain(vocab, &text[a.start..a.start + len])?;
            Some(Join { rank: self.ranks[id as usize], id })
        };
        merger.run(join).for_each(each);
    }

    /// Appends the token of a symbol, or those of its bytes. One byte without
    /// a token makes the whole symbol unknown.
    fn spell(&self, vocab: &Vocab, symbol: &str, ids: &mut Vec<u32>) {
        if let Some(id) = plain(vocab, symbol) {
            ids.push(id);
            return;
        }
        self.bytes.spell(vocab, symbol, ids);
    }
}

/// The token of each byte, for what has no piece.
pub(super) struct ByteTokens([Option<u32>; 256]);

impl ByteTokens {
    pub fn of(vocab: &Vocab) -> Self {
        let mut bytes = [None; 256];
        for (id, piece, kind) in vocab.iter() {
            if let (Kind::Byte, Some(byte)) = (kind, byte_of(piece)) {
                bytes[usize::from(byte)].get_or_insert(id);
            }
        }
        ByteTokens(bytes)
    }

    /// Appends the tokens of the bytes of `text`. One byte without a token makes all of it
    /// unknown.
    pub fn spell(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let start = ids.len();
        for byte in text.bytes() {
            let Some(id) = self.0[usize::from(byte)] else {
                ids.truncate(start);
                ids.extend(vocab.unknown);
                return;
            };
            ids.push(id);
        }
    }
}

/// The place of each score among the distinct scores, the highest first.
fn ranks(scores: &[f32]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..).take(scores.len()).collect();
    let score = |id: u32| scores[id as usize];
    // All are finite, so `==` and this order agree but for -0.0 and 0.0, which
    // `==` joins again below: they are neighbours.
    order.sort_unstable_by(|&a, &b| score(b).total_cmp(&score(a)));
    let mut ranks = vec![0; scores.len()];
    let mut rank = 0;
    for pair in order.windows(2) {
        rank += u32::from(score(pair[0]) != score(pair[1]));
        ranks[pair[1] as usize] = rank;
    }
    ranks
}

/// The id of `piece` if plain text may become it.
fn plain(vocab: &Vocab, piece: &str) -> Option<u32> {
    let id = vocab.id(piece)?;
    matches!(vocab.kind(id)?, Kind::Normal | Kind::UserDefined | Kind::Unused).then_some(id)
}

#[cfg(test)]
mod tests {
    use std::ops::Range;

    use super::super::vocab::Unsaid;
    use super::*;
    use crate::gguf::{Array, Value};
    use proptest::prelude::*;

    fn vocab(pieces: &[(String, f32)]) -> (Vocab, Spm) {
        let mut metadata = Metadata::new();
        let texts = pieces.iter().map(|(piece, _)| piece.as_str()).collect();
        let scores = pieces.iter().map(|&(_, score)| score).collect();
        metadata.set("tokenizer.ggml.tokens", Value::Array(Array::String(texts))).unwrap();
        metadata.set(SCORES, Value::Array(Array::F32(scores))).unwrap();
        let vocab = Vocab::parse(&metadata, Unsaid::SENTENCEPIECE, &mut Vec::new()).unwrap();
        let spm = Spm::parse(&metadata, &vocab, &mut Vec::new()).unwrap();
        (vocab, spm)
    }

    /// The rule in the module's head, word for word.
    fn naive<'t>(vocab: &Vocab, scores: &[f32], text: &'t str) -> Vec<&'t str> {
        let mut symbols: Vec<&str> = text.split_inclusive(|_| true).collect();
        let mut starts: Vec<usize> = text.char_indices().map(|(start, _)| start).collect();
        loop {
            let mut best: Option<(f32, usize)> = None;
            for left in 1..symbols.len() {
                let end = starts[left] + symbols[left].len();
                let Some(id) = plain(vocab, &text[starts[left - 1]..end]) else { continue };
                let score = scores[id as usize];
                if best.is_none_or(|(highest, _)| score > highest) {
                    best = Some((score, left));
                }
            }
            let Some((_, right)) = best else { return symbols };
            symbols[right - 1] = &text[starts[right - 1]..starts[right] + symbols[right].len()];
            symbols.remove(right);
            starts.remove(right);
        }
    }

    fn parts(of: &'static [&str], count: Range<usize>) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(of), count).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_heap_joins_like_the_rule(
            pieces in proptest::collection::vec((parts(&["a", "b", "▁", "é"], 2..6), -4i32..0), 0..30),
            text in prop_oneof![
                parts(&["a", "b", "▁", "é", "x"], 0..51), parts(&["a"], 0..41), parts(&["ab"], 0..21)],
        ) {
            let mut all: Vec<(String, f32)> =
                ["a", "b", "▁", "é"].map(|piece| (piece.to_owned(), -9.0)).into();
            all.extend(pieces.into_iter().map(|(piece, score)| (piece, score as f32)));
            let (vocab, spm) = vocab(&all);
            let mut found = Vec::new();
            spm.join(&vocab, &text, |s| found.push(&text[s.start..s.start + s.len]));
            let scores: Vec<f32> = all.iter().map(|(_, score)| *score).collect();
            prop_assert_eq!(found, naive(&vocab, &scores, &text));
        }
    }

    #[test]
    fn equal_scores_have_equal_ranks() {
        assert_eq!(ranks(&[-1.0, 0.0, -2.0, -0.0, -1.0, 3.5]), [2, 1, 3, 1, 2, 0]);
        assert_eq!(ranks(&[]), [0; 0]);
    }

    #[test]
    fn what_has_no_piece_is_bytes_or_unknown() {
        let mut pieces = vec![("<unk>".to_owned(), 0.0), ("a".to_owned(), -1.0)];
        pieces.push(("<0xC3>".to_owned(), 0.0));
        let (without, spm) = vocab(&pieces);
        let mut ids = Vec::new();
        spm.encode(&without, "aéa", false, &mut ids);
        assert_eq!(ids, [1, 0, 1]);

        pieces.push(("<0xA9>".to_owned(), 0.0));
        let (with, spm) = vocab(&pieces);
        ids.clear();
        spm.encode(&with, "aéa", false, &mut ids);
        assert_eq!(ids, [1, 2, 3, 1]);
    }
}
