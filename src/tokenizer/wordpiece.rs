//! WordPiece, the tokenizer of BERT.
//!
//! ```text
//! text ─► cleaned, accents stripped, lower case ─► words at white space; each
//! punctuation character and each Chinese character is a word of its own
//! word: the longest piece that it begins with, then the longest that the rest
//! begins with, and so on; unknown as a whole where no piece fits
//! ```
//!
//! GGUF stores pieces that begin a word with U+2581 in front, and those that continue one
//! as they are (`##ing` as `ing`). The rules are those of Hugging Face's `BertNormalizer`,
//! `BertPreTokenizer` and `WordPiece`. Categories of characters are those of a newer version of
//! Unicode than Hugging Face's tables.

use unicode_general_category::{GeneralCategory, get_general_category};
use unicode_normalization::UnicodeNormalization;

use crate::error::Result;
use crate::gguf::Metadata;

use super::class::{PUNCTUATION, any};
use super::spm::SPACE;
use super::vocab::Vocab;

/// Words of more characters are unknown.
const MOST_CHARS: usize = 100;

pub(super) struct WordPiece {
    lowercase: bool,
    strip_accents: bool,
    /// Bytes in the longest piece.
    longest: usize,
}

impl WordPiece {
    pub fn parse(metadata: &Metadata, vocab: &Vocab) -> Result<Self> {
        let flag = |name: &str| metadata.opt_bool(&format!("tokenizer.ggml.normalizer.{name}"));
        let lowercase = flag("lowercase")?.unwrap_or(true);
        Ok(WordPiece {
            lowercase,
            strip_accents: flag("strip_accents")?.unwrap_or(lowercase),
            longest: vocab.iter().map(|(_, piece, _)| piece.len()).max().unwrap_or(0),
        })
    }

    /// Appends the ids of `text`.
    pub fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let text = self.normalize(text);
        let mut spelled = String::new();
        for run in text.split_whitespace() {
            for word in run.split_inclusive(stands_alone) {
                let last = word.chars().next_back().filter(|&c| stands_alone(c));
                let (word, alone) = word.split_at(word.len() - last.map_or(0, char::len_utf8));
                for word in [word, alone].into_iter().filter(|word| !word.is_empty()) {
                    spelled.clear();
                    spelled.push(SPACE);
                    spelled.push_str(word);
                    self.spell(vocab, &spelled, ids);
                }
            }
        }
    }

    fn normalize(&self, text: &str) -> String {
        let clean = text.chars().filter(|&c| !is_removed(c));
        let stripped: String = match self.strip_accents {
            true => clean.nfd().filter(|&c| !is_accent(c)).collect(),
            false => clean.collect(),
        };
        match self.lowercase {
            // Not `str::to_lowercase`, which writes a final sigma in another way.
            true => stripped.chars().flat_map(char::to_lowercase).collect(),
            false => stripped,
        }
    }

    /// Appends the pieces of a word that has U+2581 in front.
    fn spell(&self, vocab: &Vocab, word: &str, ids: &mut Vec<u32>) {
        let before = ids.len();
        if word.chars().nth(MOST_CHARS + 1).is_some() {
            ids.extend(vocab.unknown);
            return;
        }
        let (mut rest, mut least) = (word, SPACE.len_utf8());
        while !rest.is_empty() {
            let most = rest.floor_char_boundary(self.longest.min(rest.len()));
            let ends = (least + 1..=most).rev().filter(|&end| rest.is_char_boundary(end));
            // In a vocabulary only beginnings of words have the mark in front.
            let is_marked = least == 0 && rest.starts_with(SPACE);
            let piece = |end: usize| {
                let id = vocab.id(&rest[..end]).filter(|&id| vocab.is_text(id) && !is_marked)?;
                Some((id, end))
            };
            let Some((id, end)) = ends.into_iter().find_map(piece) else {
                ids.truncate(before);
                ids.extend(vocab.unknown);
                return;
            };
            ids.push(id);
            (rest, least) = (&rest[end..], 0);
        }
    }
}

/// Whether the character is a word of its own.
fn stands_alone(c: char) -> bool {
    c.is_ascii_punctuation() || any(PUNCTUATION).has(c) || is_chinese(c)
}

/// The blocks of Chinese characters that BERT tells apart.
fn is_chinese(c: char) -> bool {
    matches!(c,
        '\u{4E00}'..='\u{9FFF}' | '\u{3400}'..='\u{4DBF}' | '\u{20000}'..='\u{2A6DF}'
        | '\u{2A700}'..='\u{2B73F}' | '\u{2B740}'..='\u{2B81F}' | '\u{2B920}'..='\u{2CEAF}'
        | '\u{F900}'..='\u{FAFF}' | '\u{2F800}'..='\u{2FA1F}')
}

/// Control, format and private characters, but no white space.
fn is_removed(c: char) -> bool {
    use GeneralCategory::{Control, Format, PrivateUse};
    match c {
        '\t' | '\n' | '\r' => false,
        '\0' | '\u{FFFD}' => true,
        c if c.is_ascii() => c.is_ascii_control(),
        c => matches!(get_general_category(c), Control | Format | PrivateUse),
    }
}

fn is_accent(c: char) -> bool {
    !c.is_ascii() && get_general_category(c) == GeneralCategory::NonspacingMark
}
