//! The modules of a source folder, and which of them uses which.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Names from the crate's root: `["http", "guard"]`; empty for `lib.rs`.
type Names = Vec<String>;

/// A source folder.
pub struct Tree {
    /// File name and text, sorted.
    pub files: Vec<(String, String)>,
    modules: BTreeMap<Names, Module>,
}

/// What a module says about others.
struct Module {
    /// Name → path, of every `use`, private and public.
    imports: BTreeMap<String, Names>,
    /// Paths in private `use`s and in code. A `pub use` passes on, it uses nothing.
    paths: Vec<Names>,
}

/// The lines of code: no comments, no unit tests.
pub fn code(source: &str) -> impl Iterator<Item = &str> {
    let code = source.split("#[cfg(test)]\nmod tests").next().unwrap();
    code.lines().filter(|line| !line.trim_start().starts_with("//"))
}

impl Tree {
    /// Reads every file of `folder`, which lies in the package.
    pub fn read(folder: &str) -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
        let mut paths = Vec::new();
        walk(&root, &mut paths);
        paths.sort();
        let is_rust = |path: &&PathBuf| path.extension().is_some_and(|end| end == "rs");
        let read = |path: &PathBuf| {
            let name = path.strip_prefix(&root).unwrap().to_str().unwrap().to_owned();
            (name, fs::read_to_string(path).unwrap())
        };
        let files: Vec<_> = paths.iter().filter(is_rust).map(read).collect();
        Tree::new(&files)
    }

    /// Of these files and their texts.
    pub fn new(files: &[(impl AsRef<str>, impl AsRef<str>)]) -> Self {
        let files: Vec<(String, String)> =
            files.iter().map(|(file, text)| (file.as_ref().into(), text.as_ref().into())).collect();
        let modules =
            files.iter().map(|(file, source)| (names(file), Module::read(source))).collect();
        Tree { files, modules }
    }

    /// Files of one folder that use each other in a circle, one sentence each. A folder
    /// counts as one file for the files beside it; its `mod.rs` is one of its files.
    pub fn circles(&self) -> Vec<String> {
        let folders: BTreeSet<&[String]> =
            self.modules.keys().filter_map(|names| Some(names.split_last()?.1)).collect();
        folders.into_iter().filter_map(|folder| self.circle(folder)).collect()
    }

    /// Which top-level modules each top-level module uses.
    pub fn uses(&self) -> BTreeMap<String, BTreeSet<String>> {
        let edges = self.edges(&[]).into_iter();
        edges.map(|(from, to)| (from.into(), to.into_iter().map(String::from).collect())).collect()
    }

    fn circle(&self, folder: &[String]) -> Option<String> {
        let mut edges = self.edges(folder);
        // What uses nothing that is left is in no circle.
        while let Some(end) = edges.iter().find(|(_, to)| to.is_empty()).map(|(from, _)| *from) {
            edges.remove(end);
            edges.values_mut().for_each(|to| _ = to.remove(end));
        }
        let mut at = *edges.keys().next()?;
        let mut way = Vec::new();
        while !way.contains(&at) {
            way.push(at);
            at = edges[at].first()?;
        }
        way.push(at);
        let start = way.iter().position(|one| *one == at)?;
        Some(format!("{}: {}", folder.join("/"), way[start..].join(" → ")))
    }

    /// Which nodes of a folder use which. Every node is a key.
    fn edges(&self, folder: &[String]) -> BTreeMap<&str, BTreeSet<&str>> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (module, about) in &self.modules {
            let Some(from) = node(folder, module) else { continue };
            let uses = edges.entry(from).or_default();
            let homes = about.paths.iter().filter_map(|path| self.absolute(module, path));
            let homes = homes.filter_map(|path| self.home(&path, 8));
            uses.extend(homes.filter_map(|home| node(folder, home)).filter(|to| *to != from));
        }
        edges
    }

    /// A path as written in `module`, from the crate's root; none for other crates' paths.
    fn absolute(&self, module: &[String], path: &[String]) -> Option<Names> {
        let first = path.first()?.as_str();
        let supers = path.iter().take_while(|name| *name == "super").count();
        let (from, rest) = match first {
            "crate" => (&module[..0], &path[1..]),
            "self" => (module, &path[1..]),
            "super" => (&module[..module.len().checked_sub(supers)?], &path[supers..]),
            _ if self.modules.contains_key(&[module, &path[..1]].concat()) => (module, path),
            _ => {
                let import = self.modules[module].imports.get(first)?;
                // An import of an own name would lead here again.
                let own = matches!(import[0].as_str(), "crate" | "self" | "super");
                let start = own.then(|| self.absolute(module, import))??;
                return Some([&start, &path[1..]].concat());
            }
        };
        Some([from, rest].concat())
    }

    /// The module where an item is defined: what only passes it on is not.
    fn home(&self, path: &[String], depth: usize) -> Option<&Names> {
        let length =
            (0..=path.len()).rev().find(|&length| self.modules.contains_key(&path[..length]))?;
        let (module, rest) = path.split_at(length);
        let (names, about) = self.modules.get_key_value(module)?;
        let passed_on = rest.first().and_then(|item| about.imports.get(item));
        match passed_on.and_then(|import| self.absolute(module, import)) {
            Some(import) if depth > 0 => self.home(&[&import, &rest[1..]].concat(), depth - 1),
            _ => Some(names),
        }
    }
}

