//! What a person reads when the file is not what they thought.

use std::path::Path;

use tramontane::Gguf;

use super::build::File;
use super::{repository, special_files::Folder};

fn sentence(path: &Path) -> String {
    let error = Gguf::open(path).unwrap_err().to_string();
    error.replace(&path.display().to_string(), "PATH")
}

#[test]
fn files_that_are_no_models() {
    let folder = Folder::new("sentences");
    assert_eq!(sentence(&folder.0.join("none.gguf")), "PATH: no such file; check the path");
    assert_eq!(sentence(&folder.0), "PATH is a directory; give the path of a .gguf file");

    let safetensors = b"\x40\0\0\0\0\0\0\0{\"__metadata__\":{}}";
    for (bytes, hint) in [
        (&b""[..], "the file is empty"),
        (b"GGU", "the file ends inside its first four bytes"),
        (b"PK\x03\x04rest of an archive", "this is a zip archive, perhaps a PyTorch checkpoint"),
        (safetensors, "this looks like safetensors"),
        (b"lmgg\x01\0\0\0", "this is a ggml model from before GGUF (2023)"),
        (b"tjgg\x03\0\0\0", "this is a ggml model from before GGUF (2023)"),
        (b"ggml\x01\0\0\0", "this is a ggml model from before GGUF (2023)"),
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "this is a Git LFS pointer; `git lfs pull` gets the file itself",
        ),
        (b"\n<!DOCTYPE html>", "this looks like a web page; the download failed"),
        (b"Once upon a time", "this looks like text"),
        (b"gguf\x03\0\0\0", "it does not start with the letters GGUF"),
        (b"\0\0\0\0", "it does not start with the letters GGUF"),
    ] {
        let expected =
            format!("GGUF header: not a GGUF file: {hint}; tramontane runs .gguf models");
        assert_eq!(sentence(&folder.file("file", bytes)), expected);
    }
}

#[test]
fn versions() {
    let v1 = repository("tests/data/models/tinyllamas-stories-260k-f32.crabml.gguf");
    assert_eq!(
        sentence(&v1),
        "GGUF header: version 1 (2023) is not supported; convert the model again"
    );
    let folder = Folder::new("versions");
    let of = |version: u32| {
        let file = File { version, ..File::new() };
        sentence(&folder.file("file", &file.bytes()))
    };
    assert_eq!(of(0), "GGUF header: version 0 does not exist");
    assert_eq!(of(4), "GGUF header: version 4 is not supported, only 2 and 3 are");
    assert_eq!(of(u32::MAX), "GGUF header: version 4294967295 is not supported, only 2 and 3 are");
    assert_eq!(
        of(0x0300_0000),
        "GGUF header: big-endian files are not supported; convert the model again"
    );
}

#[test]
fn a_truncated_download() {
    let folder = Folder::new("truncated");
    let bytes = std::fs::read(repository("models/storyteller-q4_k_m.gguf")).unwrap();
    let half = folder.file("half", &bytes[..bytes.len() / 2]);
    assert_eq!(
        sentence(&half),
        "tensor \"blk.1.ffn_down.weight\": 110592 bytes at data offset 1970176 reach past the end \
         of the file (2107328 bytes); the download may be incomplete"
    );
    let start = folder.file("start", &bytes[..50_000]);
    assert_eq!(
        sentence(&start),
        "key \"tokenizer.ggml.tokens\": the file ends inside the string (8 bytes needed, 3 left); \
         the download may be incomplete (at byte 49997)"
    );
}
