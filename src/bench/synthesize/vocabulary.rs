//! A vocabulary for the file: one that was lent by another file, or a made-up
//! one that can spell any text.

use crate::error::{Error, Result};
use crate::gguf::{Array, Gguf, Metadata, Strings, Value};

/// Copies all `tokenizer.` keys of `file`, which must have `size` tokens.
pub fn copy(file: &Gguf, size: u64, into: &mut Metadata) -> Result<()> {
    let tokens = file.metadata().strings("tokenizer.ggml.tokens")?.len();
    if tokens as u64 != size {
        return Err(Error::misuse(format!(
            "the vocabulary has {tokens} tokens, but the shape needs {size}"
        )));
    }
    for (key, value) in file.metadata().iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        into.push(key, value.clone())?;
    }
    Ok(())
}

/// SentencePiece's kinds of pieces.
const UNKNOWN: i32 = 2;
const CONTROL: i32 = 3;
const BYTE: i32 = 6;
const NORMAL: i32 = 1;

/// Makes up a SentencePiece vocabulary of `size` pieces: the three usual control
/// pieces, 256 bytes, printable ASCII, then groups of letters, shortest first
/// and with a space in front or not. Earlier pieces have better scores.
pub fn generate(size: u64, into: &mut Metadata) -> Result<()> {
    let size = size as usize;
    let special = ["<unk>", "<s>", "</s>"].map(String::from);
    let bytes = (0..=255).map(|byte| format!("<0x{byte:02X}>"));
    let ascii = std::iter::once('▁').chain('!'..='~').map(String::from);
    let pieces = special.into_iter().chain(bytes).chain(ascii).chain(words());
    let mut tokens = Strings::default();
    for piece in pieces.take(size) {
        tokens.push(&piece)?;
    }
    let plain = special_len();
    let kind = |id| match id {
        0 => UNKNOWN,
        1 | 2 => CONTROL,
        _ if id < plain => BYTE,
        _ => NORMAL,
    };
    let score = |id: usize| if id < plain { 0.0 } else { -((id - plain) as f32) };
    into.push("tokenizer.ggml.model", Value::String("llama".into()))?;
    into.push("tokenizer.ggml.pre", Value::String("default".into()))?;
    into.push("tokenizer.ggml.tokens", Value::Array(Array::String(tokens)))?;
    into.push("tokenizer.ggml.scores", Value::Array(Array::F32((0..size).map(score).collect())))?;
    into.push(
        "tokenizer.ggml.token_type",
        Value::Array(Array::I32((0..size).map(kind).collect())),
    )?;
    into.push("tokenizer.ggml.bos_token_id", Value::U32(1))?;
    into.push("tokenizer.ggml.eos_token_id", Value::U32(2))?;
    into.push("tokenizer.ggml.unknown_token_id", Value::U32(0))?;
    into.push("tokenizer.ggml.add_bos_token", Value::Bool(true))?;
    into.push("tokenizer.ggml.add_eos_token", Value::Bool(false))
}

/// Control pieces and bytes.
const fn special_len() -> usize {
    3 + 256
}

/// "▁a", …, "aa", …, "▁aa", …: each is a shorter piece and one letter more, so
/// that a tokenizer gets there by merging.
fn words() -> impl Iterator<Item = String> {
    let spaced = |word: &String| format!("▁{word}");
    (1..).flat_map(move |len| {
        let all: Vec<String> = (0..26usize.pow(len)).map(|n| letters(n, len)).collect();
        let spaced: Vec<String> = all.iter().map(spaced).collect();
        // Single letters stand among the ASCII already.
        let plain = if len == 1 { Vec::new() } else { all };
        plain.into_iter().chain(spaced)
    })
}

/// `n` in base 26 as `len` letters.
fn letters(mut n: usize, len: u32) -> String {
    let mut word = vec![b'a'; len as usize];
    for letter in word.iter_mut().rev() {
        *letter += (n % 26) as u8;
        n /= 26;
    }
    word.into_iter().map(char::from).collect()
}
