//! The model store, on disk as Ollama's: `manifests/` and `blobs/`.
//!
//! ```text
//! manifests/HOST/NAMESPACE/MODEL/TAG   which blobs make a model
//! blobs/sha256-HEX                     a blob, complete and verified
//! blobs/sha256-HEX-partial[-N]         a download on its way
//! .lock  .pins/                        ours: who is at work (locks end with a process)
//! .began-empty                         ours: the built-in model is among its models
//! ```
//! A file appears under its final name only when it is complete, hashed and on the disk.
//! Opening a store and reading it writes nothing. When a blob is removed is said in one
//! place: `garbage`.

mod blob;
mod digest;
mod error;
mod folder;
mod garbage;
mod lock;
mod manifest;
pub mod media;
mod tree;
mod verify;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::name::ModelName;

pub use digest::Digest;
pub use error::StoreError;
pub use lock::is_for_want_of_locks;
pub use manifest::{Layer, Manifest};
pub use tree::Obstacle;

use error::{Context, Result};
use folder::{read_file, spelling_in};

/// A store. Clones are the same store.
#[derive(Debug, Clone)]
pub struct Store(Arc<Parts>);

#[derive(Debug)]
struct Parts {
    root: PathBuf,
    /// Whether unneeded blobs stay.
    no_prune: bool,
}

/// A model in the store.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name, in the spelling of the folders.
    pub name: ModelName,
    /// Of the manifest's bytes: the model's id.
    pub digest: Digest,
    /// Its layers.
    pub manifest: Manifest,
    /// When it came.
    pub modified: SystemTime,
}

impl Entry {
    /// Bytes of config and layers.
    pub fn size(&self) -> u64 {
        self.manifest.all().map(|layer| layer.size).fold(0, u64::saturating_add)
    }
}

impl Store {
    /// Opens a store. Nothing is written: it may be read-only, and its folders may come
    /// later.
    ///
    /// # Errors
    /// Something that is no folder.
    pub fn open(root: &Path, no_prune: bool) -> Result<Self> {
        match fs::metadata(root) {
            Ok(about) if !about.is_dir() => Err(StoreError::NoFolder(root.to_owned())),
            _ => Ok(Store(Arc::new(Parts { root: root.to_owned(), no_prune }))),
        }
    }

    /// Makes the folders, and gives very old blobs their present names.
    ///
    /// # Errors
    /// [`StoreError::NotWritable`]: it can still be read.
    pub fn prepare(&self) -> Result<()> {
        self.make_folders()?;
        let tree = self.tree()?;
        if tree.manifests.is_empty() && tree.obstacles.is_empty() {
            let mark = self.mark();
            fs::write(&mark, "").at(&mark).map_err(|error| self.not_writable(error))?;
        }
        self.rename_old_blobs()
    }

    /// Whether the store had no model when a server of ours began with it: people know it
    /// with the built-in model then.
    pub fn began_empty(&self) -> bool {
        self.mark().exists()
    }

    fn mark(&self) -> PathBuf {
        self.0.root.join(".began-empty")
    }

    fn make_folders(&self) -> Result<()> {
        for folder in [self.manifests(), self.blobs(), self.pins()] {
            let made = fs::create_dir_all(&folder).at(&folder);
            made.map_err(|error| self.not_writable(error))?;
        }
        Ok(())
    }

    /// An error of writing: what the system refuses because of the folder is said of the
    /// whole store.
    fn not_writable(&self, error: StoreError) -> StoreError {
        let StoreError::Io { path, source } = &error else { return error };
        let reason = match source.kind() {
            std::io::ErrorKind::PermissionDenied => "permission denied",
            std::io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only",
            _ => return error,
        };
        let reason = format!("{}: {reason}", path.display());
        StoreError::NotWritable { root: self.root().to_owned(), reason }
    }

    /// The folder.
    pub fn root(&self) -> &Path {
        &self.0.root
    }

