//! The `tokenizer.ggml.*` keys: parsed, checked against each other, indexed.
//!
//! Nothing here trusts the file: every id that is kept is inside the
//! vocabulary, and every array has one element per token.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::error::{Bounded, Error, Place, Result, Warning};
use crate::gguf::{Metadata, Strings};

use super::ends::{self, Ends};

const TOKENS: &str = "tokenizer.ggml.tokens";
const TOKEN_TYPES: &str = "tokenizer.ggml.token_type";

/// Longest piece that is accepted. The longest of real vocabularies are runs
/// of some hundred spaces or dashes.
const MAX_PIECE_BYTES: usize = 1 << 16;

/// What a token is for: GGUF's token types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Normal,
    /// Stands for what the vocabulary cannot spell.
    Unknown,
    /// Structure, not text: never made from plain text.
    Control,
    /// Text that is matched before anything else.
    UserDefined,
    Unused,
    /// One byte, `<0x0A>`.
    Byte,
}

/// The checked vocabulary, whatever the algorithm.
pub(super) struct Vocab {
    pieces: Strings,
    kinds: Vec<Kind>,
    /// The first id of each piece; the empty piece is not in it.
    ids: HashMap<Box<str>, u32, RandomState>,
    pub bos: Option<u32>,
    pub unknown: Option<u32>,
    pub sep: Option<u32>,
    pub pad: Option<u32>,
    pub ends: Ends,
    /// Tokens that the file never wants generated.
    pub suppressed: Vec<u32>,
    pub add_bos: bool,
    pub add_eos: bool,
    /// Whether the separator comes between two texts, beside the end of the first.
    pub add_sep: bool,
}

/// What files of a kind of vocabulary leave unsaid.
#[derive(Debug, Clone, Copy)]
pub(super) struct Unsaid {
    /// Whether texts alone tell which tokens are control tokens and bytes.
    pub sentencepiece: bool,
    /// The texts of the standard tokens; empty: there are none.
    pub bos: &'static str,
    pub eos: &'static str,
    pub unknown: &'static str,
    /// What missing `add_bos_token`, `add_eos_token` and `add_sep_token` mean.
    pub add_bos: bool,
    pub add_eos: bool,
    pub add_sep: bool,
}

impl Unsaid {
    pub const NOTHING: Unsaid = Unsaid {
        sentencepiece: false,
        bos: "",
        eos: "",
        unknown: "",
        add_bos: false,
        add_eos: false,
        add_sep: false,
    };
    pub const SENTENCEPIECE: Unsaid = Unsaid {
        sentencepiece: true,
        bos: "<s>",
        eos: "</s>",
        unknown: "<unk>",
        add_bos: true,
        ..Unsaid::NOTHING
    };
    pub const UNIGRAM: Unsaid =
        Unsaid { add_bos: false, add_eos: true, add_sep: true, ..Unsaid::SENTENCEPIECE };
    pub const BERT: Unsaid = Unsaid {
        bos: "[CLS]",
        eos: "[SEP]",
        unknown: "[UNK]",
        add_bos: true,
        add_eos: true,
        ..Unsaid::NOTHING
    };
}

impl Vocab {
    /// Reads and checks the keys.
    pub fn parse(metadata: &Metadata, unsaid: Unsaid, warnings: &mut Vec<Warning>) -> Result<Self> {
        let pieces = metadata.strings(TOKENS)?.clone();
        check_pieces(&pieces)?;
        let mut kinds = kinds(metadata, &pieces, unsaid.sentencepiece)?;
        let mut ids = HashMap::with_capacity_and_hasher(pieces.len(), RandomState::default());
        for (id, piece) in (0u32..).zip(pieces.iter()) {
            if !piece.is_empty() {
                ids.entry(Box::from(piece)).or_insert(id);
            }
        }
        for id in ends::texts(|text| ids.get(text).copied()) {
            kinds[id as usize] = Kind::Control;
        }
        let flag = |name: &str| metadata.opt_bool(&format!("tokenizer.ggml.{name}"));
        let mut vocab = Vocab {
            pieces,
            kinds,
            ids,
            bos: None,
            unknown: None,
            sep: None,
            pad: None,
            ends: Ends::default(),
            suppressed: Vec::new(),
            add_bos: flag("add_bos_token")?.unwrap_or(unsaid.add_bos),
            add_eos: flag("add_eos_token")?.unwrap_or(unsaid.add_eos),
            add_sep: flag("add_sep_token")?.unwrap_or(unsaid.add_sep),
        };
        vocab.find_specials(metadata, unsaid, warnings);
        Ok(vocab)
    }

    /// Fills in the special ids and what ends an answer.
    fn find_specials(&mut self, metadata: &Metadata, unsaid: Unsaid, warnings: &mut Vec<Warning>) {
        // Files may leave the standard tokens of their kind unnamed.
        let standard = |text: &str| self.id(text).filter(|&id| !self.is_text(id));
        let mut named =
            |name: &str| self.named(metadata, &format!("tokenizer.ggml.{name}"), warnings);
        let mut first =
            |names: &[&str]| names.iter().find_map(|&name| named(name).first().copied());
        let bos = first(&["bos_token_id", "cls_token_id"]).or(standard(unsaid.bos));
        let unknown = first(&["unknown_token_id"]).or(standard(unsaid.unknown));
        // The first is how converters spell it.
        let sep = first(&["seperator_token_id", "separator_token_id"]);
        let pad = first(&["padding_token_id"]);
        let suppressed = named("suppress_tokens");
        let ends = Ends::find(named, |text| self.id(text), sep.or(standard(unsaid.eos)));
        (self.bos, self.unknown, self.suppressed) = (bos, unknown, suppressed);
        (self.sep, self.pad, self.ends) = (sep, pad, ends);
    }

