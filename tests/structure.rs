//! The rules of the tree: dependencies point one way, `unsafe` stays in its places,
//! architectures are named in one folder.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The modules in the order of the data's way; each may use those before it.
const ORDER: [&str; 20] = [
    "setters",
    "error",
    "quant",
    "tensor",
    "gguf",
    "simd",
    "kv_cache",
    "kernel",
    "machine",
    "tokenizer",
    "template",
    "constrain",
    "output",
    "sampler",
    "model",
    "session",
    "engine",
    "tools",
    "bench",
    "internal",
];

/// Where `unsafe` may stand: the mapping, instruction sets (folders end in `/`),
/// threads and the disjoint writes of the matrix product.
const UNSAFE: [&str; 12] = [
    "gguf/mod.rs",
    "simd/avx2/mod.rs",
    "simd/avx2/ops.rs",
    "simd/avx512/",
    "simd/neon/",
    "kernel/pool.rs",
    "kernel/matmul/mod.rs",
    "kernel/matmul/avx2/products.rs",
    "kernel/matmul/avx512/",
    "kernel/matmul/amx/",
    "kernel/matmul/neon/",
    // A page behind the weights that must not be touched.
    "kernel/matmul/tests/panels.rs",
];

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

/// The lines of code that are not comments, up to the unit tests.
fn code(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

fn module(file: &str) -> &str {
    file.split(['/', '.']).next().unwrap()
}

#[test]
fn lib_declares_the_modules_in_order() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let declared: Vec<&str> = lib
        .lines()
        .filter_map(|l| l.trim_start_matches("pub ").strip_prefix("mod ")?.strip_suffix(';'))
        .collect();
    assert_eq!(declared, ORDER);
}

#[test]
fn no_module_uses_one_that_comes_later() {
    let place = |name: &str| ORDER.iter().position(|module| *module == name);
    let mut checked = 0;
    for (file, source) in source_files() {
        let Some(own) = place(module(&file)) else { continue };
        for line in code(&source) {
            for used in line.split("crate::").skip(1) {
                let name = used.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                if let Some(used) = place(name) {
                    assert!(used <= own, "{file} uses {name}, which comes later: {line}");
                    checked += 1;
                }
            }
        }
    }
    assert!(checked > 50, "only {checked} uses were found: is the test blind?");
}

/// The files and folders beside a file of `folder` that the code of `file` uses by name.
fn neighbours<'a>(
    folder: &str,
    file: &str,
    source: &str,
    beside: &BTreeSet<&'a str>,
) -> BTreeSet<&'a str> {
    let depth = file[folder.len()..].trim_start_matches('/').matches('/').count();
    let up = "super::".repeat(depth + usize::from(!file.ends_with("mod.rs")));
    let absolute = format!("crate::{}::", folder.replace('/', "::"));
    let mut used = BTreeSet::new();
    for line in code(source) {
        for front in [&up, &absolute] {
            for (at, _) in line.match_indices(front.as_str()) {
                let inside = line[..at].ends_with("::");
                let rest = &line[at + front.len()..];
                let name = rest.split(|c: char| !c.is_alphanumeric() && c != '_').next().unwrap();
                if !inside && let Some(name) = beside.get(name) {
                    used.insert(*name);
                }
            }
        }
    }
    used
}

/// Of the files of a folder none uses one that, directly or through others, uses it.
#[test]
fn files_of_a_folder_use_each_other_one_way() {
    let files = source_files();
    let folders: BTreeSet<&str> =
        files.iter().filter_map(|(file, _)| file.rsplit_once('/')).map(|(f, _)| f).collect();
    let mut checked = 0;
    for folder in folders {
        let inside = |file: &str| -> Option<String> {
            let rest = file.strip_prefix(folder)?.strip_prefix('/')?;
            Some(rest.split(['/', '.']).next().unwrap().to_owned()).filter(|name| name != "mod")
        };
        let names: BTreeSet<String> = files.iter().filter_map(|(file, _)| inside(file)).collect();
        let beside: BTreeSet<&str> = names.iter().map(String::as_str).collect();
        let mut uses: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (file, source) in &files {
            let Some(own) = inside(file) else { continue };
            let mut used = neighbours(folder, file, source, &beside);
            used.remove(own.as_str());
            checked += used.len();
            uses.entry(beside.get(own.as_str()).unwrap()).or_default().extend(used);
        }
        // What is used by nothing that is left cannot be in a circle.
        while let Some(&free) =
            uses.keys().find(|name| !uses.values().any(|used| used.contains(**name)))
        {
            uses.remove(free);
        }
        assert!(uses.is_empty(), "a circle in {folder}: {uses:?}");
    }
    assert!(checked > 30, "only {checked} uses were found: is the test blind?");
}

#[test]
fn unsafe_stays_in_its_places() {
    let uses_unsafe = |source: &str| {
        code(source).any(|line| {
            line.split(|c: char| !c.is_alphanumeric() && c != '_').any(|w| w == "unsafe")
        })
    };
    let found: Vec<String> =
        source_files().into_iter().filter(|(_, s)| uses_unsafe(s)).map(|(f, _)| f).collect();
    for file in &found {
        assert!(UNSAFE.iter().any(|place| file.starts_with(place)), "unsafe in {file}");
    }
    for place in UNSAFE {
        assert!(found.iter().any(|file| file.starts_with(place)), "no unsafe in {place}");
    }
}

#[test]
fn architectures_are_named_in_one_folder() {
    for (file, source) in source_files() {
        // The tokenizer's `llama` is SentencePiece's name in GGUF, not a network.
        // Synthesized files carry both.
        if file.starts_with("model/arch/") || ["tokenizer", "bench"].contains(&module(&file)) {
            continue;
        }
        for line in code(&source) {
            for name in ["\"llama\"", "\"mistral", "\"qwen", "\"phi", "\"gemma"] {
                assert!(!line.contains(name), "{file} names an architecture: {line}");
            }
        }
    }
}

#[test]
fn files_are_short() {
    for (file, source) in source_files() {
        let lines = source.split("#[cfg(test)]\nmod tests").next().unwrap().lines().count();
        assert!(lines <= 520, "{file} has {lines} lines; a file holds one idea");
    }
}
