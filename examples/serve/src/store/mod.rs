//! The model store, on disk as Ollama's: `manifests/` and `blobs/`.
//!
//! ```text
//! manifests/HOST/NAMESPACE/MODEL/TAG   which blobs make a model
//! blobs/sha256-HEX                     a blob, complete and verified
//! blobs/sha256-HEX-partial[-N]         a download on its way
//! .lock  .pins/                        ours: who is at work (locks end with a process)
//! ```
//! A file appears under its final name only when it is complete, hashed and on the disk.
//! Blobs are removed only by one process at a time, never while a manifest cannot be
//! read, never what a manifest or somebody's pin names.

mod blob;
mod digest;
mod error;
mod garbage;
mod lock;
mod manifest;
pub mod media;
mod verify;

use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::name::ModelName;

pub use digest::Digest;
pub use error::StoreError;
pub use manifest::{Layer, Manifest};

use error::{Context, Result};

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
    /// Opens a store, and makes its folders if they are not there.
    ///
    /// # Errors
    /// Folders that cannot be made or read.
    pub fn open(root: &Path, no_prune: bool) -> Result<Self> {
        let store = Store(Arc::new(Parts { root: root.to_owned(), no_prune }));
        for folder in [store.manifests(), store.blobs(), store.pins()] {
            fs::create_dir_all(&folder).at(&folder)?;
        }
        store.rename_old_blobs()?;
        Ok(store)
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
        for (name, path) in self.manifest_files()? {
            match self.entry(&name, &path) {
                Ok(Some(entry)) => entries.push(entry),
                Ok(None) => {}
                Err(error) => tracing::warn!(%name, %error, "a manifest cannot be read"),
            }
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

    /// Where a blob is, if it is a file and no link out of the store.
    pub fn blob(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.blob_path(digest);
        fs::symlink_metadata(&path).ok().filter(|about| about.is_file()).map(|_| path)
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

    /// All files that have the place and the name of a manifest.
    fn manifest_files(&self) -> Result<Vec<(ModelName, PathBuf)>> {
        let mut found = Vec::new();
        let root = self.manifests();
        for (host, path) in folders(&root)? {
            for (namespace, path) in folders(&path)? {
                for (model, path) in folders(&path)? {
                    for (tag, path) in files(&path)? {
                        match ModelName::from_parts(&host, &namespace, &model, &tag) {
                            Some(name) => found.push((name, path)),
                            None => tracing::debug!(path = %path.display(), "no manifest's name"),
                        }
                    }
                }
            }
        }
        Ok(found)
    }
}

/// The whole of a small file; none if there is none.
fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let about = match fs::symlink_metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).at(path),
    };
    if !about.is_file() {
        return Err(StoreError::NoFile(path.to_owned()));
    }
    if about.len() > limit {
        return Err(StoreError::TooLarge { path: path.to_owned(), bytes: about.len(), limit });
    }
    let mut bytes = Vec::new();
    let file = fs::File::open(path).at(path)?;
    // It may have grown since.
    file.take(limit).read_to_end(&mut bytes).at(path)?;
    Ok(Some(bytes))
}

/// How `part` is spelled in a folder: as it is, else in other cases.
fn spelling_in(folder: &Path, part: &str) -> Result<Option<String>> {
    if fs::symlink_metadata(folder.join(part)).is_ok() {
        return Ok(Some(part.to_owned()));
    }
    let names = entries(folder)?.into_iter().map(|(name, _, _)| name);
    Ok(names.into_iter().find(|name| name.eq_ignore_ascii_case(part)))
}

fn folders(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let all = entries(folder)?.into_iter().filter(|(_, _, kind)| kind.is_dir());
    Ok(all.map(|(name, path, _)| (name, path)).collect())
}

fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let all = entries(folder)?.into_iter().filter(|(_, _, kind)| kind.is_file());
    Ok(all.map(|(name, path, _)| (name, path)).collect())
}

/// What is in a folder; nothing if the folder went away. Links are not followed.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf, fs::FileType)>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => match error.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory => {
                return Ok(Vec::new());
            }
            _ => return Err(error).at(folder),
        },
    };
    let mut all = Vec::new();
    for entry in entries {
        let entry = entry.at(folder)?;
        // What is no UTF-8 is no name of ours.
        if let (Ok(name), Ok(kind)) = (entry.file_name().into_string(), entry.file_type()) {
            all.push((name, entry.path(), kind));
        }
    }
    Ok(all)
}
