//! The input, a line at a time: it may be larger than the memory.

use std::io::{self, BufRead, Read};

/// Bytes of a line at most; what is longer is no question, and is not kept.
pub const LONGEST: u64 = 64 << 20;

/// One line of the input.
pub struct Line {
    /// The line's number, from 1.
    pub index: u64,
    /// Without white space around it; `None` if it is longer than [`LONGEST`].
    pub text: Option<Vec<u8>>,
    /// Of what was read of it.
    pub hash: u64,
}

/// The lines that are not blank.
pub struct Lines<R> {
    input: R,
    index: u64,
    /// How far the input was read.
    pub bytes: u64,
}

impl<R: BufRead> Lines<R> {
    pub fn new(input: R) -> Self {
        Lines { input, index: 0, bytes: 0 }
    }

    /// The next line; `None` after the last one.
    pub fn next(&mut self) -> io::Result<Option<Line>> {
        loop {
            let mut text = Vec::new();
            let read = self.input.by_ref().take(LONGEST).read_until(b'\n', &mut text)?;
            if read == 0 {
                return Ok(None);
            }
            self.bytes += read as u64;
            self.index += 1;
            let whole = text.ends_with(b"\n") || !self.skip_rest()?;
            let text = text.trim_ascii();
            if !text.is_empty() {
                let hash = hash(text);
                let text = whole.then(|| text.to_vec());
                return Ok(Some(Line { index: self.index, text, hash }));
            }
        }
    }

    /// Reads on to the end of the line; whether there was anything.
    fn skip_rest(&mut self) -> io::Result<bool> {
        let mut any = false;
        loop {
            let buffer = self.input.fill_buf()?;
            if buffer.is_empty() {
                return Ok(any);
            }
            let end = buffer.iter().position(|byte| *byte == b'\n');
            let read = end.map_or(buffer.len(), |end| end + 1);
            any |= end != Some(0);
            self.input.consume(read);
            self.bytes += read as u64;
            if end.is_some() {
                return Ok(any);
            }
        }
    }
}

/// FNV-1a: the same in every version and on every machine.
fn hash(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}