    /// Whether blobs that nobody needs any more are removed.
    pub fn prunes(&self) -> bool {
        !self.0.no_prune
    }

    fn manifests(&self) -> PathBuf {
        self.0.root.join("manifests")
    }

    fn blobs(&self) -> PathBuf {
        self.0.root.join("blobs")
    }

    fn pins(&self) -> PathBuf {
        self.0.root.join(".pins")
    }

    /// All models that can be read, newest first.
    ///
    /// # Errors
    /// Folders that cannot be read.
    pub fn list(&self) -> Result<Vec<Entry>> {
        let mut entries = Vec::new();
        let tree = self.tree()?;
        for (name, path) in tree.manifests {
            match self.entry(&name, &path) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => {}
                Err(error) => tracing::warn!(%name, %error, "a manifest cannot be read"),
            }
        }
        for obstacle in tree.obstacles {
            tracing::debug!(%obstacle, "not listed");
        }
        entries.sort_by_key(|entry| std::cmp::Reverse(entry.modified));
        Ok(entries)
    }

    /// The model of that name; upper and lower case are the same.
    ///
    /// # Errors
    /// A manifest that is there and cannot be read.
    pub fn find(&self, name: &ModelName) -> Result<Option<Entry>> {
        let Some((name, path)) = self.spelled(name)? else { return Ok(None) };
        self.entry(&name, &path)
    }

    /// A model, and its manifest byte for byte.
    ///
    /// # Errors
    /// No such model; a manifest that cannot be read.
    pub fn manifest_bytes(&self, name: &ModelName) -> Result<(Entry, Vec<u8>)> {
        let missing = || StoreError::NoModel(name.short());
        let (spelled, path) = self.spelled(name)?.ok_or_else(missing)?;
        let entry = self.entry(&spelled, &path)?.ok_or_else(missing)?;
        let bytes = read_file(&path, Manifest::LARGEST)?.ok_or_else(missing)?;
        Ok((entry, bytes))
    }

    fn entry(&self, name: &ModelName, path: &Path) -> Result<Option<Entry>> {
        let Some(bytes) = read_file(path, Manifest::LARGEST)? else { return Ok(None) };
        let manifest = Manifest::parse(&bytes)
            .map_err(|problem| StoreError::Manifest { name: name.short(), problem })?;
        let modified = fs::metadata(path).and_then(|about| about.modified()).at(path)?;
        Ok(Some(Entry { name: name.clone(), digest: Digest::of(&bytes), manifest, modified }))
    }

    /// Where a blob is, or would be.
    pub fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.blobs().join(digest.file_name())
    }

    /// Where a blob is, if it is there. A link to a file is as good as a file.
    pub fn blob(&self, digest: &Digest) -> Option<PathBuf> {
        let there = |path: &PathBuf| fs::metadata(path).is_ok_and(|about| about.is_file());
        self.blob_paths(digest).into_iter().find(there)
    }

    /// Its present name, and that of very old versions.
    fn blob_paths(&self, digest: &Digest) -> [PathBuf; 2] {
        [self.blob_path(digest), self.blobs().join(digest.to_string())]
    }

    /// A small blob's bytes.
    ///
    /// # Errors
    /// One that is missing, or larger than `limit`.
    pub fn read_small(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let missing = || StoreError::MissingBlob(*digest);
        let path = self.blob(digest).ok_or_else(missing)?;
        read_file(&path, limit)?.ok_or_else(missing)
    }

    /// The spelling that a name's parts have in the store, and the manifest's path.
    fn spelled(&self, name: &ModelName) -> Result<Option<(ModelName, PathBuf)>> {
        let mut path = self.manifests();
        let mut parts = Vec::with_capacity(4);
        for part in name.parts() {
            let Some(spelling) = spelling_in(&path, part)? else { return Ok(None) };
            path.push(&spelling);
            parts.push(spelling);
        }
        let parts: Result<[String; 4], _> = parts.try_into();
        Ok(parts.ok().map(|parts| (name.with_parts(parts), path)))
    }
}
