//! The model of the benches that need a whole one.
//! `TRAMONTANE_BENCH_MODEL` names a file. Default: a synthesized one in the shape of
//! Mistral 7B where disk and memory have room for it, else of Llama 1B; it stays under
//! `target/tmp/`.
#![allow(clippy::print_stderr, clippy::unwrap_used, reason = "a bench talks and may fail")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use tramontane::Model;
use tramontane::internal::synthesize::{Mix, Shape, Synthesis};

/// What else a bench needs beside the file: keys and values, buffers, the system.
const SPARE: u64 = 1 << 30;

/// Whether everything is only to be run once: `cargo test --benches`, `-- --test`.
pub fn quick() -> bool {
    let has = |name: &str| std::env::args().any(|arg| arg == name);
    !has("--bench") || has("--test")
}

/// The small trained model of the repository.
pub fn builtin() -> Model {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    Model::open(folder.join("../models/storyteller-q4_k_m.gguf")).unwrap()
}

/// The model to be measured; in a hurry the built-in one.
pub fn open() -> Model {
    match std::env::var_os("TRAMONTANE_BENCH_MODEL") {
        Some(path) => Model::open(path).unwrap(),
        None if quick() => builtin(),
        None => Model::open(synthesized()).unwrap(),
    }
}

/// The largest file that there is room for; made if it is not there yet.
fn synthesized() -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    std::fs::create_dir_all(folder).unwrap();
    let disk = free_disk(folder);
    let memory = free_memory();
    let files = ["mistral-7b", "llama-1b"].map(|name| {
        let (shape, mix) = (Shape::find(name).unwrap(), Mix::find("q4_k_m").unwrap());
        let file = Synthesis { shape, mix, seed: 1 };
        (folder.join(format!("bench-{name}-{}.gguf", mix.name)), file)
    });
    let fits = |path: &Path, file: &Synthesis| {
        let bytes = file.bytes().unwrap();
        let on_disk = file.is_at(path) || disk.is_some_and(|free| free >= bytes + SPARE);
        on_disk && memory.is_some_and(|free| free >= bytes + SPARE)
    };
    let [large, small] = files;
    let (path, file) = if fits(&large.0, &large.1) { large } else { small };
    if file.is_at(&path) {
        eprintln!("{}: from an earlier run", path.display());
    } else {
        create(&path, &file);
    }
    path
}

/// Writes the file and says how far it is, every tenth.
fn create(path: &Path, file: &Synthesis) {
    let (bytes, done) = (file.bytes().unwrap(), std::cell::Cell::new(0));
    let start = Instant::now();
    eprintln!("writing random weights to {}, {:.1} GB", path.display(), bytes as f64 / 1e9);
    file.create(path, None, |n| {
        let before = done.replace(done.get() + n);
        let (before, now) = (10 * before / bytes, 10 * done.get() / bytes);
        if now > before {
            eprintln!("  {} %, {:.0} s", 10 * now, start.elapsed().as_secs_f64());
        }
    })
    .unwrap();
}

/// Bytes that may be written to the file system of `folder`, as `df` says.
fn free_disk(folder: &Path) -> Option<u64> {
    let said = Command::new("df").arg("-Pk").arg(folder).output().ok()?;
    let said = String::from_utf8(said.stdout).ok()?;
    let kilobytes: u64 = said.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok()?;
    Some(kilobytes << 10)
}

/// Bytes that can be had without swapping, where the system says it like Linux.
fn free_memory() -> Option<u64> {
    let said = std::fs::read_to_string("/proc/meminfo").ok()?;
    let line = said.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
    Some(kilobytes << 10)
}
