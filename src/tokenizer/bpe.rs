//! Byte-level BPE, the tokenizer of GPT-2, Llama 3 and Qwen: words are spelled
//! in an alphabet of 256 printable characters, one per byte, and neighbours
//! are merged in the order of the vocabulary's list.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::error::{Bounded, Error, Result, Warning};
use crate::gguf::Metadata;

use super::merge::{Join, Merger, Symbol};
use super::pre::Family;
use super::vocab::Vocab;

const MERGES: &str = "tokenizer.ggml.merges";

pub(super) struct Bpe {
    family: &'static Family,
    /// What each byte is spelled as, and the token of that.
    alphabet: [(char, Option<u32>); 256],
    /// By left and right token.
    merges: HashMap<(u32, u32), Join, RandomState>,
}

impl Bpe {
    pub fn parse(
        metadata: &Metadata,
        vocab: &Vocab,
        family: &'static Family,
        warnings: &mut Vec<Warning>,
    ) -> Result<Self> {
        let token = |c: char| (c, text_id(vocab, c.encode_utf8(&mut [0; 4])));
        Ok(Bpe {
            family,
            alphabet: alphabet().map(token),
            merges: merges(metadata, vocab, warnings)?,
        })
    }

    /// Appends the ids of `text`. Bytes that the vocabulary lacks are left out.
    pub fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let mut merger = Merger::default();
        let mut spelled = String::new();
        self.family.words(text, &mut |word| {
            if self.family.ignore_merges {
                spelled.clear();
                spelled.extend(word.bytes().map(|byte| self.alphabet[usize::from(byte)].0));
                if let Some(id) = text_id(vocab, &spelled) {
                    ids.push(id);
                    return;
                }
            }
            self.merge(word, &mut merger, ids);
        });
    }

    fn merge(&self, word: &str, merger: &mut Merger, ids: &mut Vec<u32>) {
        merger.clear();
        for (start, byte) in word.bytes().enumerate() {
            if let (_, Some(id)) = self.alphabet[usize::from(byte)] {
                merger.push(start, 1, Some(id));
            }
        }
        let join = |a: &Symbol, b: &Symbol| self.merges.get(&(a.id?, b.id?)).copied();
        ids.extend(merger.run(join).filter_map(|symbol| symbol.id));
    }
}

/// The id of `piece` if it is not a control token: no text may turn into one.
pub(super) fn text_id(vocab: &Vocab, piece: &str) -> Option<u32> {
    vocab.id(piece).filter(|&id| vocab.is_text(id))
}

/// The merges, ranked by their place in the list. Each must be two pieces
/// whose joined text is a piece.
pub(super) fn merges(
    metadata: &Metadata,
    vocab: &Vocab,
    warnings: &mut Vec<Warning>,
) -> Result<HashMap<(u32, u32), Join, RandomState>> {
    let Some(lines) = metadata.opt_strings(MERGES)? else {
        warnings.push(Warning::key(MERGES, "is missing; text is spelled byte by byte"));
        return Ok(HashMap::default());
    };
    if u32::try_from(lines.len()).is_err() {
        return Err(Error::Limit {
            what: Bounded::File("merges of the vocabulary"),
            needed: lines.len() as u64,
            allowed: u32::MAX.into(),
        });
    }
    let mut merges = HashMap::with_capacity_and_hasher(lines.len(), RandomState::default());
    let mut joined = String::new();
    for (rank, line) in (0..).zip(lines.iter()) {
        let problem = |what: &str| Error::key(MERGES, format!("merge {rank} {what}"));
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
        let Some(id) = vocab.id(&joined) else {
            return Err(problem("joins into text that is not in the vocabulary"));
        };
        // The first of equal merges counts, and none may make a control token.
        if [a, b, id].into_iter().all(|id| vocab.is_text(id)) {
            merges.entry((a, b)).or_insert(Join { rank, id });
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
    use std::ops::Range;

    use proptest::prelude::*;

    use super::super::vocab::Unsaid;
    use super::*;
    use crate::gguf::{Array, Value};

    /// The rule, word for word.
    fn naive(merges: &[(String, String)], text: &str) -> Vec<String> {
        let mut symbols: Vec<String> = text.chars().map(String::from).collect();
        let rank =
            |pair: &[String]| merges.iter().position(|(a, b)| *a == pair[0] && *b == pair[1]);
        loop {
            let pairs = symbols.windows(2).enumerate();
            let best = pairs.filter_map(|(at, pair)| Some((rank(pair)?, at))).min();
            let Some((_, at)) = best else { return symbols };
            let right = symbols.remove(at + 1);
            symbols[at] += &right;
        }
    }

    fn strings(all: &[String]) -> Value {
        Value::Array(Array::String(all.iter().map(String::as_str).collect()))
    }

    fn parts(of: &'static [&str], count: Range<usize>) -> impl Strategy<Value = String> {
        prop::collection::vec(prop::sample::select(of), count).prop_map(|parts| parts.concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn the_heap_merges_like_the_rule(
            merges in proptest::collection::vec((parts(&["a", "b", "c"], 1..4), parts(&["a", "b", "c"], 1..4)), 0..30),
            text in prop_oneof![parts(&["a", "b", "c"], 0..51), parts(&["a"], 0..41), parts(&["ab"], 0..21)],
        ) {
            let mut pieces: Vec<String> = ["a", "b", "c"].map(String::from).into();
            for (a, b) in &merges {
                pieces.extend([a.clone(), b.clone(), format!("{a}{b}")]);
            }
            let lines: Vec<String> = merges.iter().map(|(a, b)| format!("{a} {b}")).collect();
            let mut metadata = Metadata::new();
            metadata.set("tokenizer.ggml.tokens", strings(&pieces)).unwrap();
            metadata.set("tokenizer.ggml.pre", Value::String("gpt-2".into())).unwrap();
            metadata.set(MERGES, strings(&lines)).unwrap();
            let none = &mut Vec::new();
            let vocab = Vocab::parse(&metadata, Unsaid::NOTHING, none).unwrap();
            let family = Family::of(&metadata, none).unwrap();
            let bpe = Bpe::parse(&metadata, &vocab, family, none).unwrap();
            let mut ids = Vec::new();
            bpe.encode(&vocab, &text, &mut ids);
            let found: Vec<&str> = ids.iter().filter_map(|&id| vocab.piece(id)).collect();
            prop_assert_eq!(found, naive(&merges, &text));
        }
    }

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
