//! Turns tokens into text as they come, never half a character.

use super::Tokenizer;

/// The state of a decode: push ids one by one, get the text that is complete.
///
/// At most three bytes, the start of a character, are held back. Bytes that
/// cannot become a character come out as U+FFFD. The pieces together are what
/// [`Tokenizer::decode`] gives for all ids at once.
#[derive(Debug, Clone, Default)]
pub struct DecodeStream {
    /// The start of a character.
    held: Vec<u8>,
    /// Whether a leading space is text: something came before.
    started: bool,
    special: bool,
    /// Control tokens that are rendered though the others are not.
    visible: Vec<u32>,
}

impl DecodeStream {
    /// At the start of a text: the space that SentencePiece puts in front of
    /// it is removed.
    pub fn new() -> Self {
        DecodeStream::default()
    }

    /// In the middle of a text, after a prompt that is to be continued: a
    /// leading space belongs to the text.
    pub fn continuing() -> Self {
        DecodeStream { started: true, ..DecodeStream::default() }
    }

    /// The same, with control tokens rendered as their text.
    pub fn with_special(self) -> Self {
        DecodeStream { special: true, ..self }
    }

    /// The same, with these control tokens rendered as their text.
    pub fn with_visible(self, tokens: &[u32]) -> Self {
        DecodeStream { visible: tokens.to_vec(), ..self }
    }

    /// Whether a control token is rendered as its text.
    pub(crate) fn shows(&self, id: u32) -> bool {
        self.special || self.visible.contains(&id)
    }

    /// Whether a space at this place is no part of the text.
    pub(crate) fn drops_blank(&self, tokenizer: &Tokenizer) -> bool {
        !self.started && tokenizer.adds_space_prefix()
    }

    /// Takes the next token; gives the text that is complete with it, which
    /// may be empty. An id outside the vocabulary is no text.
    pub fn push(&mut self, tokenizer: &Tokenizer, id: u32) -> String {
        let mut text = String::new();
        self.push_to(tokenizer, id, &mut text);
        text
    }

    /// As [`push`](Self::push), appending to `text`.
    pub(super) fn push_to(&mut self, tokenizer: &Tokenizer, id: u32, text: &mut String) {
        let before = self.held.len();
        tokenizer.append_bytes(id, self.shows(id), &mut self.held);
        // A token that is no text leaves the space behind it leading.
        if !self.started && self.held.len() > before {
            self.started = true;
            if tokenizer.adds_space_prefix() && self.held[before] == b' ' {
                self.held.remove(before);
            }
        }
        self.take_complete(text);
    }

    /// Ends the text: a character that never became complete is one U+FFFD.
    pub fn finish(&mut self) -> String {
        let rest = String::from_utf8_lossy(&self.held).into_owned();
        let (special, visible) = (self.special, std::mem::take(&mut self.visible));
        *self = DecodeStream { special, visible, ..DecodeStream::default() };
        rest
    }

    /// Moves everything but the start of a last, incomplete character.
    fn take_complete(&mut self, text: &mut String) {
        let mut complete = 0;
        for chunk in self.held.utf8_chunks() {
            text.push_str(chunk.valid());
            complete += chunk.valid().len();
            let invalid = chunk.invalid();
            let is_last = complete + invalid.len() == self.held.len();
            let held_back = is_last && is_incomplete(invalid);
            if !(invalid.is_empty() || held_back) {
                text.push(char::REPLACEMENT_CHARACTER);
                complete += invalid.len();
            }
        }
        self.held.drain(..complete);
    }
}

/// Whether more bytes could make `bytes` a character.
fn is_incomplete(bytes: &[u8]) -> bool {
    matches!(std::str::from_utf8(bytes), Err(problem) if problem.error_len().is_none())
}
