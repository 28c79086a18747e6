//! Keys of tokenizers that would change tokens, and that this crate does not read.

use crate::error::Warning;
use crate::gguf::{Metadata, Value};

/// Truth values (true changes something) and what is done instead.
const FLAGS: [(&str, &str); 5] = [
    ("remove_extra_whitespaces", "runs of white space are kept"),
    ("treat_whitespace_as_suffix", "the space stands in front of words"),
    ("add_sep_token", "no separator is added"),
    ("normalizer.lowercase", "text is not put into lower case"),
    ("normalizer.strip_accents", "accents are kept"),
];

/// A table of replacements, which other kinds of vocabularies have.
const CHARSMAP: &str = "tokenizer.ggml.precompiled_charsmap";

/// Says which of them the file sets.
pub(super) fn warn(metadata: &Metadata, warnings: &mut Vec<Warning>) {
    for (name, instead) in FLAGS {
        let key = format!("tokenizer.ggml.{name}");
        if metadata.get(&key).is_some() && metadata.opt_bool(&key).ok().flatten() != Some(false) {
            warnings.push(Warning::key(&key, format!("is not supported; {instead}")));
        }
    }
    let is_empty = |value: &Value| matches!(value, Value::Array(array) if array.is_empty());
    if metadata.get(CHARSMAP).is_some_and(|value| !is_empty(value)) {
        warnings.push(Warning::key(CHARSMAP, "is not supported; text is not normalized"));
    }
}
