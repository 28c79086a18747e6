//! The documents name files that exist: relative links with their headings, and paths in
//! backticks.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

use std::fs;
use std::path::{Component, Path, PathBuf};

/// Folders that are no part of the tree.
const SKIPPED: [&str; 4] = ["target", ".git", "__pycache__", "node_modules"];
const EXTENSIONS: [&str; 4] = [".rs", ".py", ".md", ".svg"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Every file and folder, relative to the root; folders end in `/`.
fn tree() -> Vec<String> {
    fn walk(folder: &Path, found: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(root()).unwrap().to_str().unwrap().to_owned();
            if SKIPPED.iter().any(|skipped| path.ends_with(skipped)) {
                continue;
            }
            if path.is_dir() {
                found.push(format!("{name}/"));
                walk(&path, found);
            } else {
                found.push(name);
            }
        }
    }
    let mut found = Vec::new();
    walk(root(), &mut found);
    found
}

/// The documents: what stands at the root and in `docs/`, and the READMEs of folders.
fn documents(tree: &[String]) -> Vec<&str> {
    let document = |name: &&str| {
        name.ends_with(".md")
            && (!name.contains('/') || name.starts_with("docs/") || name.ends_with("/README.md"))
    };
    tree.iter().map(String::as_str).filter(document).collect()
}

/// The text without fenced blocks of code.
fn prose(text: &str) -> String {
    let mut fenced = false;
    let mut kept = String::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            fenced = !fenced;
        } else if !fenced {
            kept.push_str(line);
            kept.push('\n');
        }
    }
    kept
}

/// What stands in backticks.
fn code_spans(prose: &str) -> impl Iterator<Item = &str> {
    prose.split("\n\n").flat_map(|paragraph| paragraph.split('`').skip(1).step_by(2))
}

/// Targets of links of the form `[text](target)` to files of this repository.
fn links(prose: &str) -> impl Iterator<Item = &str> {
    prose
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .filter(|target| !target.contains("://") && !target.starts_with("mailto:"))
}

/// The path with `..` resolved by its text, so that it also works for what does not exist.
fn plain(path: &Path) -> PathBuf {
    let mut plain = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => {
                plain.pop();
            }
            Component::CurDir => {}
            other => plain.push(other),
        }
    }
    plain
}

/// GitHub's anchors of a document's headings.
fn anchors(document: &str) -> Vec<String> {
    let slug = |heading: &str| {
        let kept = heading.trim().to_lowercase();
        kept.chars()
            .filter(|c| c.is_alphanumeric() || " -_".contains(*c))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect()
    };
    let text = prose(document);
    text.lines().filter(|l| l.starts_with('#')).map(|l| slug(l.trim_start_matches('#'))).collect()
}

/// Whether a span of code means a file or folder: it ends like one, or begins with a
/// folder of the root.
fn is_path(span: &str, tree: &[String]) -> bool {
    let characters = |c: char| c.is_ascii_alphanumeric() || "_.-*/".contains(c);
    if !span.chars().all(characters) || span.starts_with(['/', '-', '*']) {
        return false;
    }
    let in_root = |first: &str| tree.contains(&format!("{first}/"));
    match span.split_once('/') {
        Some(("target", _)) => false,
        Some((first, rest)) => rest.is_empty() || in_root(first) || has_extension(span),
        None => has_extension(span) && !span.starts_with('.'),
    }
}

fn has_extension(span: &str) -> bool {
    EXTENSIONS.iter().any(|extension| span.ends_with(extension))
}

/// Whether the tree has the path, from the root or from any folder; `*` stands for any
/// part of a file's name.
fn exists(path: &str, tree: &[String]) -> bool {
    let (before, after) = path.split_once('*').unwrap_or((path, ""));
    tree.iter().any(|name| {
        let name = name.trim_end_matches('/');
        let whole = path.trim_end_matches('/');
        let any = path.contains('*')
            && name.ends_with(after)
            && name.find(before).is_some_and(|at| !name[at + before.len()..].contains('/'));
        any || name == whole || name.strip_suffix(whole).is_some_and(|front| front.ends_with('/'))
    })
}

#[test]
fn links_lead_to_files_and_headings() {
    let tree = tree();
    let mut broken = Vec::new();
    for name in documents(&tree) {
        let text = fs::read_to_string(root().join(name)).unwrap();
        let folder = Path::new(name).parent().unwrap();
        for target in links(&prose(&text)) {
            let (path, anchor) = target.split_once('#').unwrap_or((target, ""));
            let file = if path.is_empty() {
                root().join(name)
            } else {
                plain(&root().join(folder).join(path))
            };
            let found = file.exists()
                && (anchor.is_empty()
                    || anchors(&fs::read_to_string(&file).unwrap()).iter().any(|a| a == anchor));
            if !found {
                broken.push(format!("{name}: {target}"));
            }
        }
    }
    assert!(broken.is_empty(), "links that lead nowhere:\n{}", broken.join("\n"));
}

#[test]
fn paths_in_backticks_exist() {
    let tree = tree();
    let mut missing = Vec::new();
    // Notes of experiments describe the tree of their time.
    for name in documents(&tree).into_iter().filter(|name| !name.starts_with("docs/lab/")) {
        let text = fs::read_to_string(root().join(name)).unwrap();
        for span in code_spans(&prose(&text)) {
            if is_path(span, &tree) && !exists(span, &tree) {
                missing.push(format!("{name}: {span}"));
            }
        }
    }
    assert!(missing.is_empty(), "paths that do not exist:\n{}", missing.join("\n"));
}

#[test]
fn the_checks_see_what_they_must() {
    let text = "# A *b* `c`-d\n\n[x](y.md#z) and `src/lib.rs`\n\n```sh\n`no` [no](no)\n```\n";
    assert_eq!(links(&prose(text)).collect::<Vec<_>>(), ["y.md#z"]);
    assert_eq!(code_spans(&prose(text)).collect::<Vec<_>>(), ["c", "src/lib.rs"]);
    assert_eq!(anchors(text), ["a-b-c-d"]);
    let tree = ["src/", "src/lib.rs", "src/a/", "src/a/mod.rs"].map(str::to_owned);
    for path in ["src/lib.rs", "lib.rs", "a/mod.rs", "a/", "a/m*.rs", "src/nothing"] {
        assert!(is_path(path, &tree), "{path}");
        assert_eq!(exists(path, &tree), path != "src/nothing", "{path}");
    }
    for other in ["Q4_K/avx512", "/api/chat", "target/tmp/", "--kv f16", "Model::open", "0.98"] {
        assert!(!is_path(other, &tree), "{other}");
    }
    assert!(!exists("b.rs", &tree) && !exists("src/ib.rs", &tree));
}
