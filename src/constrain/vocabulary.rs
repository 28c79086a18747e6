//! Our vocabularies as the compiler sees them: the bytes of every token, and the tokens of
//! bytes.

use std::collections::HashMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use foldhash::fast::RandomState;
use llguidance::toktrie::{INVALID_TOKEN, TokRxInfo, TokTrie, TokenId, TokenizerEnv};

use crate::error::{Error, Place, Result};
use crate::tokenizer::Tokenizer;

/// What stands in front of a control token's text. No text has this byte.
const MARKER: u8 = TokTrie::SPECIAL_TOKEN_MARKER;

/// Bytes of all tokens at most: so many nodes has a tree of them.
const MAX_BYTES: usize = 4_000_000;

/// The longest token that is used; shorter ones where the tree would be too large.
const LONGEST: [usize; 4] = [1000, 256, 64, 16];

/// A vocabulary with a tree of its tokens.
pub(super) struct Vocabulary {
    tokenizer: Arc<Tokenizer>,
    trie: TokTrie,
}

impl Vocabulary {
    /// # Errors
    /// [`Error::Unsupported`] for a vocabulary that is too large.
    pub fn new(tokenizer: Arc<Tokenizer>) -> Result<Self> {
        let words = words(&tokenizer).ok_or_else(too_large)?;
        let size = u32::try_from(words.len()).map_err(|_| too_large())?;
        let ends: Vec<u32> = (0..size).filter(|&id| tokenizer.is_end_of_generation(id)).collect();
        let first = ends.first().copied().unwrap_or(INVALID_TOKEN);
        let build = || {
            let trie = TokTrie::from(&TokRxInfo::new(size, first), &words);
            if ends.is_empty() { trie } else { trie.with_eos_tokens(&ends) }
        };
        // It asserts limits of its own.
        let trie = catch_unwind(AssertUnwindSafe(build)).map_err(|_| too_large())?;
        Ok(Vocabulary { tokenizer, trie })
    }

    /// The tokens of plain text, if they spell it exactly.
    fn encode(&self, text: &str) -> Option<Vec<TokenId>> {
        let ids = self.tokenizer.encode_within(text);
        let spelled = ids.iter().flat_map(|&id| self.trie.token(id).iter().copied());
        spelled.eq(text.bytes()).then_some(ids)
    }
}

fn too_large() -> Error {
    Error::unsupported(Place::Constraint, "this model's vocabulary is too large for constraints")
}

/// The bytes of every token; none for those that no text is made of.
fn words(tokenizer: &Tokenizer) -> Option<Vec<Vec<u8>>> {
    let ids = 0..u32::try_from(tokenizer.n_vocab()).ok()?;
    let mut words: Vec<Vec<u8>> = ids.map(|id| word(tokenizer, id)).collect();
    keep_one_each(tokenizer, &mut words);
    let fits = |&longest: &usize| {
        let lengths = words.iter().map(Vec::len).filter(|&length| length <= longest);
        lengths.sum::<usize>() < MAX_BYTES
    };
    let longest = LONGEST.iter().copied().find(|longest| fits(longest))?;
    for word in words.iter_mut().filter(|word| word.len() > longest) {
        word.clear();
    }
    Some(words)
}

fn word(tokenizer: &Tokenizer, id: u32) -> Vec<u8> {
    if tokenizer.is_control(id) {
        let piece = tokenizer.piece(id).unwrap_or_default();
        let marker = (!piece.is_empty()).then_some(MARKER);
        return marker.into_iter().chain(piece.bytes()).collect();
    }
    let bytes = tokenizer.token_bytes(id);
    // The token of the byte 0xFF would count as the beginning of every control token.
    if bytes.contains(&MARKER) { Vec::new() } else { bytes }
}

/// Of tokens with the same bytes leaves the one that the tokenizer makes: pieces before single
/// bytes, lower ids before higher.
fn keep_one_each(tokenizer: &Tokenizer, words: &mut [Vec<u8>]) {
    let mut kept: HashMap<Vec<u8>, u32, RandomState> = HashMap::default();
    for (id, word) in (0u32..).zip(words.iter()) {
        if word.is_empty() {
            continue;
        }
        let kept = kept.entry(word.clone()).or_insert(id);
        if tokenizer.is_byte(*kept) && !tokenizer.is_byte(id) {
            *kept = id;
        }
    }
    for (id, word) in (0u32..).zip(words.iter_mut()) {
        if kept.get(word.as_slice()).is_some_and(|kept| *kept != id) {
            word.clear();
        }
    }
}

impl TokenizerEnv for Vocabulary {
    fn tok_trie(&self) -> &TokTrie {
        &self.trie
    }

    /// The tokens of bytes in the middle of a text.
    fn tokenize_bytes(&self, bytes: &[u8]) -> Vec<TokenId> {
        let mut ids = Vec::new();
        for chunk in bytes.utf8_chunks() {
            match self.encode(chunk.valid()) {
                Some(encoded) => ids.extend(encoded),
                None => ids.extend(self.trie.greedy_tokenize(chunk.valid().as_bytes())),
            }
            if !chunk.invalid().is_empty() {
                ids.extend(self.trie.greedy_tokenize(chunk.invalid()));
            }
        }
        ids
    }
}
