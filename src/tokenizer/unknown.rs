//! Keys of tokenizers that would change tokens, and that this crate does not read.

use crate::error::Warning;
use crate::gguf::{Metadata, Value};

/// Truth values (true changes something) and what is done instead.
const FLAGS: [(&str, &str); 4] = [
    ("remove_extra_whitespaces", "runs of white space are kept"),
    ("treat_whitespace_as_suffix", "the space stands in front of words"),
    ("normalizer.lowercase", "text is not put into lower case"),
    ("normalizer.strip_accents", "accents are kept"),
];

/// A table of replacements, which other kinds of vocabularies have.
const CHARSMAP: &str = "precompiled_charsmap";

/// Says which of them the file sets. `read`: those that its algorithm reads after all.
pub(super) fn warn(metadata: &Metadata, read: &[&str], warnings: &mut Vec<Warning>) {
    for (name, instead) in FLAGS.into_iter().filter(|(name, _)| !read.contains(name)) {
        let key = format!("tokenizer.ggml.{name}");
        if metadata.get(&key).is_some() && metadata.opt_bool(&key).ok().flatten() != Some(false) {
            warnings.push(Warning::key(&key, format!("is not supported; {instead}")));
        }
    }
    let is_empty = |value: &Value| matches!(value, Value::Array(array) if array.is_empty());
    let key = format!("tokenizer.ggml.{CHARSMAP}");
    if !read.contains(&CHARSMAP) && metadata.get(&key).is_some_and(|value| !is_empty(value)) {
        warnings.push(Warning::key(&key, "is not supported; text is not normalized"));
    }
}
