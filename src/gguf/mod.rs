//! GGUF files: open (mapped or from bytes), look at, write.
//!
//! [`Gguf::open`] maps the file and reads only its front; weights stay where
//! they lie and are never copied. [`Gguf::from_bytes`] does the same without a
//! file.
//!
//! # What the mapping assumes
//! The file must not be changed in place while it is open. Replacing it by
//! rename and deleting it are safe (the old content stays mapped). Truncating
//! it ends the process with `SIGBUS` on the next read of a lost page, as with
//! any program that maps files; overwriting it gives wrong numbers, but no
//! broken invariants: all that is read from the front was copied and checked,
//! and weights are plain bytes of which every pattern is valid.

mod cursor;
mod metadata;
pub(crate) mod parse;
mod split;
mod value;
mod write;

use std::fs::File;
use std::path::Path;
use std::sync::Arc;

pub use metadata::Metadata;
pub use value::{Array, Strings, Unreadable, Value};
pub use write::{TensorSpec, Writer};

use crate::error::{Error, Result};
use crate::tensor::{Storage, Tensor};

/// Bounds on what a file may declare. Real models stay far below each; what
/// they protect is the memory that records take beside the file itself: never
/// more than four times the file and 1 MiB.
mod limit {
    /// Key/value pairs; real files have under 100.
    pub const PAIRS: u64 = 1 << 13;
    /// Tensors; real files have under 3,000.
    pub const TENSORS: u64 = 1 << 14;
    /// Bytes of a key or tensor name.
    pub const NAME: u64 = 1 << 16;
    /// Bytes of one string value.
    pub const STRING: u64 = 1 << 24;
    /// Elements of one array; the largest vocabularies have 262,144 entries.
    pub const ELEMENTS: u64 = 1 << 24;
    /// `general.alignment`.
    pub const ALIGNMENT: u32 = 1 << 16;
    /// Bytes of all pairs and records together. Vocabularies take up to 20 MB.
    /// It matters for sparse files, which declare what their disk never paid.
    pub const FRONT: usize = 1 << 28;
}

/// An open GGUF model: metadata and tensors, possibly from several files.
#[derive(Debug, Clone)]
pub struct Gguf {
    version: u32,
    alignment: u32,
    metadata: Metadata,
    tensors: Vec<Tensor>,
}

impl Gguf {
    /// Opens and maps `path`. For a split model give its first file
    /// (`…-00001-of-0000N.gguf`); the others are found beside it.
    ///
    /// # Errors
    /// [`Error::Io`] if a file cannot be read, [`Error::Misuse`] for the path of a
    /// directory or a device, [`Error::File`] if it breaks the format's rules, [`Error::Unsupported`] for what this reader does not
    /// read (version 1, big-endian, unknown tensor types).
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref();
        let first = Gguf::from_storage(map(path)?)?;
        split::join(first, path)
    }

    /// Reads a model that is already in memory; `bytes` are not copied. Of a
    /// split model this reads one part.
    ///
    /// # Errors
    /// As [`open`](Self::open), without those of the file system.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self> {
        Gguf::from_storage(Arc::new(bytes.into().0))
    }

    fn from_storage(storage: Arc<Storage>) -> Result<Self> {
        let header = parse::parse(storage.bytes())?;
        let tensors =
            header.tensors.into_iter().map(|record| Tensor::new(record, storage.clone())).collect();
        Ok(Gguf {
            version: header.version,
            alignment: header.alignment,
            metadata: header.metadata,
            tensors,
        })
    }

    /// The format version: 2 or 3.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// Alignment of tensor data in bytes.
    pub fn alignment(&self) -> u32 {
        self.alignment
    }

    /// The key/value pairs.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The tensors in the order of the directory.
    pub fn tensors(&self) -> &[Tensor] {
        &self.tensors
    }

    /// The same file with other keys and tensors.
    pub(crate) fn with(&self, metadata: Metadata, tensors: Vec<Tensor>) -> Self {
        Gguf { metadata, tensors, ..*self }
    }

    /// The tensor called `name`. Looks through all of them.
    pub fn tensor(&self, name: &str) -> Option<&Tensor> {
        self.tensors.iter().find(|tensor| tensor.name() == name)
    }
}

/// The bytes of a model in memory: borrowed for ever, shared, or owned.
#[derive(Debug)]
pub struct Bytes(Storage);

impl From<&'static [u8]> for Bytes {
    fn from(bytes: &'static [u8]) -> Self {
        Bytes(Storage::Static(bytes))
    }
}

impl From<Arc<[u8]>> for Bytes {
    fn from(bytes: Arc<[u8]>) -> Self {
        Bytes(Storage::Shared(bytes))
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Bytes(Storage::Owned(bytes))
    }
}

fn map(path: &Path) -> Result<Arc<Storage>> {
    // Look before opening: opening a FIFO would wait for a writer for ever.
    let about = std::fs::metadata(path).map_err(|source| Error::io(path, source))?;
    if !about.is_file() {
        let kind = if about.is_dir() { "a directory" } else { "not a regular file" };
        return Err(Error::misuse(format!(
            "{} is {kind}; give the path of a .gguf file",
            path.display()
        )));
    }
    let file = File::open(path).map_err(|source| Error::io(path, source))?;
    let len = file.metadata().map_err(|source| Error::io(path, source))?.len();
    if len == 0 {
        return Err(parse::not_gguf(&[])); // an empty mapping is not possible
    }
    // SAFETY: the mapping is private to reading. Nobody can prove that other
    // processes leave the file alone; the module documentation says what
    // happens if they do not. Nothing but plain bytes is ever read from it.
    let map = unsafe { memmap2::Mmap::map(&file) }.map_err(|source| Error::io(path, source))?;
    // What is not in the page cache yet comes there in huge pages: the first token takes
    // half as long, decode is 5 % faster. Without them all still works.
    #[cfg(target_os = "linux")]
    let _ = map.advise(memmap2::Advice::HugePage);
    Ok(Arc::new(Storage::Mapped(map)))
}
