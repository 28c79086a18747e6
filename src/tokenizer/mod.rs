//! Text to tokens and back, from the metadata of a GGUF file alone.
//!
//! | `tokenizer.ggml.model` | algorithm | file |
//! |---|---|---|
//! | "llama" | SentencePiece BPE | `spm.rs` |
//! | "gpt2" | byte-level BPE | `bpe.rs` |
//! | "gemma4" | BPE over characters | `text_bpe.rs` |
//! | "bert" | WordPiece | `wordpiece.rs` |
//! | "t5" | SentencePiece unigram | `unigram.rs` |
//!
//! All find user-defined tokens first, and control tokens only where the caller asks: what
//! a user writes stays text.

mod algorithm;
mod bpe;
mod charsmap;
mod class;
mod ends;
mod merge;
mod pre;
mod prompt;
mod rule;
mod special;
mod spm;
mod stream;
mod text_bpe;
mod unigram;
mod unknown;
mod vocab;
mod wordpiece;

use crate::error::{Result, Warning};
use crate::gguf::Metadata;

use algorithm::Algorithm;
pub use prompt::Prompt;
use special::{Fragment, Specials};
pub use stream::DecodeStream;
use vocab::{Kind, Vocab};

/// In a prompt for [`Tokenizer::encode_chat`]: no special token is found
/// across it, and it is not itself text. A noncharacter, so no text needs it.
pub(crate) const PLAIN_TEXT_MARK: char = '\u{FDD0}';

/// A vocabulary with the algorithm that goes with it. Immutable: share it.
pub struct Tokenizer {
    vocab: Vocab,
    specials: Specials,
    algorithm: Algorithm,
    warnings: Vec<Warning>,
}

/// How [`Tokenizer::encode`] treats what is not plain text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct EncodeOptions {
    /// Put the begin-of-sequence token in front, where the vocabulary asks for it and the
    /// text does not begin with it. Default: true.
    pub bos: bool,
    /// Put the end-of-sequence token behind, where the vocabulary asks for it: for texts
    /// that become vectors, never for one that is to be continued. Default: false.
    pub eos: bool,
    /// Turn the texts of control tokens into these tokens. Never for text
    /// that a user wrote. Default: false.
    pub special: bool,
}

impl EncodeOptions {
    setters! {
        with_bos(bos: bool);
        with_eos(eos: bool);
        with_special(special: bool);
    }
}

impl Default for EncodeOptions {
    fn default() -> Self {
        EncodeOptions { bos: true, eos: false, special: false }
    }
}

impl Tokenizer {
    /// Reads the `tokenizer.ggml.*` keys. Fails if they are missing, damaged,
    /// contradict each other, or name an algorithm that is not supported.
    pub fn from_gguf(metadata: &Metadata) -> Result<Self> {
        let mut warnings = Vec::new();
        let (vocab, algorithm) = Algorithm::parse(metadata, &mut warnings)?;
        unknown::warn(metadata, algorithm.reads(), &mut warnings);
        Ok(Tokenizer { specials: Specials::new(&vocab, metadata)?, vocab, algorithm, warnings })
    }

    /// What is odd about the keys, and what was assumed.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The tokens of `text`.
    ///
    /// SentencePiece vocabularies put a space in front of the text, and in
    /// front of what follows a special token. What the vocabulary cannot spell
    /// becomes its unknown token, or nothing where it has none.
    pub fn encode(&self, text: &str, options: EncodeOptions) -> Vec<u32> {
        let fragments = self.specials.split(&self.vocab, text, options.special);
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        if options.bos {
            ids.extend(self.bos_before(&fragments));
        }
        self.encode_fragments(&fragments, true, &mut ids);
        if options.eos && self.adds_eos() && ids.last().copied() != self.eos() {
            ids.extend(self.eos());
        }
        ids
    }

    /// The tokens of plain text that goes on behind the tokens `before`: what starts a
    /// sequence (the begin-of-sequence token, SentencePiece's space) is added only where
    /// there are none. Behind a control token the space is added as in
    /// [`encode`](Self::encode).
    pub fn encode_after(&self, before: &[u32], text: &str) -> Vec<u32> {
        let Some(&last) = before.last() else { return self.encode(text, EncodeOptions::default()) };
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        let fragments = self.specials.split(&self.vocab, text, false);
        self.encode_fragments(&fragments, self.is_control(last), &mut ids);
        ids
    }

