//! Who is at work in a store: locks that end with their process.

use std::fs::{self, File, TryLockError};
use std::io::{self, Read, Write};

use super::error::{Context, Result, StoreError};
use super::{Digest, Store};

/// Held while manifests change and while blobs are removed: by one process at a time.
pub(super) struct Alone {
    #[allow(dead_code, reason = "dropping it unlocks")]
    file: File,
    locked: bool,
}

impl Alone {
    /// Whether it keeps others out: some network file systems have no locks.
    pub fn is_locked(&self) -> bool {
        self.locked
    }
}

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
        let mut options = File::options();
        let opened = options.create(true).truncate(false).write(true).open(&path);
        let file = match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                fs::create_dir_all(self.root())
                    .at(self.root())
                    .map_err(|e| self.not_writable(e))?;
                options.open(&path)
            }
            // Another user made it: a lock needs no right to write.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                File::open(&path).map_err(|_| error)
            }
            opened => opened,
        };
        let file = file.at(&path).map_err(|error| self.not_writable(error))?;
        let locked = supported(file.lock()).at(&path)?;
        Ok(Alone { file, locked })
    }

    /// Keeps blobs from being removed, by any process.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn pin(&self, digests: &[Digest]) -> Result<Pin> {
        // Not between the moments when somebody looks for pins and removes blobs.
        let _alone = self.lock_alone()?;
        self.make_folders()?;
        let file = tempfile::Builder::new().prefix("pin-").tempfile_in(self.pins());
        let file = file.at(&self.pins()).map_err(|error| self.not_writable(error))?;
        let (mut file, path) = file.keep().map_err(|e| e.error).at(&self.pins())?;
        supported(file.lock()).at(&path)?;
        for digest in digests {
            writeln!(file, "{digest}").at(&path)?;
        }
        Ok(Pin { file, path })
    }

    /// What is pinned. Pins whose process is gone are removed: their lock is free.
    ///
    /// # Errors
    /// A pin that cannot be read: nobody knows what it keeps.
    pub(super) fn pinned(&self) -> Result<Vec<Digest>> {
        let mut pinned = Vec::new();
        for (_, path) in super::folder::files(&self.pins())? {
            let mut file = match File::open(&path) {
                Ok(file) => file,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error).at(&path),
            };
            match file.try_lock() {
                Ok(()) => {
                    // Gone already is as good.
                    let _ = fs::remove_file(&path);
                    continue;
                }
                Err(TryLockError::WouldBlock) => {}
                Err(TryLockError::Error(error)) => return Err(error).at(&path),
            }
            let mut text = String::new();
            file.read_to_string(&mut text).at(&path)?;
            for line in text.lines() {
                pinned.push(line.parse().map_err(|_| StoreError::NoPin(path.clone()))?);
            }
        }
        Ok(pinned)
    }
}

/// Whether there is a lock now; an error of its own if it is not for want of locks.
fn supported(locked: io::Result<()>) -> io::Result<bool> {
    match locked {
        Ok(()) => Ok(true),
        Err(error) if is_for_want_of_locks(&error) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether the file system has no locks: some network file systems do not.
pub fn is_for_want_of_locks(error: &io::Error) -> bool {
    /// Linux's numbers: no locks available, not supported by this file system.
    const WITHOUT: [i32; 2] = [37, 95];
    error.kind() == io::ErrorKind::Unsupported
        || error.raw_os_error().is_some_and(|number| WITHOUT.contains(&number))
}

impl Drop for Pin {
    fn drop(&mut self) {
        // If it stays, the next collection finds its lock free.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Network file systems without locks say so in these ways.
    #[test]
    fn a_file_system_may_have_no_locks() {
        assert!(supported(Ok(())).unwrap());
        for error in [
            io::Error::from_raw_os_error(37),
            io::Error::from_raw_os_error(95),
            io::ErrorKind::Unsupported.into(),
        ] {
            assert!(!supported(Err(error)).unwrap());
        }
        assert!(supported(Err(io::Error::from_raw_os_error(5))).is_err());
    }
}
