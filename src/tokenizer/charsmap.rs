//! SentencePiece's `precompiled_charsmap`: which sequences of characters are replaced by
//! which others before a text is cut into pieces.
//!
//! ```text
//! u32           bytes of the trie, little-endian as all of it
//! [u32]         the trie: a double array (Aoe 1989, as in the library Darts-clone)
//! replacements  UTF-8 texts, each with a 0 behind it
//!
//! unit          bits 0–7 label, 8 whether a value hangs here, 9 offset × 256,
//!               10–30 offset; bit 31 of the label's check is set in units of values
//! child         index(parent) xor offset(parent) xor byte
//! ```
//! A file cannot be trusted: every index is checked, and no key is followed beyond
//! [`MOST_KEY_BYTES`], so that a text takes time linear in its length.

use std::borrow::Cow;

use crate::error::{Error, Result};
use crate::gguf::{Array, Metadata, Strings, Value};

const KEY: &str = "tokenizer.ggml.precompiled_charsmap";

/// Longest sequence that is replaced. The longest of `nmt_nfkc` have 20 bytes.
const MOST_KEY_BYTES: usize = 64;

/// Longest replacement. That of U+FDFA, the longest of NFKC, has 33 bytes.
const MOST_TEXT_BYTES: usize = 256;

/// The most that a replacement may be longer than what it replaces: NFKC makes 33 bytes of 3.
/// Others are not applied, or a short text would take much memory.
const MOST_GROWTH: usize = 16;

#[derive(Debug, Default)]
pub(super) struct Charsmap {
    trie: Vec<u32>,
    texts: String,
}

impl Charsmap {
    /// What the file holds; nothing is replaced where it holds none.
    ///
    /// # Errors
    /// [`Error::File`] for sizes that do not fit, or replacements that are no texts.
    pub fn parse(metadata: &Metadata) -> Result<Self> {
        let bytes = match metadata.get(KEY) {
            None => return Ok(Charsmap::default()),
            Some(Value::Array(Array::U8(bytes))) => Cow::from(bytes),
            Some(Value::Array(Array::I8(bytes))) => bytes.iter().map(|&b| b as u8).collect(),
            // As some files of Ollama's library hold it: base64, one character per string.
            Some(Value::Array(Array::String(texts))) => base64(texts)?.into(),
            Some(Value::Array(array)) if array.is_empty() => return Ok(Charsmap::default()),
            Some(_) => return Err(Error::key(KEY, "is not an array of bytes")),
        };
        Charsmap::of_bytes(&bytes)
    }

    fn of_bytes(bytes: &[u8]) -> Result<Self> {
        if bytes.is_empty() {
            return Ok(Charsmap::default());
        }
        let Some((size, rest)) = bytes.split_first_chunk() else {
            return Err(Error::key(KEY, "is shorter than the size that it begins with"));
        };
        let size = u32::from_le_bytes(*size) as usize;
        let Some((trie, texts)) = rest.split_at_checked(size).filter(|_| size.is_multiple_of(4))
        else {
            let problem = format!("names {size} bytes of {} as its trie", rest.len());
            return Err(Error::key(KEY, problem));
        };
        let Ok(texts) = str::from_utf8(texts) else {
            return Err(Error::key(KEY, "has replacements that are not UTF-8"));
        };
        if texts.split('\0').any(|text| text.len() > MOST_TEXT_BYTES) {
            let problem = format!("has a replacement of more than {MOST_TEXT_BYTES} bytes");
            return Err(Error::key(KEY, problem));
        }
        let trie = trie.as_chunks().0.iter().map(|unit| u32::from_le_bytes(*unit)).collect();
        Ok(Charsmap { trie, texts: texts.to_owned() })
    }

    /// `text` with every longest sequence of the table replaced, from left to right.
    pub fn apply<'t>(&self, text: &'t str) -> Cow<'t, str> {
        if self.trie.is_empty() {
            return text.into();
        }
        let mut out = String::with_capacity(text.len() + text.len() / 8);
        let mut rest = text;
        while let Some(first) = rest.chars().next() {
            let len = match self.longest(rest) {
                Some((len, replacement)) => {
                    out.push_str(replacement);
                    len
                }
                None => {
                    out.push(first);
                    first.len_utf8()
                }
            };
            rest = &rest[len..];
        }
        out.into()
    }

    /// The longest sequence that `text` begins with, and what it becomes.
    fn longest(&self, text: &str) -> Option<(usize, &str)> {
        let unit = |index: usize| self.trie.get(index).copied();
        let mut index = offset(unit(0)?);
        let mut found = None;
        for (at, byte) in text.bytes().take(MOST_KEY_BYTES).enumerate() {
            index ^= usize::from(byte);
            let Some(child) = unit(index).filter(|&unit| label(unit) == u32::from(byte)) else {
                break;
            };
            index ^= offset(child);
            if byte != 0 && has_value(child) && text.is_char_boundary(at + 1) {
                let value = unit(index).and_then(|unit| self.text((unit & 0x7fff_ffff) as usize));
                let value = value.filter(|value| value.len() <= MOST_GROWTH * (at + 1));
                found = value.map(|value| (at + 1, value)).or(found);
            }
        }
        found
    }

    /// The replacement at `start`.
    fn text(&self, start: usize) -> Option<&str> {
        self.texts.get(start..)?.split('\0').next()
    }
}

