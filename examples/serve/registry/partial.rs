//! A download on its way, on disk, in Ollama's form: a sparse file and one small JSON
//! file per part. A real Ollama on the same folder goes on where we ended, and we there.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use serde::{Deserialize, Serialize};

use crate::store::{Digest, Store};

use super::{RegistryError, RegistryOptions};

/// A part of a blob, as its file says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Record {
    n: usize,
    offset: u64,
    size: u64,
    completed: u64,
}

/// A part of a blob.
pub(super) struct Part {
    pub n: usize,
    pub offset: u64,
    pub size: u64,
    /// Bytes from its start that are in the file.
    pub completed: AtomicU64,
}

/// A locked partial file: nobody else writes it.
pub(super) struct Partial {
    pub path: PathBuf,
    file: File,
    pub size: u64,
    pub parts: Vec<Part>,
}

/// Whether the partial file could be had.
pub(super) enum Claim {
    /// It is ours.
    Ours(Partial),
    /// Somebody else downloads it; so many bytes are there.
    Others(u64),
}

fn disk(path: &Path, error: &std::io::Error) -> RegistryError {
    let text = match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "no space left on the disk; free some and pull again, it goes on where it ended".into()
        }
        _ => error.to_string(),
    };
    RegistryError::Disk(format!("{}: {text}", path.display()))
}

impl Partial {
    /// Takes the partial file of a blob, if nobody else has it.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn claim(
        store: &Store,
        digest: &Digest,
        size: u64,
        options: &RegistryOptions,
    ) -> Result<Claim, RegistryError> {
        let path = store.blob_path(digest).with_file_name(format!("{}-partial", digest.file_name()));
        loop {
            let failed = |error: std::io::Error| disk(&path, &error);
            let opened = File::options().create(true).truncate(false).write(true).open(&path);
            let file = opened.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => {
                    let records = read_records(&path);
                    return Ok(Claim::Others(records.iter().map(|r| r.completed).sum()));
                }
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            // It may have become a blob, or have been removed, while we waited.
            let (ours, there) = (file.metadata().map_err(failed)?, fs::metadata(&path));
            if there.is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev()) {
                return Self::resume(path, file, size, options).map(Claim::Ours);
            }
        }
    }

    /// Goes on with what is there, if it fits; else begins.
    fn resume(
        path: PathBuf,
        file: File,
        size: u64,
        options: &RegistryOptions,
    ) -> Result<Self, RegistryError> {
        let failed = |error: std::io::Error| disk(&path, &error);
        let length = file.metadata().map_err(failed)?.len();
        let records = if length == size { read_records(&path) } else { Vec::new() };
        let mut partial = Partial { path: path.clone(), file, size, parts: Vec::new() };
        if covers(&records, size) {
            partial.parts = records.into_iter().map(Part::from).collect();
            return Ok(partial);
        }
        partial.file.set_len(0).map_err(failed)?;
        partial.file.set_len(size).map_err(failed)?;
        partial.plan(planned_part(size, options))?;
        Ok(partial)
    }

    /// Begins anew as one part: for registries that send only wholes.
    pub fn restart_whole(&mut self) -> Result<(), RegistryError> {
        self.plan(self.size.max(1))
    }

    fn plan(&mut self, part: u64) -> Result<(), RegistryError> {
        for record in read_records(&self.path) {
            let _ = fs::remove_file(record_path(&self.path, record.n));
        }
        let offsets = (0..self.size).step_by(usize::try_from(part).unwrap_or(usize::MAX));
        self.parts = offsets
            .enumerate()
            .map(|(n, offset)| Part {
                n,
                offset,
                size: part.min(self.size - offset),
                completed: AtomicU64::new(0),
            })
            .collect();
        self.parts.iter().try_for_each(|part| self.record(part))
    }

    /// Bytes that are there.
    pub fn completed(&self) -> u64 {
        self.parts.iter().map(|part| part.completed.load(Ordering::Relaxed)).sum()
    }

    /// Puts bytes behind what is there of a part, and writes down that they are.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn append(&self, part: &Part, bytes: &[u8]) -> Result<(), RegistryError> {
        let at = part.completed.load(Ordering::Relaxed);
        let written = self.file.write_all_at(bytes, part.offset + at);
        written.map_err(|error| disk(&self.path, &error))?;
        part.completed.store(at + bytes.len() as u64, Ordering::Relaxed);
        self.record(part)
    }

    /// The old record or the new one, whenever the process ends.
    fn record(&self, part: &Part) -> Result<(), RegistryError> {
        let path = record_path(&self.path, part.n);
        let record = Record {
            n: part.n,
            offset: part.offset,
            size: part.size,
            completed: part.completed.load(Ordering::Relaxed),
        };
        let folder = path.parent().unwrap_or(Path::new("."));
        let write = || -> std::io::Result<()> {
            let mut file = tempfile::Builder::new().prefix(".tmp-").tempfile_in(folder)?;
            file.write_all(&serde_json::to_vec(&record)?)?;
            file.persist(&path)?;
            Ok(())
        };
        write().map_err(|error| disk(&path, &error))
    }

    /// Removes the records: of a blob that is complete.
    pub fn forget_records(path: &Path) {
        for record in read_records(path) {
            let _ = fs::remove_file(record_path(path, record.n));
        }
    }

    /// Removes everything: what came was something else.
    pub fn discard(path: &Path) {
        Self::forget_records(path);
        let _ = fs::remove_file(path);
    }
}

impl From<Record> for Part {
    fn from(record: Record) -> Self {
        let Record { n, offset, size, completed } = record;
        Part { n, offset, size, completed: AtomicU64::new(completed) }
    }
}

/// Bytes of a part: a sixteenth, within bounds.
fn planned_part(size: u64, options: &RegistryOptions) -> u64 {
    let (least, most) = options.part_bytes;
    (size / 16).clamp(least.max(1), most.max(least).max(1))
}

fn record_path(partial: &Path, n: usize) -> PathBuf {
    let mut name = partial.as_os_str().to_owned();
    name.push(format!("-{n}"));
    name.into()
}

/// The records that are there, by number; damaged ones are as if they were not.
fn read_records(partial: &Path) -> Vec<Record> {
    let mut records = Vec::new();
    // Ollama makes up to 16 + 1; more only if blobs are larger than 16 GB.
    for n in 0..4096 {
        let Ok(bytes) = fs::read(record_path(partial, n)) else { break };
        match serde_json::from_slice::<Record>(&bytes) {
            Ok(record) if record.n == n => records.push(record),
            _ => break,
        }
    }
    records
}

/// Whether the records are of a blob of this size, without a gap.
fn covers(records: &[Record], size: u64) -> bool {
    let mut at = 0u64;
    for record in records {
        if record.offset != at || record.size == 0 || record.completed > record.size {
            return false;
        }
        let Some(end) = at.checked_add(record.size) else { return false };
        at = end;
    }
    at == size && !records.is_empty()
}
