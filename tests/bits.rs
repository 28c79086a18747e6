//! Logits never change by a bit: hashes of the logits of every model file of the llama
//! family, written once and kept. A change of these results is a decision, not an accident.
//!
//! After such a decision: `BITS_PRINT=1 cargo test --release --test bits -- --nocapture`
//! prints the new table.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stdout, reason = "prints the table when asked")]

mod support;

use sha2::{Digest, Sha256};
use support::{Way, ids, instruction_sets, json};
use tramontane::{KvType, Model, SessionOptions};

/// Model file, type of the KV cache, first 8 bytes of the SHA-256 of all logits as
/// little-endian f32.
const EXPECTED: &str = include_str!("data/bits.txt");

const FILES: [&str; 19] = [
    "tiny-mistral/tiny-f32.gguf",
    "tiny-mistral/tiny-F16.gguf",
    "tiny-mistral/tiny-Q8_0.gguf",
    "tiny-mistral/tiny-Q6_K.gguf",
    "tiny-mistral/tiny-Q5_K_M.gguf",
    "tiny-mistral/tiny-Q4_K_M.gguf",
    "tiny-mistral/tiny-Q3_K_M.gguf",
    "tiny-mistral/tiny-Q2_K.gguf",
    "tiny-mistral/tiny-Q4_0.gguf",
    "tiny-mistral/tiny-Q4_1.gguf",
    "tiny-mistral/tiny-Q5_0.gguf",
    "tiny-mistral/tiny-Q5_1.gguf",
    "tiny-mistral/tiny-IQ4_XS.gguf",
    "tiny-mistral/tiny-IQ4_NL.gguf",
    "arch/llama31/mini-f32.gguf",
    "arch/nemo/mini-f32.gguf",
    "models/stories260K.gguf",
    "../../models/storyteller-q4_k_m.gguf",
    // The same file with the window of 32 that Mistral 7B v0.1 has in large.
    "tiny-mistral/tiny-Q4_K_M.gguf window 32",
];

fn parts(file: &str) -> (&str, Option<usize>) {
    match file.split_once(" window ") {
        Some((file, window)) => (file, Some(window.parse().unwrap())),
        None => (file, None),
    }
}

/// The stored ids of the fixture, or a walk through the vocabulary.
fn tokens(file: &str, n_vocab: usize) -> Vec<u32> {
    match file.rsplit_once('/').unwrap().0 {
        folder if folder.starts_with("tiny-mistral") || folder.starts_with("arch/") => {
            ids(&json(&format!("{folder}/ids.json")))
        }
        _ => (0..150).map(|i| (i * 37 + 1) % n_vocab as u32).collect(),
    }
}

fn hash(model: &Model, tokens: &[u32], kv_type: KvType, chunk: usize) -> String {
    let mut options = SessionOptions::default();
    options.num_ctx = Some(tokens.len());
    options.kv_type = kv_type;
    let mut session = model.session(&options).unwrap();
    let mut hash = Sha256::new();
    for chunk in tokens.chunks(chunk.min(tokens.len())) {
        session.evaluate(chunk).unwrap().iter().for_each(|x| hash.update(x.to_le_bytes()));
    }
    hash.finalize()[..8].iter().map(|byte| format!("{byte:02x}")).collect()
}

const KV_TYPES: [(KvType, &str); 3] =
    [(KvType::I16, "I16"), (KvType::Q8_0, "Q8_0"), (KvType::F32, "F32")];

#[test]
fn logits_are_those_of_the_stored_hashes() {
    let mut found = String::new();
    for file in FILES {
        let (path, window) = parts(file);
        for (kv_type, kv) in KV_TYPES {
            let model = Way { window, threads: 1, ..Way::whole() }.model(path);
            let tokens = tokens(path, model.n_vocab());
            let hash = hash(&model, &tokens, kv_type, usize::MAX);
            found += &format!("{file} {kv} {hash}\n");
        }
    }
    if std::env::var_os("BITS_PRINT").is_some() {
        println!("{found}");
    }
    for (found, expected) in found.lines().zip(EXPECTED.lines()) {
        assert_eq!(found, expected);
    }
    assert_eq!(found.lines().count(), EXPECTED.lines().count());
}

/// The same hashes on every tier and in chunks. (`logits.rs` compares more combinations.)
#[test]
fn tiers_and_chunks_give_the_stored_hashes() {
    let tiers = instruction_sets();
    let expected = |file: &str| {
        let line = EXPECTED.lines().find(|line| line.starts_with(&format!("{file} I16"))).unwrap();
        line.rsplit_once(' ').unwrap().1.to_owned()
    };
    for file in FILES {
        let (path, window) = parts(file);
        for (isa, chunk) in tiers.iter().flat_map(|&isa| [(isa, usize::MAX), (isa, 9)]) {
            let model = Way { isa, threads: 1, chunk, window }.model(path);
            let tokens = tokens(path, model.n_vocab());
            let found = hash(&model, &tokens, KvType::I16, chunk);
            assert_eq!(found, expected(file), "{file} {isa:?} in chunks of {chunk}");
        }
    }
}