fn offset(unit: u32) -> usize {
    ((unit >> 10) << ((unit & (1 << 9)) >> 6)) as usize
}

fn label(unit: u32) -> u32 {
    unit & (1 << 31 | 0xff)
}

fn has_value(unit: u32) -> bool {
    unit >> 8 & 1 == 1
}

/// The bytes that characters of base64 mean.
fn base64(texts: &Strings) -> Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(texts.len() / 4 * 3);
    let (mut bits, mut count) = (0u32, 0);
    for byte in texts.iter().flat_map(str::bytes).filter(|&byte| byte != b'=') {
        let six = match byte {
            b'A'..=b'Z' => byte - b'A',
            b'a'..=b'z' => byte - b'a' + 26,
            b'0'..=b'9' => byte - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return Err(Error::key(KEY, "holds texts that are not base64")),
        };
        bits = bits << 6 | u32::from(six);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

    use super::*;

    /// A table that replaces "a" by "bc": the root's child 'a' is at index 'a' xor 0.
    fn small() -> Vec<u8> {
        let mut trie = vec![0u32; 256];
        trie[usize::from(b'a')] = 1 << 10 | 1 << 8 | u32::from(b'a');
        trie[usize::from(b'a') ^ 1] = 1 << 31 | 1;
        bytes(&trie, b"\0bc\0")
    }

    fn bytes(trie: &[u32], texts: &[u8]) -> Vec<u8> {
        let mut bytes = (4 * trie.len() as u32).to_le_bytes().to_vec();
        bytes.extend(trie.iter().flat_map(|unit| unit.to_le_bytes()));
        bytes.extend_from_slice(texts);
        bytes
    }

    #[test]
    fn replaces_and_leaves_the_rest() {
        let map = Charsmap::of_bytes(&small()).unwrap();
        assert_eq!(map.apply("xaya\0é"), "xbcybc\0é");
        assert_eq!(Charsmap::default().apply("a"), "a");
    }

    /// A short text does not become a long one: replacements far longer than what they replace
    /// are not applied.
    #[test]
    fn texts_grow_within_bounds() {
        for (len, applied) in [(16, true), (17, false), (256, false)] {
            let texts = [b"\0".to_vec(), vec![b'b'; len], b"\0".to_vec()].concat();
            let table = [&small()[..4 + 4 * 256], &texts].concat();
            let map = Charsmap::of_bytes(&table).unwrap();
            let expected = if applied { "b".repeat(2 * len) } else { "aa".to_owned() };
            assert_eq!(map.apply("aa"), expected, "{len}");
        }
    }

    #[test]
    fn base64_in_strings_of_one_character() {
        let text = "AAECAwT/";
        let texts: Strings = text.split("").filter(|text| !text.is_empty()).collect();
        assert_eq!(base64(&texts).unwrap(), [0, 1, 2, 3, 4, 255]);
        let texts: Strings = ["A", "é"].into_iter().collect();
        assert!(base64(&texts).is_err());
    }

    #[test]
    fn damaged_tables_are_refused_or_do_nothing() {
        for bytes in [
            vec![1, 0],
            vec![255, 255, 255, 255],
            vec![3, 0, 0, 0, 1, 2, 3],
            bytes(&[0], &[0xff]),
            bytes(&[0], &[b'x'; 300]),
        ] {
            let problem = Charsmap::of_bytes(&bytes).unwrap_err().to_string();
            assert!(problem.contains("precompiled_charsmap"), "{problem}");
        }
        // Any units: indices out of range, children of themselves, values in mid-character.
        let mut seed = 1u64;
        for round in 0..300 {
            let mut random = || {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (seed >> 32) as u32
            };
            let trie: Vec<u32> = (0..300)
                .map(|i| match round % 3 {
                    0 => random(),
                    1 => random() & 0x3ff | (random() % 300) << 10,
                    // Every index is its own child.
                    _ => i ^ (i & 0xff) | 1 << 8,
                })
                .collect();
            let map = Charsmap::of_bytes(&bytes(&trie, "é\0ab\0".as_bytes())).unwrap();
            map.apply("any text, é 字\u{10ffff}\0 and more of it");
        }
    }

    #[test]
    fn endless_keys_take_linear_time() {
        // Each byte leads back to where it came from, with a value.
        let mut trie: Vec<u32> = (0..256).map(|byte| 1 << 8 | byte).collect();
        trie[0] = 1 << 8;
        let map = Charsmap::of_bytes(&bytes(&trie, b"x\0")).unwrap();
        let start = std::time::Instant::now();
        map.apply(&"a".repeat(2_000_000));
        assert!(start.elapsed().as_secs() < 20);
    }
}
