//! What can go wrong in a store.

use std::io;
use std::path::{Path, PathBuf};

use super::Digest;

/// One sentence for a person.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The system refused.
    #[error("{}: {}", path.display(), sentence(source))]
    Io {
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something else than was promised.
    #[error("digest mismatch, expected \"{wanted}\", got \"{got}\"")]
    Mismatch {
        /// What was promised.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
    /// Longer or shorter than was promised.
    #[error("{digest} should have {wanted} bytes and has {got}; fetch it again")]
    Size {
        /// Of which blob.
        digest: Digest,
        /// What was promised.
        wanted: u64,
        /// What came.
        got: u64,
    },
    /// A manifest that is none.
    #[error("the manifest of {name} cannot be used: {problem}")]
    Manifest {
        /// The model.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A blob that should be there.
    #[error("blob {0} is missing; pull or create the model again")]
    MissingBlob(Digest),
    /// A folder, a pipe or a device where a file belongs.
    #[error("{}: is no file; remove it, or move it away", .0.display())]
    NoFile(PathBuf),
    /// A link to nothing.
    #[error("{}: is a link that leads nowhere; mount or restore what it leads to", .0.display())]
    DeadLink(PathBuf),
    /// A file where the store's folder belongs.
    #[error("{}: is no folder; name the folder of the models with --models", .0.display())]
    NoFolder(PathBuf),
    /// A pin that says something else than digests.
    #[error("{}: is no list of digests", .0.display())]
    NoPin(PathBuf),
    /// A store that can only be read.
    #[error(
        "the models folder {} cannot be written: {reason}; pull, create, cp and rm need a folder \
         that the server's user may write",
        root.display()
    )]
    NotWritable {
        /// The store.
        root: PathBuf,
        /// Which part, and why.
        reason: String,
    },
    /// A file that is larger than its kind can be.
    #[error("{}: has {bytes} bytes; at most {limit} make sense there", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its size.
        bytes: u64,
        /// What makes sense.
        limit: u64,
    },
    /// There is no such model.
    #[error("model {0:?} not found")]
    NoModel(String),
}

/// The store's result.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

fn sentence(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
            "no space left on the disk; free some and try again, what is complete stays".into()
        }
        io::ErrorKind::PermissionDenied => "permission denied; check the folder's owner".into(),
        io::ErrorKind::ReadOnlyFilesystem => "the file system is read-only".into(),
        io::ErrorKind::AlreadyExists => "something else is there; move it away".into(),
        _ => error.to_string(),
    }
}

/// Adds the path to the system's errors.
pub trait Context<T> {
    /// `path` is what was being used.
    ///
    /// # Errors
    /// The same, with the path.
    fn at(self, path: &Path) -> Result<T>;
}

impl<T> Context<T> for io::Result<T> {
    fn at(self, path: &Path) -> Result<T> {
        self.map_err(|source| StoreError::Io { path: path.to_owned(), source })
    }
}
