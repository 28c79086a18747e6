//! What templates write, and how much they may.

/// Bytes of one rendering, and of one text within it.
pub const MAX_OUTPUT: usize = 4 << 20;
/// Steps of one rendering; 64 bytes that are written or compared, or 16 that are made, are
/// one.
const FUEL: u64 = 1_000_000;

/// What templates have written, and what they may still do.
#[derive(Debug)]
pub struct Output {
    /// The text so far.
    pub text: String,
    pub(super) fuel: u64,
}

impl Default for Output {
    fn default() -> Self {
        Output { text: String::new(), fuel: FUEL }
    }
}

/// A text that grows to 4 MiB at most.
pub struct Sink {
    text: String,
    full: bool,
}

impl Default for Sink {
    fn default() -> Self {
        // Room for what most make: growing is much of the work of a template in a loop.
        Sink { text: String::with_capacity(256), full: false }
    }
}

impl Sink {
    /// Appends a text.
    pub fn push(&mut self, text: &str) {
        if self.text.len() + text.len() > MAX_OUTPUT {
            self.full = true;
        } else {
            self.text.push_str(text);
        }
    }

    /// Appends a letter.
    pub fn letter(&mut self, letter: char) {
        self.push(letter.encode_utf8(&mut [0; 4]));
    }

    pub(super) fn repeat(&mut self, letter: char, times: usize) {
        if times > MAX_OUTPUT {
            self.full = true;
        } else {
            self.push(&letter.to_string().repeat(times));
        }
    }

    /// Whether there was more than it holds.
    pub fn is_full(&self) -> bool {
        self.full
    }

    /// Something did not fit.
    pub fn overflow(&mut self) {
        self.full = true;
    }

    /// The text; none if there was more.
    pub fn finish(self) -> Option<String> {
        (!self.full).then_some(self.text)
    }
}
