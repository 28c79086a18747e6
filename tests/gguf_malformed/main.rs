//! Damaged and hostile GGUF files: each ends in a typed error that names the
//! place, without a panic and within a memory bound. `MG-nn` are the rows of
//! the checklist these cases come from.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod build;
mod cases;
mod memory;
mod mutate;
mod sentences;
mod special_files;
#[path = "../support/mod.rs"]
mod support;
mod truncate;

use std::path::{Path, PathBuf};

use tramontane::{Error, Gguf, Place};

fn repository(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(path)
}

/// The real files that are cut and mutated; leaked, so that a prefix of one is
/// a model in memory without a copy.
fn real_files() -> Vec<(&'static str, &'static [u8])> {
    [
        "models/stories260K.gguf",
        "tiny-mistral/tiny-Q4_K_M.gguf",
        "../../models/storyteller-q4_k_m.gguf",
    ]
    .map(|name| (name, &*std::fs::read(support::data(name)).unwrap().leak()))
    .into()
}

/// Parses, and checks the two promises that hold for every input: the memory
/// bound, and an error text that is one line.
fn parse(bytes: Vec<u8>) -> Result<Gguf, Error> {
    let len = bytes.len();
    let (result, peak) = memory::peak_of(|| Gguf::from_bytes(bytes));
    check(result, peak, len)
}

/// As [`parse`], for bytes that live for ever.
fn parse_static(bytes: &'static [u8]) -> Result<Gguf, Error> {
    let (result, peak) = memory::peak_of(|| Gguf::from_bytes(bytes));
    check(result, peak, bytes.len())
}

fn check(result: Result<Gguf, Error>, peak: usize, len: usize) -> Result<Gguf, Error> {
    assert!(peak <= 4 * len + (1 << 20), "{peak} bytes of heap for a file of {len}");
    if let Err(error) = &result {
        let text = error.to_string();
        assert!(!text.contains('\n') && text.len() < 600, "{text}");
    }
    result
}

/// The kind of error a case must end in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// [`Error::File`]: broken.
    Broken,
    /// [`Error::Unsupported`]: legal, but not ours.
    Foreign,
}

fn kind_and_place(error: &Error) -> (Kind, &Place) {
    match error {
        Error::File { at, .. } => (Kind::Broken, at),
        Error::Unsupported { at, .. } => (Kind::Foreign, at),
        other => panic!("neither File nor Unsupported: {other:?}"),
    }
}
