//! Byte-level BPE, the tokenizer of GPT-2, Llama 3 and Qwen: words are spelled
//! in an alphabet of 256 printable characters, one per byte, and merged by the
//! `tokenizers` crate's model.

use tokenizers::Model;
use tokenizers::models::bpe::{BPE, Vocab as BpeVocab};

use crate::error::{Error, Result};
use crate::gguf::Metadata;

use super::pre::{Family, PreTokenizer};
use super::vocab::Vocab;

const MERGES: &str = "tokenizer.ggml.merges";

pub(super) struct Bpe {
    model: BPE,
    pre: PreTokenizer,
    alphabet: [char; 256],
}

impl Bpe {
    pub fn parse(metadata: &Metadata, vocab: &Vocab, family: &Family) -> Result<Self> {
        // Control tokens stay out: no text may turn into one.
        let pieces: BpeVocab = vocab
            .iter()
            .filter(|&(id, piece, _)| vocab.is_text(id) && vocab.id(piece) == Some(id))
            .map(|(id, piece, _)| (piece.to_owned(), id))
            .collect();
        let model = BPE::builder()
            .vocab_and_merges(pieces, merges(metadata, vocab)?)
            .ignore_merges(family.ignore_merges)
            .build()
            .map_err(|problem| Error::key(MERGES, problem.to_string()))?;
        Ok(Bpe { model, pre: PreTokenizer::new(family)?, alphabet: alphabet() })
    }

    /// Appends the ids of `text`. Bytes that the vocabulary lacks are left out.
    pub fn encode(&self, text: &str, ids: &mut Vec<u32>) {
        let mut spelled = String::new();
        self.pre.words(text, &mut |word| {
            spelled.clear();
            spelled.extend(word.bytes().map(|byte| self.alphabet[usize::from(byte)]));
            // Fails only for an unknown token, and the model has none.
            if let Ok(tokens) = self.model.tokenize(&spelled) {
                ids.extend(tokens.iter().map(|token| token.id));
            }
        });
    }
}

/// The merges in order of rank. Each must be two pieces whose joined text is
/// a piece: the crate's builder relies on it (huggingface/tokenizers #2094).
fn merges(metadata: &Metadata, vocab: &Vocab) -> Result<Vec<(String, String)>> {
    let lines = metadata.strings(MERGES)?;
    let mut merges = Vec::with_capacity(lines.len());
    let mut seen = std::collections::HashSet::with_capacity(lines.len());
    let mut joined = String::new();
    for (index, line) in lines.iter().enumerate() {
        let problem = |what: &str| Error::key(MERGES, format!("merge {index} {what}"));
        let Some((left, right)) = line.split_once(' ') else {
            return Err(problem("has no space between two pieces"));
        };
        if left.is_empty() || right.is_empty() || right.contains(' ') {
            return Err(problem("is not two pieces with one space between them"));
        }
        joined.clear();
        joined.extend([left, right]);
        let (Some(a), Some(b)) = (vocab.id(left), vocab.id(right)) else {
            return Err(problem("has a part that is not in the vocabulary"));
        };
        let Some(result) = vocab.id(&joined) else {
            return Err(problem("joins into text that is not in the vocabulary"));
        };
        // The first of equal merges counts, and none may make a control token.
        if [a, b, result].into_iter().all(|id| vocab.is_text(id)) && seen.insert((a, b)) {
            merges.push((left.to_owned(), right.to_owned()));
        }
    }
    Ok(merges)
}

/// The character that stands for each byte: itself where Latin-1 prints it,
/// else the next one from U+0100 on.
fn alphabet() -> [char; 256] {
    let mut next = 0x100;
    std::array::from_fn(|byte| {
        let byte = byte as u32;
        let code = match byte {
            0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => byte,
            _ => {
                next += 1;
                next - 1
            }
        };
        char::from_u32(code).unwrap_or_default()
    })
}

/// Appends the bytes that a piece spells. Characters outside the alphabet
/// (pieces that were added to the vocabulary as plain text) stand for themselves.
pub(super) fn append_bytes(piece: &str, bytes: &mut Vec<u8>) {
    for c in piece.chars() {
        match byte(c) {
            Some(byte) => bytes.push(byte),
            None => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// The inverse of [`alphabet`].
fn byte(c: char) -> Option<u8> {
    let code = u32::from(c);
    let byte = match code {
        0x21..=0x7e | 0xa1..=0xac | 0xae..=0xff => code,
        0x100..=0x120 => code - 0x100,
        0x121..=0x142 => code - 0x121 + 0x7f,
        0x143 => 0xad,
        _ => return None,
    };
    u8::try_from(byte).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_alphabet_and_its_inverse_agree() {
        for (expected, c) in alphabet().into_iter().enumerate() {
            assert_eq!(byte(c).map(usize::from), Some(expected), "{c:?}");
        }
        assert_eq!(alphabet()[usize::from(b' ')], 'Ġ');
        assert_eq!(alphabet()[usize::from(b'\n')], 'Ċ');
        assert_eq!(byte(' '), None);
        assert_eq!(byte('\u{144}'), None);
    }
}