impl Module {
    fn read(source: &str) -> Self {
        let mut rest = String::new();
        let (mut imports, mut paths) = (BTreeMap::new(), Vec::new());
        for statement in without_texts(&code(source).collect::<Vec<_>>().join("\n")).split(';') {
            let start = statement.rfind("use ").filter(|&at| {
                let before = statement[..at].trim_end();
                before.is_empty() || before.ends_with(['}', ']', '{']) || before.ends_with("pub")
            });
            let Some(at) = start else {
                rest += statement;
                rest.push(';');
                continue;
            };
            let public = statement[..at].trim_end().ends_with("pub");
            rest += &statement[..at];
            for (path, name) in expand(&statement[at + 4..]) {
                if !public {
                    paths.push(path.clone());
                }
                imports.insert(name, path);
            }
        }
        paths.extend(paths_in(&rest));
        Module { imports, paths }
    }
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// `http/guard.rs` → its names.
fn names(file: &str) -> Names {
    let mut names: Names = file.trim_end_matches(".rs").split('/').map(str::to_owned).collect();
    if matches!(names.last().unwrap().as_str(), "mod" | "lib") {
        names.pop();
    }
    names
}

/// What a module is for a folder: one of its files, a folder in it, its `mod.rs`.
fn node<'a>(folder: &[String], module: &'a [String]) -> Option<&'a str> {
    let inside = module.strip_prefix(folder)?;
    Some(inside.first().map_or("mod", String::as_str))
}

/// String literals emptied: a text may look like a path.
fn without_texts(code: &str) -> String {
    let mut out = String::new();
    let (mut inside, mut escaped, mut before) = (false, false, ' ');
    for c in code.chars() {
        match c {
            // `'"'` is a character.
            '"' if !escaped && (inside || before != '\'') => inside = !inside,
            c if !inside => out.push(c),
            _ => {}
        }
        escaped = inside && c == '\\' && !escaped;
        before = c;
    }
    out
}

/// The paths of a `use`, and the names under which they are known.
fn expand(tree: &str) -> Vec<(Names, String)> {
    let tree = tree.trim();
    let Some((start, list)) = tree.split_once('{') else {
        let (path, name) = tree.split_once(" as ").unwrap_or((tree, ""));
        let mut path: Names = path.split("::").map(|name| name.trim().to_owned()).collect();
        if path.len() > 1 && path.last().unwrap() == "self" {
            path.pop();
        }
        let name = if name.is_empty() { path.last().unwrap().clone() } else { name.trim().into() };
        return vec![(path, name)];
    };
    let list = &list[..list.rfind('}').unwrap()];
    let (mut depth, mut items) = (0, vec![String::new()]);
    for c in list.chars() {
        match c {
            ',' if depth == 0 => {
                items.push(String::new());
                continue;
            }
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        items.last_mut().unwrap().push(c);
    }
    let items = items.iter().filter(|item| !item.trim().is_empty());
    items.flat_map(|item| expand(&format!("{start}{}", item.trim()))).collect()
}

/// Every `a::b` in code.
fn paths_in(code: &str) -> Vec<Names> {
    let word = |c: char| c.is_alphanumeric() || c == '_' || c == ':';
    let paths = code.split(|c| !word(c)).filter(|text| text.contains("::"));
    paths
        .map(|text| text.split("::").map(str::to_owned).collect::<Names>())
        .filter(|path| !path[0].is_empty())
        .collect()
}
