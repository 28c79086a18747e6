//! Breaks lines between words while a text comes in pieces.

/// Writes at most so many columns per line.
pub struct Wrap {
    width: usize,
    column: usize,
    /// A word that has begun: it moves to the next line if it grows too long.
    word: String,
}

impl Wrap {
    /// Lines of at most `width` columns; 0: no wrapping.
    pub fn new(width: usize) -> Self {
        Wrap { width, column: 0, word: String::new() }
    }

    /// What to write now of the next piece.
    pub fn push(&mut self, piece: &str) -> String {
        if self.width == 0 {
            return piece.to_owned();
        }
        let mut out = String::new();
        for c in piece.chars() {
            match c {
                '\n' => {
                    self.end_word(&mut out);
                    out.push('\n');
                    self.column = 0;
                }
                ' ' => {
                    self.end_word(&mut out);
                    if self.column < self.width {
                        out.push(' ');
                        self.column += 1;
                    }
                }
                c => self.word.push(c),
            }
        }
        // A word that alone fills a line is not held back.
        if self.word.chars().count() >= self.width {
            self.end_word(&mut out);
        }
        out
    }

    /// What is still held back.
    pub fn finish(&mut self) -> String {
        let mut out = String::new();
        self.end_word(&mut out);
        out
    }

    fn end_word(&mut self, out: &mut String) {
        let word = std::mem::take(&mut self.word);
        let length = word.chars().count();
        if length == 0 {
            return;
        }
        if self.column > 0 && self.column + length > self.width {
            while out.ends_with(' ') {
                out.pop();
            }
            out.push('\n');
            self.column = 0;
        }
        out.push_str(&word);
        self.column += length;
    }
}
