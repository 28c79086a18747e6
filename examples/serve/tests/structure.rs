//! The rules of the server's tree.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

use std::fs;
use std::path::{Path, PathBuf};

fn source_files() -> Vec<(String, String)> {
    fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { walk(&path, files) } else { files.push(path) }
        }
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&root, &mut files);
    let read = |path: PathBuf| {
        let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
        (name, fs::read_to_string(&path).unwrap())
    };
    files.into_iter().map(read).collect()
}

/// The lines of code that are not comments.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

/// The server maps HTTP to the library: it touches no tensor, no kernel and no sampler,
/// and its handlers can be read at a glance.
#[test]
fn the_server_is_thin() {
    let mut handlers = 0;
    for (file, source) in source_files() {
        let lines = source.lines().count();
        assert!(lines <= 500, "{file} has {lines} lines; a file holds one idea");
        for inside in
            ["tensor::Tensor,", "quant", "simd", "kernel", "machine", "internal", "sampler"]
        {
            let used = code(&source).any(|line| line.contains(&format!("tramontane::{inside}")));
            assert!(!used, "{file} uses the library's {inside}");
        }
        let lines: Vec<&str> = code(&source).collect();
        assert!(!lines.iter().any(|line| line.contains("unsafe ")), "unsafe in {file}");
        for start in (0..lines.len()).filter(|&at| lines[at].starts_with("pub async fn ")) {
            let head = lines[start..].iter().take(4).any(|line| line.contains("State(app): State"));
            let length = lines[start..].iter().position(|line| *line == "}").unwrap() + 1;
            if head {
                handlers += 1;
                assert!(length <= 40, "{file}: a handler of {length} lines: {}", lines[start]);
            }
        }
    }
    assert!(handlers >= 20, "{handlers} handlers");
}
