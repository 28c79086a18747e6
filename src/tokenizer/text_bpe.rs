//! Byte pair encoding over characters, the tokenizer of Gemma 4: a list of merges as in
//! byte-level BPE, pieces as in SentencePiece.
//!
//! ```text
//! text ─► spaces written as ▁ ─► cut before and behind runs of line ends
//! each part: its characters, joined in the order of the list
//! a character without a token becomes the byte tokens of its UTF-8
//! ```

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::error::{Result, Warning};
use crate::gguf::Metadata;

use super::bpe::{self, text_id};
use super::merge::{Join, Merger, Symbol};
use super::spm::{ByteTokens, SPACE};
use super::vocab::Vocab;

pub(super) struct TextBpe {
    /// By left and right token.
    merges: HashMap<(u32, u32), Join, RandomState>,
    bytes: ByteTokens,
}

impl TextBpe {
    pub fn parse(metadata: &Metadata, vocab: &Vocab, warnings: &mut Vec<Warning>) -> Result<Self> {
        let merges = bpe::merges(metadata, vocab, warnings)?;
        Ok(TextBpe { merges, bytes: ByteTokens::of(vocab) })
    }

    /// Appends the ids of `text`.
    pub fn encode(&self, vocab: &Vocab, text: &str, ids: &mut Vec<u32>) {
        let spelled: String = text.chars().map(|c| if c == ' ' { SPACE } else { c }).collect();
        let mut merger = Merger::default();
        let is_end = |byte: u8| byte == b'\n';
        for part in spelled.as_bytes().chunk_by(|&a, &b| is_end(a) == is_end(b)) {
            // Cut beside ASCII characters, so these are texts.
            let Ok(part) = str::from_utf8(part) else { continue };
            merger.clear();
            for (start, c) in part.char_indices() {
                merger.push(start, c.len_utf8(), text_id(vocab, c.encode_utf8(&mut [0; 4])));
            }
            let join = |a: &Symbol, b: &Symbol| self.merges.get(&(a.id?, b.id?)).copied();
            for symbol in merger.run(join) {
                match symbol.id {
                    Some(id) => ids.push(id),
                    None => {
                        let text = &part[symbol.start..symbol.start + symbol.len];
                        self.bytes.spell(vocab, text, ids);
                    }
                }
            }
        }
    }
}
