//! Writing blobs: under a temporary name until they are what they should be.

use std::fs;
use std::io::{self, Write};
use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::error::{Context, Result, StoreError};
use super::manifest::{new_file, sync_folder};
use super::{Digest, Store};

/// A blob on its way. Dropping it leaves nothing.
pub struct BlobWriter {
    store: Store,
    file: tempfile::NamedTempFile,
    hash: Sha256,
    size: u64,
}

impl Store {
    /// A new blob.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn begin_blob(&self) -> Result<BlobWriter> {
        self.make_folders()?;
        let file = new_file(&self.blobs()).at(&self.blobs());
        let file = file.map_err(|error| self.not_writable(error))?;
        Ok(BlobWriter { store: self.clone(), file, hash: Sha256::new(), size: 0 })
    }

    /// Takes a finished download into the store, if it is what it should be; otherwise
    /// it stays where it is.
    ///
    /// # Errors
    /// Another size, another digest, a system that refuses.
    pub fn adopt_partial(&self, path: &Path, digest: &Digest, size: u64) -> Result<()> {
        let mut file = fs::File::open(path).at(path)?;
        let got = file.metadata().at(path)?.len();
        if got != size {
            return Err(StoreError::Size { digest: *digest, wanted: size, got });
        }
        let hashed = Digest::of_reader(&mut file, |_| ()).at(path)?;
        if hashed != *digest {
            return Err(StoreError::Mismatch { wanted: *digest, got: hashed });
        }
        file.sync_all().at(path)?;
        let target = self.blob_path(digest);
        fs::rename(path, &target).at(&target)?;
        sync_folder(&self.blobs())
    }

    /// Blobs of very old versions have a colon in their name. They are found by that name
    /// too, so one that cannot be renamed is no loss.
    pub(super) fn rename_old_blobs(&self) -> Result<()> {
        for (name, path) in super::folder::files(&self.blobs())? {
            if name.starts_with("sha256:")
                && let Ok(digest) = name.parse::<Digest>()
                && fs::symlink_metadata(self.blob_path(&digest)).is_err()
                && let Err(error) = fs::rename(&path, self.blob_path(&digest))
            {
                tracing::debug!(path = %path.display(), %error, "keeps its old name");
            }
        }
        Ok(())
    }
}

impl BlobWriter {
    /// Gives the blob its name, if it is what it should be.
    ///
    /// # Errors
    /// Another size, another digest, a system that refuses: nothing is left then.
    pub fn finish(self, expected: Option<&Digest>, size: Option<u64>) -> Result<(Digest, u64)> {
        let BlobWriter { store, file, hash, size: got } = self;
        let digest = Digest::from_hash(hash);
        if let Some(&wanted) = expected.filter(|&&wanted| wanted != digest) {
            return Err(StoreError::Mismatch { wanted, got: digest });
        }
        if let Some(wanted) = size.filter(|&size| size != got) {
            return Err(StoreError::Size { digest, wanted, got });
        }
        if store.blob(&digest).is_none() {
            file.as_file().sync_all().at(file.path())?;
            let target = store.blob_path(&digest);
            file.persist(&target).map_err(|error| error.error).at(&target)?;
            sync_folder(&store.blobs())?;
        }
        Ok((digest, got))
    }
}

impl Write for BlobWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.size += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}
