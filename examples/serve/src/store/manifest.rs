//! Manifests: which blobs make a model.

use serde::{Deserialize, Deserializer, Serialize};

use super::Digest;
use super::error::{Context, Result, StoreError};
use super::folder::{read_file, spelling_in};
use super::tree::TEMPORARY;
use super::{Entry, Store};
use crate::name::ModelName;

use std::fs;
use std::io::{self, Write};
use std::path::Path;

/// One blob of a model.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Layer {
    /// What it is.
    #[serde(rename = "mediaType", default, deserialize_with = "null_too")]
    pub media_type: String,
    /// Its name.
    pub digest: Digest,
    /// Its bytes.
    pub size: u64,
    /// The model that it was taken over from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// Its name in a model of many files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// A model: its config and its layers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Manifest {
    /// 2
    #[serde(rename = "schemaVersion", default, deserialize_with = "null_too")]
    pub schema_version: u32,
    /// Docker's type of manifests.
    #[serde(rename = "mediaType", default, deserialize_with = "null_too")]
    pub media_type: String,
    /// Facts about the model.
    pub config: Layer,
    /// Weights, template, options, …
    #[serde(default, deserialize_with = "null_too")]
    pub layers: Vec<Layer>,
}

/// Go writes an empty list as null, and reads null as what is empty.
fn null_too<'de, D, T>(deserializer: D) -> std::result::Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Manifest {
    /// Bytes of a manifest at most.
    pub const LARGEST: u64 = 4 << 20;
    /// Layers at most.
    const LAYERS: usize = 256;

    /// Reads a manifest, of a model that cannot be run here too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| error.to_string())
    }

    /// Reads the manifest of a model that can be run.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        if bytes.len() as u64 > Self::LARGEST {
            return Err(format!("it has {} bytes; {} are the most", bytes.len(), Self::LARGEST));
        }
        let manifest = Self::read(bytes)?;
        if manifest.layers.len() > Self::LAYERS {
            let count = manifest.layers.len();
            return Err(format!("it has {count} layers; {} are the most", Self::LAYERS));
        }
        Ok(manifest)
    }

    /// Config and layers.
    pub fn all(&self) -> impl Iterator<Item = &Layer> {
        self.layers.iter().chain([&self.config])
    }
}

impl Store {
    /// Writes a manifest, byte for byte: its digest is the model's id. What it replaces
    /// is returned; its layers are still there.
    ///
    /// # Errors
    /// Bytes that are no manifest; layers that are missing or have another size; a
    /// system that refuses. The old manifest stays then.
    pub fn write_manifest(&self, name: &ModelName, bytes: &[u8]) -> Result<Option<Entry>> {
        let wrong = |problem| StoreError::Manifest { name: name.short(), problem };
        let manifest = Manifest::parse(bytes).map_err(wrong)?;
        let _alone = self.lock_alone()?;
        self.make_folders()?;
        for layer in manifest.all() {
            let path = self.blob(&layer.digest).ok_or(StoreError::MissingBlob(layer.digest))?;
            let got = fs::metadata(&path).at(&path)?.len();
            if got != layer.size {
                let (digest, wanted) = (layer.digest, layer.size);
                return Err(StoreError::Size { digest, wanted, got });
            }
        }
        self.replace_manifest(name, bytes)
    }

    /// Gives a model a second name.
    ///
    /// # Errors
    /// No such model; a system that refuses.
    pub fn copy(&self, from: &ModelName, to: &ModelName) -> Result<Option<Entry>> {
        let _alone = self.lock_alone()?;
        let missing = || StoreError::NoModel(from.short());
        let (_, path) = self.spelled(from)?.ok_or_else(missing)?;
        let bytes = read_file(&path, Manifest::LARGEST)?.ok_or_else(missing)?;
        let wrong = |problem| StoreError::Manifest { name: from.short(), problem };
        Manifest::read(&bytes).map_err(wrong)?;
        self.make_folders()?;
        self.replace_manifest(to, &bytes)
    }

    /// Temporary file, sync, rename, sync of the folder: after a crash there is the old
    /// one or the new one.
    fn replace_manifest(&self, name: &ModelName, bytes: &[u8]) -> Result<Option<Entry>> {
        // A damaged manifest is replaced like none.
        let old = self.find(name).unwrap_or_else(|error| {
            tracing::warn!(%error, "replaced");
            None
        });
        let path = match self.spelled(name)? {
            Some((_, path)) => path,
            None => self.new_path(name)?,
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let made = fs::create_dir_all(folder).at(folder);
        made.map_err(|error| self.not_writable(error))?;
        // Not among the tags, if that can be avoided: another program may look there.
        let moved = put_file(&self.manifests(), &path, bytes);
        match moved {
            // A link leads to another disk.
            Err(error) if error.kind() == io::ErrorKind::CrossesDevices => {
                put_file(folder, &path, bytes)
            }
            moved => moved,
        }
        .at(&path)
        .map_err(|error| self.not_writable(error))?;
        // New folders, up to the store's own.
        for folder in path.ancestors().skip(1).take(5) {
            sync_folder(folder)?;
        }
        Ok(old)
    }

    /// The path of a new manifest: parts that are there keep their spelling.
    fn new_path(&self, name: &ModelName) -> Result<std::path::PathBuf> {
        let mut path = self.manifests();
        for part in name.parts() {
            let spelling = spelling_in(&path, part)?;
            path.push(spelling.as_deref().unwrap_or(part));
        }
        Ok(path)
    }
}

/// A file with these bytes, by way of a temporary one in `folder`.
fn put_file(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = new_file(folder)?;
    temporary.write_all(bytes)?;
    temporary.as_file().sync_all()?;
    temporary.persist(path).map(drop).map_err(|error| error.error)
}

/// A temporary file that everybody may read once it has its name.
pub(super) fn new_file(folder: &Path) -> io::Result<tempfile::NamedTempFile> {
    use std::os::unix::fs::PermissionsExt;
    let mode = fs::Permissions::from_mode(0o644);
    tempfile::Builder::new().prefix(TEMPORARY).permissions(mode).tempfile_in(folder)
}

/// Has the folder's entries on the disk.
pub(super) fn sync_folder(folder: &Path) -> Result<()> {
    fs::File::open(folder).and_then(|folder| folder.sync_all()).at(folder)
}
