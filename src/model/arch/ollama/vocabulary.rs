//! The vocabulary's keys of a file of Ollama's converter.

use std::borrow::Cow;

use crate::error::Result;
use crate::gguf::{Array, Gguf, Metadata, Strings, Value};

use super::table::Rule;
use super::translation;

const TOKENS: &str = "tokenizer.ggml.tokens";
const MODEL: &str = "tokenizer.ggml.model";
const MERGES: &str = "tokenizer.ggml.merges";
const PRE: &str = "tokenizer.ggml.pre";
const EOS: &str = "tokenizer.ggml.eos_token_id";
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// The metadata of `file`, with the keys of the vocabulary as llama.cpp's converter writes
/// them.
pub(crate) fn vocabulary(file: &Gguf) -> Result<Cow<'_, Metadata>> {
    let mut metadata = Cow::Borrowed(file.metadata());
    for rule in translation(file).map_or(&[][..], |row| row.vocabulary) {
        for (key, value) in rule.changes(&metadata, file) {
            metadata.to_mut().set(key, value)?;
        }
    }
    Ok(metadata)
}

impl Rule {
    fn changes(self, metadata: &Metadata, file: &Gguf) -> Vec<(&'static str, Value)> {
        let word = |key: &str| metadata.opt_str(key).ok().flatten();
        let text = |word: &str| Value::String(word.into());
        match self {
            Rule::Pre(name) => vec![(PRE, text(name))],
            Rule::PreUnlessNamed(name) => match word(PRE) {
                None | Some("" | "default") => vec![(PRE, text(name))],
                Some(_) => Vec::new(),
            },
            Rule::Model(from, to)
                if word(MODEL) == Some(from) && metadata.get(MERGES).is_some() =>
            {
                vec![(MODEL, text(to))]
            }
            Rule::Eos(from, to) => match metadata.opt_integer(EOS) {
                Ok(Some(id)) if id == i128::from(from) => vec![(EOS, Value::U32(to))],
                _ => Vec::new(),
            },
            Rule::AsManyAsRows => as_many_as_rows(metadata, file),
            Rule::CharsmapOfTexts => match metadata.opt_strings(CHARSMAP) {
                Ok(Some(letters)) => base64(letters)
                    .map(|bytes| (CHARSMAP, Value::Array(Array::U8(bytes))))
                    .into_iter()
                    .collect(),
                _ => Vec::new(),
            },
            Rule::Model(..) => Vec::new(),
        }
    }
}

/// Leaves out the tokens behind the last row of the embedding: those of images.
fn as_many_as_rows(metadata: &Metadata, file: &Gguf) -> Vec<(&'static str, Value)> {
    let Some(rows) = file.tensor("token_embd.weight").map(|table| table.rows()) else {
        return Vec::new();
    };
    let mut changes = Vec::new();
    for key in [TOKENS, "tokenizer.ggml.scores", "tokenizer.ggml.token_type"] {
        let Some(Value::Array(array)) = metadata.get(key) else { continue };
        if array.len() <= rows {
            continue;
        }
        changes.push(match array {
            Array::String(all) => {
                (key, Value::Array(Array::String(all.iter().take(rows).collect::<Strings>())))
            }
            Array::F32(all) => (key, Value::Array(Array::F32(all[..rows].to_vec()))),
            Array::I32(all) => (key, Value::Array(Array::I32(all[..rows].to_vec()))),
            Array::U32(all) => (key, Value::Array(Array::U32(all[..rows].to_vec()))),
            _ => continue,
        });
    }
    changes
}

/// The bytes of a base64 text (RFC 4648) that stands there letter by letter.
pub(super) fn base64(letters: &Strings) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(letters.len() / 4 * 3);
    let (mut bits, mut count) = (0_u32, 0);
    for letter in letters.iter().take_while(|letter| *letter != "=") {
        let [letter] = letter.as_bytes() else { return None };
        let value = match letter {
            b'A'..=b'Z' => letter - b'A',
            b'a'..=b'z' => letter - b'a' + 26,
            b'0'..=b'9' => letter - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        count += 6;
        if count >= 8 {
            count -= 8;
            bytes.push((bits >> count) as u8);
        }
    }
    Some(bytes)
}
