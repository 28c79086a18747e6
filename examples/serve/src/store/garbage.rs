//! Removing models, and the blobs that no model needs.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::error::{Context, Result};
use super::{Digest, Entry, Store};
use crate::name::ModelName;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

impl Store {
    /// Removes a model, and then those of its layers that no other needs. What was
    /// removed, if it was there.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn delete(&self, name: &ModelName) -> Result<Option<Entry>> {
        let _alone = self.lock_alone()?;
        let Some((name, path)) = self.spelled(name)? else { return Ok(None) };
        // One that cannot be read can still be removed; its blobs stay.
        let entry = self.entry(&name, &path);
        fs::remove_file(&path).at(&path)?;
        self.remove_empty_folders(&path);
        let entry = entry?;
        if let Some(entry) = &entry {
            let layers: Vec<Digest> = entry.manifest.all().map(|layer| layer.digest).collect();
            self.remove_unneeded(&layers)?;
        }
        Ok(entry)
    }

    /// Removes those of `layers` that no model needs; not if blobs are to stay.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn release(&self, layers: &[Digest]) -> Result<()> {
        if self.0.no_prune {
            return Ok(());
        }
        let _alone = self.lock_alone()?;
        self.remove_unneeded(layers)
    }

    fn remove_unneeded(&self, layers: &[Digest]) -> Result<()> {
        let Some(needed) = self.needed()? else { return Ok(()) };
        for digest in layers.iter().filter(|digest| !needed.contains(digest)) {
            if let Some(path) = self.blob(digest) {
                fs::remove_file(&path).at(&path)?;
            }
        }
        Ok(())
    }

    /// What manifests and pins name; none if a manifest cannot be read, because then
    /// nobody knows.
    fn needed(&self) -> Result<Option<HashSet<Digest>>> {
        let mut needed: HashSet<Digest> = self.pinned()?.into_iter().collect();
        for (name, path) in self.manifest_files()? {
            match self.entry(&name, &path) {
                Ok(Some(entry)) => needed.extend(entry.manifest.all().map(|layer| layer.digest)),
                Ok(None) => {}
                Err(error) => {
                    tracing::warn!(%error, "no blob is removed while this manifest is damaged");
                    return Ok(None);
                }
            }
        }
        Ok(Some(needed))
    }

    /// Removes what is older than `age` and needed by nobody: blobs, downloads and
    /// uploads that ended early, empty folders.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn prune(&self, age: Duration) -> Result<Pruned> {
        let _alone = self.lock_alone()?;
        let mut pruned = Pruned::default();
        let Some(needed) = self.needed()? else { return Ok(pruned) };
        let places = [self.blobs(), self.manifests()];
        let all = places.iter().map(|folder| super::files(folder)).collect::<Result<Vec<_>>>()?;
        for (name, path) in all.into_iter().flatten() {
            let (blob, partial) = of_blob(&name);
            // What is left of a download whose blob came is needed by nobody.
            let came = partial.is_some() && blob.is_some_and(|blob| self.blob(&blob).is_some());
            if !came && blob.is_some_and(|blob| needed.contains(&blob)) {
                continue;
            }
            let Ok(about) = fs::metadata(&path) else { continue };
            // A download is as old as what was written last: its first parts are not
            // taken away from the others.
            let last = partial.and_then(|file| fs::metadata(self.blobs().join(file)).ok());
            let time = last.as_ref().unwrap_or(&about).modified();
            let old = time.is_ok_and(|time| time.elapsed().is_ok_and(|a| a >= age));
            if old && fs::remove_file(&path).is_ok() {
                pruned.files += 1;
                pruned.bytes += about.len();
            }
        }
        remove_empty(&self.manifests(), 3);
        Ok(pruned)
    }

    /// The folders of a manifest that went, as far as they are empty.
    fn remove_empty_folders(&self, manifest: &Path) {
        for folder in manifest.ancestors().skip(1).take(3) {
            // Not empty is the usual reason.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

/// The blob that a file is, or is a part of, and the partial file if it is that or a
/// record of it.
fn of_blob(name: &str) -> (Option<Digest>, Option<&str>) {
    const PARTIAL: &str = "-partial";
    match name.find(PARTIAL) {
        Some(end) => (name[..end].parse().ok(), Some(&name[..end + PARTIAL.len()])),
        None => (name.parse().ok(), None),
    }
}

/// Removes folders below that have nothing in them.
fn remove_empty(folder: &Path, depth: usize) {
    for (_, path) in super::folders(folder).unwrap_or_default() {
        if depth > 1 {
            remove_empty(&path, depth - 1);
        }
        let _ = fs::remove_dir(&path);
    }
}