    /// The tokens of plain text in the middle of another.
    #[cfg(feature = "constrain")]
    pub(crate) fn encode_within(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 1);
        let fragments = self.specials.split(&self.vocab, text, false);
        self.encode_fragments(&fragments, false, &mut ids);
        ids
    }

    /// The begin-of-sequence token, unless the text brings it.
    fn bos_before(&self, fragments: &[Fragment<'_>]) -> Option<u32> {
        let bos = self.bos().filter(|_| self.adds_bos())?;
        (fragments.first() != Some(&Fragment::Token(bos))).then_some(bos)
    }

    /// `prefix`: whether a text at the start begins a sequence.
    fn encode_fragments(&self, fragments: &[Fragment<'_>], mut prefix: bool, ids: &mut Vec<u32>) {
        for &fragment in fragments {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(text) => self.encode_plain(text, prefix, ids),
            }
            prefix = matches!(fragment, Fragment::Token(_));
        }
    }

    fn encode_plain(&self, text: &str, prefix: bool, ids: &mut Vec<u32>) {
        self.algorithm.encode(&self.vocab, text, prefix, ids);
    }

    /// The tokens of two texts that a classifier reads together, each without control
    /// tokens: `[CLS] first [SEP] second [SEP]` of BERT, `<s> first </s></s> second </s>` of
    /// XLM-RoBERTa, as the vocabulary encloses texts. Also where the second text begins.
    pub fn encode_pair(&self, first: &str, second: &str) -> (Vec<u32>, usize) {
        let mut ids = Vec::with_capacity((first.len() + second.len()) / 4 + 4);
        let end = self.eos().or(self.sep());
        ids.extend(self.bos().filter(|_| self.adds_bos()));
        self.encode_into(first, &mut ids);
        ids.extend(end);
        ids.extend(self.sep().filter(|_| self.vocab.add_sep));
        let start = ids.len();
        self.encode_into(second, &mut ids);
        ids.extend(end);
        (ids, start)
    }

    /// Appends the tokens of plain text that begins a sequence.
    fn encode_into(&self, text: &str, ids: &mut Vec<u32>) {
        let fragments = self.specials.split(&self.vocab, text, false);
        self.encode_fragments(&fragments, true, ids);
    }

    /// The tokens of a rendered chat template: the texts of control tokens
    /// become these tokens, and the begin-of-sequence token is put in front
    /// unless the prompt brings it.
    ///
    /// No control token is found across the marks of plain text, and they are not
    /// encoded themselves.
    ///
    /// Spaces in SentencePiece vocabularies: the tokenizers of those models
    /// encode every message apart, with the space that comes in front of any
    /// text. A template can only write that space into the prompt, so
    /// - text that begins with a space gets no second one;
    /// - a template that writes a space between the begin-of-sequence token
    ///   and the first control token writes one in front of all of them, and
    ///   that space is layout: it is left out.
    pub fn encode_chat(&self, prompt: &Prompt) -> Vec<u32> {
        let prompt = prompt.marked();
        let fragments = self.specials.split(&self.vocab, prompt, true);
        let mut ids = Vec::with_capacity(prompt.len() / 4 + 2);
        ids.extend(self.bos_before(&fragments));
        let padded = self.adds_space_prefix() && self.pads_control_tokens(&fragments);
        let mut next = fragments.iter().skip(1);
        for &fragment in &fragments {
            let before_control =
                matches!(next.next(), Some(&Fragment::Token(id)) if self.is_control(id));
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(text) => {
                    let layout = if padded && before_control { " " } else { "" };
                    self.encode_chat_text(text.strip_suffix(layout).unwrap_or(text), &mut ids);
                }
            }
        }
        ids
    }

    /// Whether the prompt starts with the begin-of-sequence token, a single
    /// space, and a control token.
    fn pads_control_tokens(&self, fragments: &[Fragment<'_>]) -> bool {
        let [Fragment::Token(first), Fragment::Text(" "), Fragment::Token(second), ..] = fragments
        else {
            return false;
        };
        Some(*first) == self.vocab.bos && self.is_control(*second)
    }

    /// The text between two special tokens of a prompt.
    fn encode_chat_text(&self, text: &str, ids: &mut Vec<u32>) {
        // Without its marks the text may spell a user-defined token.
        let text = text.replace(PLAIN_TEXT_MARK, "");
        let mut prefix = true;
        for fragment in self.specials.split(&self.vocab, &text, false) {
            match fragment {
                Fragment::Token(id) => ids.push(id),
                Fragment::Text(text) => {
                    self.encode_plain(text, prefix && !text.starts_with(' '), ids)
                }
            }
            prefix = matches!(fragment, Fragment::Token(_));
        }
    }

    /// The text of `ids`. Control tokens are no text, bytes that are not UTF-8
    /// become U+FFFD, and the space that [`encode`](Self::encode) puts in front
    /// of a text is removed.
    pub fn decode(&self, ids: &[u32]) -> String {
        self.decode_with(DecodeStream::new(), ids)
    }

    /// As [`decode`](Self::decode), with control tokens rendered as their text.
    pub fn decode_with_special(&self, ids: &[u32]) -> String {
        self.decode_with(DecodeStream::new().with_special(), ids)
    }

    fn decode_with(&self, mut stream: DecodeStream, ids: &[u32]) -> String {
        let mut text = String::with_capacity(4 * ids.len());
        for &id in ids {
            stream.push_to(self, id, &mut text);
        }
        text.push_str(&stream.finish());
        text
    }

    /// The start of a decode that takes tokens one by one.
    pub fn decode_stream(&self) -> DecodeStream {
        DecodeStream::new()
    }

    /// The bytes that a token adds to a text: none for control tokens, and
    /// possibly not a whole character.
    pub fn token_bytes(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_bytes(id, false, &mut bytes);
        bytes
    }

    /// As [`token_bytes`](Self::token_bytes), with control tokens as their text.
    pub fn token_bytes_with_special(&self, id: u32) -> Vec<u8> {
        let mut bytes = Vec::new();
        self.append_bytes(id, true, &mut bytes);
        bytes
    }

    fn append_bytes(&self, id: u32, special: bool, bytes: &mut Vec<u8>) {
        let (Some(piece), Some(kind)) = (self.piece(id), self.vocab.kind(id)) else { return };
        match kind {
            Kind::Control | Kind::Unknown if !special => {}
            Kind::Control | Kind::Unknown | Kind::UserDefined => {
                bytes.extend_from_slice(piece.as_bytes());
            }
            _ => self.algorithm.append_bytes(piece, kind, bytes),
        }
    }

    /// The vocabulary's text of a token, in the vocabulary's own spelling.
    pub fn piece(&self, id: u32) -> Option<&str> {
        self.vocab.piece(id)
    }

    /// The token with this text in the vocabulary's own spelling; the lowest
    /// id if several have it.
    pub fn id(&self, piece: &str) -> Option<u32> {
        self.vocab.id(piece)
    }

    /// Number of tokens: ids are below it.
    pub fn n_vocab(&self) -> usize {
        self.vocab.len()
    }

    /// The begin-of-sequence token.
    pub fn bos(&self) -> Option<u32> {
        self.vocab.bos
    }

    /// The end-of-sequence token.
    pub fn eos(&self) -> Option<u32> {
        self.vocab.ends.eos
    }

    /// The token that ends a turn of a chat, where it is not the end-of-sequence token.
    pub fn eot(&self) -> Option<u32> {
        self.vocab.ends.eot
    }

    /// The token that ends a message which waits for a tool's answer.
    pub fn eom(&self) -> Option<u32> {
        self.vocab.ends.eom
    }

    /// The token between two texts that are read together.
    pub fn sep(&self) -> Option<u32> {
        self.vocab.sep
    }

    /// The token that fills up what is too short. Nothing here needs it.
    pub fn pad(&self) -> Option<u32> {
        self.vocab.pad
    }

    /// The token for what the vocabulary cannot spell.
    pub fn unknown(&self) -> Option<u32> {
        self.vocab.unknown
    }

    /// Whether a model that emits this token has finished its answer.
    pub fn is_end_of_generation(&self, id: u32) -> bool {
        self.vocab.is_end(id)
    }

    /// The tokens that the file never wants generated.
    pub fn suppressed(&self) -> &[u32] {
        &self.vocab.suppressed
    }

    /// Whether the token is structure, not text; the unknown token counts.
    pub fn is_control(&self, id: u32) -> bool {
        matches!(self.vocab.kind(id), Some(Kind::Control | Kind::Unknown))
    }

    /// Whether the token stands for a single byte.
    #[cfg(feature = "constrain")]
    pub(crate) fn is_byte(&self, id: u32) -> bool {
        self.vocab.kind(id) == Some(Kind::Byte)
    }

    /// The texts that [`encode_chat`](Self::encode_chat) turns into control
    /// tokens: what must not be found in a user's words.
    pub fn control_pieces(&self) -> impl Iterator<Item = &str> {
        self.vocab
            .iter()
            .filter(|(_, piece, kind)| {
                matches!(kind, Kind::Control | Kind::Unknown) && !piece.is_empty()
            })
            .map(|(_, piece, _)| piece)
    }

    /// Whether the begin-of-sequence token goes in front of a text.
    pub fn adds_bos(&self) -> bool {
        self.vocab.add_bos && self.vocab.bos.is_some()
    }

    /// Whether the end-of-sequence token goes behind a text that becomes a vector.
    pub fn adds_eos(&self) -> bool {
        self.vocab.add_eos && self.eos().is_some()
    }

    /// Whether a space goes in front of a text.
    pub(crate) fn adds_space_prefix(&self) -> bool {
        self.algorithm.adds_space_prefix()
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("model", &self.algorithm.name())
            .field("n_vocab", &self.n_vocab())
            .finish_non_exhaustive()
    }
}
