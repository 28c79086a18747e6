//! What lies under `manifests/`: manifests, and what is not understood.
//!
//! Links are followed at every level, as Ollama follows them: to folders and to files,
//! inside the store and outside.

use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use super::Store;
use super::error::Result;
use super::folder::names;
use crate::name::ModelName;

/// Folders between `manifests` and a manifest: host, namespace, model.
const FOLDERS: usize = 3;

/// What file managers leave everywhere. Nothing else is passed over: a temporary file of
/// a program that copies models is a manifest of tomorrow.
const LITTER: [&str; 3] = [".DS_Store", "Thumbs.db", "desktop.ini"];

/// Our own manifests before they have their name. Whoever may see one has the store's
/// lock, so nobody writes it any more.
pub(super) const TEMPORARY: &str = ".tmp-";

/// Something that may need blobs, though nobody knows which.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Obstacle {
    /// Where it is.
    pub path: PathBuf,
    /// What is wrong, and the way out.
    pub what: String,
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.what)
    }
}

/// All that was found.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Files that have the place and the name of a manifest.
    pub manifests: Vec<(ModelName, PathBuf)>,
    /// Everything else.
    pub obstacles: Vec<Obstacle>,
}

impl Store {
    /// Looks at everything under `manifests/`.
    ///
    /// # Errors
    /// That folder cannot be read at all.
    pub(super) fn tree(&self) -> Result<Tree> {
        let mut tree = Tree::default();
        let root = self.manifests();
        for name in names(&root)? {
            tree.visit(root.join(name), &[]);
        }
        Ok(tree)
    }
}

impl Tree {
    fn obstacle(&mut self, path: PathBuf, what: impl Into<String>) {
        self.obstacles.push(Obstacle { path, what: what.into() });
    }

    /// Looks at one entry of the folder that `parents` name.
    fn visit(&mut self, path: PathBuf, parents: &[String]) {
        let Some(name) = path.file_name().and_then(|name| name.to_str()).map(str::to_owned) else {
            return self.obstacle(path, "its name is no UTF-8; rename it, or move it away");
        };
        let own = parents.is_empty() || parents.len() == FOLDERS;
        if LITTER.contains(&name.as_str()) || (own && name.starts_with(TEMPORARY)) {
            return;
        }
        match fs::metadata(&path) {
            Ok(about) if about.is_dir() => self.folder(path, name, parents),
            Ok(about) if !about.is_file() => {
                self.obstacle(path, "is neither a file nor a folder; remove it, or move it away");
            }
            Ok(_) if parents.len() < FOLDERS => self.obstacle(
                path,
                "a file where only folders belong (HOST/NAMESPACE/MODEL/TAG); move it away",
            ),
            Ok(_) => self.file(path, &name, parents),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                // Without a link it went away meanwhile; that is its end.
                if fs::symlink_metadata(&path).is_ok() {
                    let text = "a link that leads nowhere; mount or restore what it leads to, or \
                        remove the link";
                    self.obstacle(path, text);
                }
            }
            Err(error) => self.unreadable(path, &error.to_string()),
        }
    }

    fn unreadable(&mut self, path: PathBuf, error: &str) {
        self.obstacle(path, format!("cannot be read ({error}); make it readable, or move it away"));
    }

    fn folder(&mut self, path: PathBuf, name: String, parents: &[String]) {
        let inside = match names(&path) {
            Ok(inside) => inside,
            Err(error) => return self.unreadable(path, &error.to_string()),
        };
        if parents.len() == FOLDERS {
            if !inside.is_empty() {
                let text = "a folder where a manifest belongs (HOST/NAMESPACE/MODEL/TAG); move it \
                    away";
                self.obstacle(path, text);
            }
            return;
        }
        let parts: Vec<String> = parents.iter().cloned().chain([name]).collect();
        for name in inside {
            self.visit(path.join(name), &parts);
        }
    }

    fn file(&mut self, path: PathBuf, tag: &str, parents: &[String]) {
        let name = match parents {
            [host, namespace, model] => ModelName::from_parts(host, namespace, model, tag),
            _ => None,
        };
        match name {
            Some(name) => self.manifests.push((name, path)),
            None => {
                let text = "its place and name are no model's name; rename it, or move it away";
                self.obstacle(path, text);
            }
        }
    }
}

/// Whether a file under `manifests/` is one of ours that never got its name.
pub(super) fn is_temporary(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.starts_with(TEMPORARY))
}