    /// The token ids at `key`, one or several. Writers say "none" with −1, which is the
    /// greatest number in unsigned types; what else is no token is left out with a warning.
    fn named(&self, metadata: &Metadata, key: &str, warnings: &mut Vec<Warning>) -> Vec<u32> {
        let all = match metadata.opt_integers(key) {
            Ok(all) => all.unwrap_or_default(),
            Err(error) => {
                let problem = format!("is ignored: {error}");
                warnings.push(Warning::key(key, problem));
                return Vec::new();
            }
        };
        let none = [-1, u32::MAX.into(), u64::MAX.into()];
        let mut ids = Vec::new();
        for id in all.into_iter().filter(|id| !none.contains(id)) {
            match u32::try_from(id) {
                Ok(id) if (id as usize) < self.len() => ids.push(id),
                _ => {
                    let count = self.len();
                    let problem = format!("names token {id} of {count}; it is ignored");
                    warnings.push(Warning::key(key, problem));
                }
            }
        }
        ids
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.kinds.len()
    }

    pub fn piece(&self, id: u32) -> Option<&str> {
        self.pieces.get(id as usize)
    }

    pub fn id(&self, piece: &str) -> Option<u32> {
        self.ids.get(piece).copied()
    }

    pub fn kind(&self, id: u32) -> Option<Kind> {
        self.kinds.get(id as usize).copied()
    }

    /// Whether plain text may contain the token: all but control tokens and
    /// the unknown token.
    pub fn is_text(&self, id: u32) -> bool {
        !matches!(self.kind(id), None | Some(Kind::Control | Kind::Unknown))
    }

    pub fn is_end(&self, id: u32) -> bool {
        self.ends.all.binary_search(&id).is_ok()
    }

    /// Every token in id order.
    pub fn iter(&self) -> impl Iterator<Item = (u32, &str, Kind)> {
        (0u32..)
            .zip(self.pieces.iter())
            .zip(&self.kinds)
            .map(|((id, text), &kind)| (id, text, kind))
    }
}

fn check_pieces(pieces: &Strings) -> Result<()> {
    if pieces.is_empty() {
        return Err(Error::key(TOKENS, "is empty; a vocabulary needs at least one token"));
    }
    if u32::try_from(pieces.len()).is_err() {
        return Err(Error::Limit {
            what: Bounded::File("tokens in the vocabulary"),
            needed: pieces.len() as u64,
            allowed: u32::MAX.into(),
        });
    }
    match pieces.iter().map(str::len).max() {
        Some(longest) if longest > MAX_PIECE_BYTES => Err(Error::Limit {
            what: Bounded::File("bytes in one token of the vocabulary"),
            needed: longest as u64,
            allowed: MAX_PIECE_BYTES as u64,
        }),
        _ => Ok(()),
    }
}

/// The kind of each token: from the file, or from the texts where it has none.
fn kinds(metadata: &Metadata, pieces: &Strings, sentencepiece: bool) -> Result<Vec<Kind>> {
    let Some(types) = metadata.opt_i32s(TOKEN_TYPES)? else {
        return Ok(pieces
            .iter()
            .map(|piece| match piece {
                "<unk>" if sentencepiece => Kind::Unknown,
                "<s>" | "</s>" if sentencepiece => Kind::Control,
                _ if sentencepiece && byte_of(piece).is_some() => Kind::Byte,
                _ => Kind::Normal,
            })
            .collect());
    };
    check_length(TOKEN_TYPES, types.len(), pieces.len())?;
    let kind = |(id, (&number, piece)): (u32, (&i32, &str))| match number {
        0 | 1 => Ok(Kind::Normal),
        2 => Ok(Kind::Unknown),
        3 => Ok(Kind::Control),
        4 => Ok(Kind::UserDefined),
        5 => Ok(Kind::Unused),
        // A byte token that names no byte is ordinary text.
        6 if byte_of(piece).is_some() => Ok(Kind::Byte),
        6 => Ok(Kind::Normal),
        other => {
            let problem = format!("{TOKEN_TYPES} is {other}; the types are 0 to 6");
            Err(Error::file(Place::Token(id), problem))
        }
    };
    (0u32..).zip(types.iter().zip(pieces.iter())).map(kind).collect()
}

/// Fails unless the array at `key` has one element per token.
pub(super) fn check_length(key: &str, found: usize, tokens: usize) -> Result<()> {
    if found == tokens {
        return Ok(());
    }
    Err(Error::key(key, format!("has {found} elements, but there are {tokens} tokens")))
}

/// The byte that a piece of the exact form `<0x0A>` names.
pub(super) fn byte_of(piece: &str) -> Option<u8> {
    let digits = piece.strip_prefix("<0x")?.strip_suffix('>')?;
    // `from_str_radix` alone would take "+1".
    if digits.len() != 2 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return None;
    }
    u8::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn byte_pieces_are_exact() {
        assert_eq!(byte_of("<0x0A>"), Some(10));
        assert_eq!(byte_of("<0xff>"), Some(255));
        for text in
            ["<0x-1>", "<0x+1>", "<0xZZ>", "<0x100>", "<0xA>", "<0x>", "0x0A", "<0x0A> ", ""]
        {
            assert_eq!(byte_of(text), None, "{text:?}");
        }
    }
}
