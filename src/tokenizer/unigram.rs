//! SentencePiece's unigram model, the tokenizer of XLM-RoBERTa (Kudo 2018).
//!
//! ```text
//! text ─► replacements of the file's table ─► runs of spaces become one, none at the ends;
//! a space in front; spaces written as ▁
//! among all ways to cut the text into pieces, the one of the highest sum of scores
//! ```
//! A character that no piece begins with costs 10 more than the worst piece and is
//! unknown; neighbours that are unknown are one token.

use crate::error::{Error, Place, Result, Warning};
use crate::gguf::Metadata;

use super::charsmap::Charsmap;
use super::spm::SPACE;
use super::vocab::{Kind, Vocab, check_length};

const SCORES: &str = "tokenizer.ggml.scores";

/// How much worse an unknown character is than the worst piece.
const UNKNOWN_PENALTY: f64 = 10.0;

/// Longer pieces are not looked for, so that a text takes time linear in its length.
/// SentencePiece makes none of more than 16 characters if nobody asks.
const MOST_PIECE_BYTES: usize = 256;

pub(super) struct Unigram {
    charsmap: Charsmap,
    /// Pieces that texts are cut into, in the order of their bytes, with their scores.
    pieces: Vec<(Box<str>, u32, f64)>,
    unknown_score: f64,
    /// Whether a piece reaches over the beginning of a word.
    crosses_words: bool,
    collapse_spaces: bool,
    /// Whether a space goes in front of text.
    pub add_space_prefix: bool,
}

/// The best way to cut a text up to some place.
#[derive(Debug, Clone, Copy)]
struct Best {
    score: f64,
    /// Where the last piece begins, and which it is; none: unknown.
    start: usize,
    piece: Option<u32>,
}

impl Unigram {
    pub fn parse(metadata: &Metadata, vocab: &Vocab, warnings: &mut Vec<Warning>) -> Result<Self> {
        let Some(scores) = metadata.opt_f32s(SCORES)? else {
            return Err(Error::key(SCORES, "is missing; this kind of vocabulary needs it"));
        };
        check_length(SCORES, scores.len(), vocab.len())?;
        let mut all = (0u32..).zip(&*scores);
        if let Some((id, score)) = all.find(|(_, score)| !score.is_finite()) {
            return Err(Error::file(Place::Token(id), format!("{SCORES} is {score}")));
        }
        let mut pieces: Vec<(Box<str>, u32, f64)> = Vec::with_capacity(vocab.len());
        let mut long = 0;
        for ((id, piece, kind), &score) in vocab.iter().zip(&*scores) {
            let first = vocab.id(piece) == Some(id);
            if !matches!(kind, Kind::Normal | Kind::UserDefined) || !first {
                continue;
            }
            match piece.len() > MOST_PIECE_BYTES {
                true => long += 1,
                false => pieces.push((Box::from(piece), id, f64::from(score))),
            }
        }
        if long > 0 {
            let problem = format!("has {long} of more than {MOST_PIECE_BYTES} bytes, not used");
            warnings.push(Warning::key("tokenizer.ggml.tokens", problem));
        }
        pieces.sort_unstable_by(|a, b| a.0.cmp(&b.0));
        let worst = pieces.iter().map(|&(.., score)| score).fold(0.0, f64::min);
        let flag = |name: &str| metadata.opt_bool(&format!("tokenizer.ggml.{name}"));
        Ok(Unigram {
            charsmap: Charsmap::parse(metadata)?,
            unknown_score: worst - UNKNOWN_PENALTY,
            crosses_words: pieces.iter().any(|(piece, ..)| words(piece).count() > 1),
            pieces,
            collapse_spaces: flag("remove_extra_whitespaces")?.unwrap_or(true),
            add_space_prefix: flag("add_space_prefix")?.unwrap_or(true),
        })
    }

    /// Appends the ids of `text`, with a space in front if `prefix`.
    pub fn encode(&self, vocab: &Vocab, text: &str, prefix: bool, ids: &mut Vec<u32>) {
        let spelled = self.spell(text, prefix);
        let mut best = Vec::new();
        let mut after_unknown = false;
        let mut cut = |text: &str| {
            for piece in self.cut(text, &mut best) {
                match piece {
                    Some(id) => ids.push(id),
                    None if after_unknown => {}
                    None => ids.extend(vocab.unknown),
                }
                after_unknown = piece.is_none();
            }
        };
        match self.crosses_words {
            true => cut(&spelled),
            false => words(&spelled).for_each(cut),
        }
    }

    /// The text as pieces spell it.
    fn spell(&self, text: &str, prefix: bool) -> String {
        let text = self.charsmap.apply(text);
        let mut spelled = String::with_capacity(text.len() + text.len() / 4 + 4);
        if !self.collapse_spaces {
            spelled.extend((prefix && !text.is_empty()).then_some(SPACE));
            spelled.extend(text.chars().map(|c| if c == ' ' { SPACE } else { c }));
            return spelled;
        }
        for word in text.split(' ').filter(|word| !word.is_empty()) {
            spelled.extend((prefix || !spelled.is_empty()).then_some(SPACE));
            spelled.push_str(word);
        }
        spelled
    }

    /// The pieces of the highest sum of scores; none: an unknown character. Of equal sums
    /// the one whose last piece begins first.
    fn cut(&self, text: &str, best: &mut Vec<Best>) -> Vec<Option<u32>> {
        best.clear();
        best.resize(text.len() + 1, Best { score: f64::NEG_INFINITY, start: 0, piece: None });
        best[0].score = 0.0;
        for (start, c) in text.char_indices() {
            let before = best[start].score;
            let mut reach = |end: usize, score: f64, piece| {
                if before + score > best[end].score {
                    best[end] = Best { score: before + score, start, piece };
                }
            };
            let mut alone = false;
            self.prefixes(&text.as_bytes()[start..], |len, id, score| {
                alone |= len == c.len_utf8();
                reach(start + len, score, Some(id));
            });
            if !alone {
                reach(start + c.len_utf8(), self.unknown_score, None);
            }
        }
        let mut pieces = Vec::new();
        let mut end = text.len();
        while end > 0 {
            let Best { start, piece, .. } = best[end];
            pieces.push(piece);
            end = start;
        }
        pieces.reverse();
        pieces
    }

    /// Calls `each` with length, id and score of the pieces that `text` begins with.
    fn prefixes(&self, text: &[u8], mut each: impl FnMut(usize, u32, f64)) {
        let mut range = &self.pieces[..];
        for (at, &byte) in text.iter().enumerate() {
            // All of `range` begin with the same `at` bytes; those that end there come first.
            let of = |piece: &(Box<str>, u32, f64)| piece.0.as_bytes().get(at).copied();
            let first = range.partition_point(|piece| of(piece) < Some(byte));
            range = &range[first..];
            range = &range[..range.partition_point(|piece| of(piece) == Some(byte))];
            match range.first() {
                None => return,
                Some((piece, id, score)) if piece.len() == at + 1 => each(at + 1, *id, *score),
                Some(_) => {}
            }
        }
    }
}

/// `text` cut before each run of ▁.
fn words(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let spaces = rest.len() - rest.trim_start_matches(SPACE).len();
        let end = rest[spaces..].find(SPACE).map_or(rest.len(), |end| spaces + end);
        let word;
        (word, rest) = rest.split_at(end);
        Some(word)
    })
}
