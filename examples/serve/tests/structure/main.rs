//! The rules of the server's tree: what uses what, and how long things are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod tree;

use tree::{Tree, code};

/// The modules from the bottom up; each may use those before it.
const ORDER: [&str; 20] = [
    "task",
    "wire",
    "name",
    "store",
    "prompt",
    "config",
    "log",
    "record",
    "builtin",
    "registry",
    "schedule",
    "metrics",
    "app",
    "catalog",
    "modelfile",
    "answer",
    "ollama",
    "openai",
    "http",
    "cli",
];

/// Parts of the library that a server has no business with.
const INSIDE: [&str; 7] =
    ["tensor::Tensor,", "quant", "simd", "kernel", "machine", "internal", "sampler"];

#[test]
fn lib_declares_the_modules_in_order() {
    let tree = Tree::read("src");
    let (_, lib) = tree.files.iter().find(|(file, _)| file == "lib.rs").unwrap();
    let declared: Vec<&str> =
        lib.lines().filter_map(|l| l.strip_prefix("pub mod ")?.strip_suffix(';')).collect();
    assert_eq!(declared, ORDER);
}

#[test]
fn no_module_uses_one_that_comes_later() {
    let place = |name: &str| ORDER.iter().position(|module| *module == name).unwrap();
    let mut checked = 0;
    for (module, uses) in Tree::read("src").uses() {
        for used in uses.iter().filter(|used| *used != "mod" && *used != "main") {
            if module != "mod" && module != "main" {
                assert!(place(used) < place(&module), "{module} uses {used}, which comes later");
                checked += 1;
            }
        }
    }
    assert!(checked > 50, "only {checked} uses were found: is the test blind?");
}

#[test]
fn no_files_of_a_folder_use_each_other_in_a_circle() {
    assert_eq!(Tree::read("src").circles(), Vec::<String>::new());
}

/// The test itself: it sees circles through `super`, `crate`, imports and `mod.rs`.
#[test]
fn circles_are_found() {
    let circles = |files: &[(&str, &str)]| Tree::new(files).circles();
    let clean = [
        ("a/mod.rs", "mod b;\nmod c;\npub use b::B;\n"),
        ("a/b.rs", "pub struct B;\n// super::c::f\nfn g() { \"super::c::f\"; }\n"),
        ("a/c.rs", "use super::B;\npub fn f() {}\n"),
    ];
    assert_eq!(circles(&clean), Vec::<String>::new());
    let by_super = [clean[0], ("a/b.rs", "pub struct B;\nfn g() { super::c::f() }\n"), clean[2]];
    assert_eq!(circles(&by_super), ["a: b → c → b"]);
    let by_crate = [clean[0], ("a/b.rs", "use crate::{a::{c::f}};\npub struct B;\n"), clean[2]];
    assert_eq!(circles(&by_crate), ["a: b → c → b"]);
    let through_mod = [
        ("a/mod.rs", "mod b;\npub struct A;\nfn f() { b::g() }\n"),
        ("a/b.rs", "use super::A;\npub fn g() {}\n"),
    ];
    assert_eq!(circles(&through_mod), ["a: b → mod → b"]);
    let folders = [
        ("a/mod.rs", "pub mod x;\n"),
        ("a/x.rs", "use crate::b::y::Y;\n"),
        ("b/mod.rs", "pub mod y;\n"),
        ("b/y.rs", "use crate::a::x;\n"),
    ];
    assert_eq!(circles(&folders), [": a → b → a"]);
}

/// The server maps HTTP to the library: it touches no tensor, no kernel and no sampler.
#[test]
fn the_librarys_inside_is_not_used() {
    for (file, source) in &Tree::read("src").files {
        for inside in INSIDE {
            let used = code(source).any(|line| line.contains(&format!("tramontane::{inside}")));
            assert!(!used, "{file} uses the library's {inside}");
        }
        assert!(!code(source).any(|line| line.contains("unsafe ")), "unsafe in {file}");
    }
}

#[test]
fn files_are_short() {
    for (file, source) in &Tree::read("src").files {
        let lines = source.lines().count();
        assert!(lines <= 500, "{file} has {lines} lines; a file holds one idea");
    }
}

/// A handler can be read at a glance.
#[test]
fn handlers_are_thin() {
    let mut handlers = 0;
    for (file, source) in &Tree::read("src").files {
        let lines: Vec<&str> = code(source).collect();
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

/// A test that starts a process disturbs others of its own process, which may have a
/// lock or a listening socket open: those tests have a binary of their own.
#[test]
fn only_the_tests_of_processes_start_some() {
    for (file, source) in &Tree::read("tests").files {
        let starts = code(source).any(|line| line.contains("Command::new("));
        let apart = file.starts_with("processes/") || file.starts_with("structure/");
        assert!(!starts || apart, "{file} starts a process");
        for shared in ["set_var(", "remove_var(", "set_current_dir("] {
            let changes = code(source).any(|line| line.contains(shared));
            assert!(!changes || file.starts_with("structure/"), "{file} changes its own process");
        }
    }
}
