//! Which algorithm a file names, and what differs between them.

use crate::error::{Error, Place, Result, Warning};
use crate::gguf::Metadata;

use super::bpe::{self, Bpe};
use super::pre::Family;
use super::spm::{SPACE, Spm};
use super::text_bpe::TextBpe;
use super::unigram::Unigram;
use super::vocab::{Kind, Unsaid, Vocab, byte_of};
use super::wordpiece::WordPiece;

const MODEL: &str = "tokenizer.ggml.model";

#[allow(clippy::large_enum_variant, reason = "there is one per model")]
pub(super) enum Algorithm {
    Spm(Spm),
    Bpe(Bpe),
    TextBpe(TextBpe),
    WordPiece(WordPiece),
    Unigram(Unigram),
}

impl Algorithm {
    /// The vocabulary, and the algorithm that goes with it.
    pub fn parse(metadata: &Metadata, warnings: &mut Vec<Warning>) -> Result<(Vocab, Self)> {
        let pre = metadata.opt_str("tokenizer.ggml.pre").ok().flatten();
        Ok(match (metadata.str(MODEL)?, pre) {
            // Files of Ollama's library name "llama", with merges.
            ("gemma4", _) | ("llama", Some("gemma4")) => {
                let vocab = Vocab::parse(metadata, Unsaid::SENTENCEPIECE, warnings)?;
                let bpe = TextBpe::parse(metadata, &vocab, warnings)?;
                (vocab, Algorithm::TextBpe(bpe))
            }
            ("llama", _) => {
                let vocab = Vocab::parse(metadata, Unsaid::SENTENCEPIECE, warnings)?;
                let spm = Spm::parse(metadata, &vocab, warnings)?;
                (vocab, Algorithm::Spm(spm))
            }
            ("gpt2", _) => {
                let family = Family::of(metadata, warnings)?;
                let unsaid = Unsaid { add_bos: family.add_bos, ..Unsaid::NOTHING };
                let vocab = Vocab::parse(metadata, unsaid, warnings)?;
                let bpe = Bpe::parse(metadata, &vocab, family, warnings)?;
                (vocab, Algorithm::Bpe(bpe))
            }
            ("bert", _) => {
                let mut vocab = Vocab::parse(metadata, Unsaid::BERT, warnings)?;
                // Whatever the file says: every text of BERT is enclosed.
                (vocab.add_bos, vocab.add_eos) = (true, true);
                let wordpiece = WordPiece::parse(metadata, &vocab)?;
                (vocab, Algorithm::WordPiece(wordpiece))
            }
            ("t5", _) => {
                let vocab = Vocab::parse(metadata, Unsaid::UNIGRAM, warnings)?;
                let unigram = Unigram::parse(metadata, &vocab, warnings)?;
                (vocab, Algorithm::Unigram(unigram))
            }
            (other, _) => {
                let name: String = other.chars().take(80).collect();
                let problem = format!(
                    "is {name:?}; supported are \"llama\" (SentencePiece BPE), \"gpt2\" \
                     (byte-level BPE), \"gemma4\" (BPE), \"bert\" (WordPiece) and \"t5\" \
                     (SentencePiece unigram)"
                );
                return Err(Error::unsupported(Place::Key(MODEL.to_owned()), problem));
            }
        })
    }

    /// The name in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Algorithm::Spm(_) => "llama",
            Algorithm::Bpe(_) => "gpt2",
            Algorithm::TextBpe(_) => "gemma4",
            Algorithm::WordPiece(_) => "bert",
            Algorithm::Unigram(_) => "t5",
        }
    }

    /// Appends the ids of plain text. `prefix`: whether it begins a sequence.
    pub fn encode(&self, vocab: &Vocab, text: &str, prefix: bool, ids: &mut Vec<u32>) {
        let prefix = prefix && self.adds_space_prefix();
        match self {
            Algorithm::Spm(spm) => spm.encode(vocab, text, prefix, ids),
            Algorithm::Bpe(bpe) => bpe.encode(vocab, text, ids),
            Algorithm::TextBpe(bpe) => bpe.encode(vocab, text, ids),
            Algorithm::WordPiece(wordpiece) => wordpiece.encode(vocab, text, ids),
            Algorithm::Unigram(unigram) => unigram.encode(vocab, text, prefix, ids),
        }
    }

    /// Appends the bytes that a piece of text spells.
    pub fn append_bytes(&self, piece: &str, kind: Kind, bytes: &mut Vec<u8>) {
        if let Algorithm::Bpe(_) = self {
            bpe::append_bytes(piece, bytes);
        } else if kind == Kind::Byte {
            bytes.extend(byte_of(piece));
        } else {
            for part in piece.split_inclusive(SPACE) {
                match part.strip_suffix(SPACE) {
                    Some(text) => bytes.extend(text.bytes().chain([b' '])),
                    None => bytes.extend_from_slice(part.as_bytes()),
                }
            }
        }
    }

    /// Whether pieces spell a text with a space in front.
    pub fn adds_space_prefix(&self) -> bool {
        match self {
            Algorithm::Spm(spm) => spm.add_space_prefix,
            Algorithm::Unigram(unigram) => unigram.add_space_prefix,
            Algorithm::WordPiece(_) => true,
            Algorithm::Bpe(_) | Algorithm::TextBpe(_) => false,
        }
    }

    /// The keys `tokenizer.ggml.*` that it reads and that other algorithms do not.
    pub fn reads(&self) -> &'static [&'static str] {
        match self {
            Algorithm::WordPiece(_) => &["normalizer.lowercase", "normalizer.strip_accents"],
            Algorithm::Unigram(_) => &["remove_extra_whitespaces", "precompiled_charsmap"],
            Algorithm::Spm(_) | Algorithm::Bpe(_) | Algorithm::TextBpe(_) => &[],
        }
    }
}
