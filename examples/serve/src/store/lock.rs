//! Who is at work in a store: locks that end with their process.

use std::fs::{self, File};
use std::io::{Read, Write};

use super::error::{Context, Result};
use super::{Digest, Store};

/// Held while manifests change and while blobs are removed: by one process at a time.
pub(super) struct Alone(#[allow(dead_code, reason = "dropping it unlocks")] File);

/// Blobs that somebody's pull or create needs, though no manifest names them yet. They
/// are not removed while this lives.
#[derive(Debug)]
pub struct Pin {
    #[allow(dead_code, reason = "dropping it unlocks")]
    file: File,
    path: std::path::PathBuf,
}

impl Store {
    /// Waits until nobody else changes the store.
    pub(super) fn lock_alone(&self) -> Result<Alone> {
        let path = self.root().join(".lock");
        let file =
            File::options().create(true).truncate(false).write(true).open(&path).at(&path)?;
        file.lock().at(&path)?;
        Ok(Alone(file))
    }

    /// Keeps blobs from being removed, by any process.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn pin(&self, digests: &[Digest]) -> Result<Pin> {
        // Not between the moments when somebody looks for pins and removes blobs.
        let _alone = self.lock_alone()?;
        let file = tempfile::Builder::new().prefix("pin-").tempfile_in(self.pins());
        let (mut file, path) =
            file.at(&self.pins())?.keep().map_err(|e| e.error).at(&self.pins())?;
        file.lock().at(&path)?;
        for digest in digests {
            writeln!(file, "{digest}").at(&path)?;
        }
        Ok(Pin { file, path })
    }

    /// What is pinned. Pins whose process is gone are removed: their lock is free.
    pub(super) fn pinned(&self) -> Result<Vec<Digest>> {
        let mut pinned = Vec::new();
        for (_, path) in super::files(&self.pins())? {
            let Ok(mut file) = File::open(&path) else { continue };
            if file.try_lock().is_ok() {
                // Gone already is as good.
                let _ = fs::remove_file(&path);
                continue;
            }
            let mut text = String::new();
            file.read_to_string(&mut text).at(&path)?;
            pinned.extend(text.lines().filter_map(|line| line.parse::<Digest>().ok()));
        }
        Ok(pinned)
    }
}

impl Drop for Pin {
    fn drop(&mut self) {
        // If it stays, the next collection finds its lock free.
        let _ = fs::remove_file(&self.path);
    }
}
