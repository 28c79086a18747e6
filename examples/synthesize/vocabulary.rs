//! The tokenizer keys: copied from a file, or a generated SentencePiece vocabulary.

use tramontane::gguf::{Array, Metadata, Strings, Value};

/// Copies every `tokenizer.` key.
pub fn copy(from: &Metadata, to: &mut Metadata) -> tramontane::Result<()> {
    for (key, value) in from.iter().filter(|(key, _)| key.starts_with("tokenizer.")) {
        to.push(key, value.clone())?;
    }
    Ok(())
}

/// `<unk>`, `<s>`, `</s>`, 256 bytes, then words of letters, shortest first: every
/// ASCII text can be encoded.
pub fn generate(n_vocab: usize, to: &mut Metadata) -> tramontane::Result<()> {
    let mut pieces: Vec<String> = ["<unk>", "<s>", "</s>"].map(str::to_owned).into();
    pieces.extend((0..256).map(|byte| format!("<0x{byte:02X}>")));
    pieces.push("\u{2581}".into());
    pieces.extend((0..n_vocab).map(word).take(n_vocab.saturating_sub(pieces.len())));
    pieces.truncate(n_vocab);
    let kinds = (0..n_vocab as i32).map(|id| match id {
        0 => 2,       // unknown
        1 | 2 => 3,   // control
        3..=258 => 6, // byte
        _ => 1,       // normal
    });
    let scores = (0..n_vocab).map(|id| if id < 259 { 0.0 } else { 259.0 - id as f32 });
    let strings: Strings = pieces.iter().map(String::as_str).collect();
    to.push("tokenizer.ggml.model", Value::String("llama".into()))?;
    to.push("tokenizer.ggml.tokens", Value::Array(Array::String(strings)))?;
    to.push("tokenizer.ggml.scores", Value::Array(Array::F32(scores.collect())))?;
    to.push("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.collect())))?;
    to.push("tokenizer.ggml.bos_token_id", Value::U32(1))?;
    to.push("tokenizer.ggml.eos_token_id", Value::U32(2))?;
    to.push("tokenizer.ggml.unknown_token_id", Value::U32(0))
}

/// a … z, aa, ab, … zz, aaa, …
fn word(mut number: usize) -> String {
    let mut letters = Vec::new();
    loop {
        letters.push(b'a' + (number % 26) as u8);
        number /= 26;
        if number == 0 {
            break;
        }
        number -= 1;
    }
    letters.iter().rev().map(|&letter| char::from(letter)).collect()
}
