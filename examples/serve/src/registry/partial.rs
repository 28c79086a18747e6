//! A download on its way, on disk, in Ollama's form: a sparse file and one small JSON
//! file per part. A real Ollama on the same folder goes on where we ended, and we there.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use crate::store::{Digest, Store, is_for_want_of_locks};

use super::{RegistryError, RegistryOptions};

/// Parts at most. Ollama makes 16, and more only of blobs of over 16 GB.
const MOST_PARTS: usize = 4096;

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
    #[allow(dead_code, reason = "dropping it gives the file free")]
    here: Here,
    file: File,
    pub size: u64,
    pub parts: Vec<Part>,
}

/// Partial files that this process writes. Where the file system has no locks, this keeps
/// at least two pulls of one server apart.
static HERE: Mutex<BTreeSet<PathBuf>> = Mutex::new(BTreeSet::new());

/// One of them.
struct Here(PathBuf);

impl Here {
    fn enter(path: &Path) -> Option<Self> {
        let mut here = HERE.lock().unwrap_or_else(PoisonError::into_inner);
        here.insert(path.to_owned()).then(|| Here(path.to_owned()))
    }
}

impl Drop for Here {
    fn drop(&mut self) {
        HERE.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.0);
    }
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
        let path = Self::path(store, digest);
        let others = || {
            let records = read_records(&path);
            let completed = records.iter().flatten().map(|record| record.completed);
            Ok(Claim::Others(completed.fold(0, u64::saturating_add)))
        };
        let Some(here) = Here::enter(&path) else { return others() };
        loop {
            let failed = |error: std::io::Error| disk(&path, &error);
            let opened = File::options().create(true).truncate(false).write(true).open(&path);
            let file = opened.map_err(failed)?;
            match file.try_lock() {
                Ok(()) => {}
                Err(fs::TryLockError::WouldBlock) => return others(),
                Err(fs::TryLockError::Error(error)) if is_for_want_of_locks(&error) => {}
                Err(fs::TryLockError::Error(error)) => return Err(failed(error)),
            }
            // It may have become a blob, or have been removed, while we waited.
            let (ours, there) = (file.metadata().map_err(failed)?, fs::metadata(&path));
            if there.is_ok_and(|there| there.ino() == ours.ino() && there.dev() == ours.dev()) {
                return Self::resume(here, file, size, options).map(Claim::Ours);
            }
        }
    }

    /// Goes on with what is there, if it fits; else begins.
    fn resume(
        here: Here,
        file: File,
        size: u64,
        options: &RegistryOptions,
    ) -> Result<Self, RegistryError> {
        let path = here.0.clone();
        let failed = |error: std::io::Error| disk(&path, &error);
        let length = file.metadata().map_err(failed)?.len();
        let records = if length == size { read_records(&path) } else { Vec::new() };
        let mut partial = Partial { path: path.clone(), here, file, size, parts: Vec::new() };
        if let Some(records) = mended(&records, size) {
            partial.parts = records.into_iter().map(Part::from).collect();
            return Ok(partial);
        }
        // Not one moment with records of bytes that are gone.
        Self::forget_records(&path);
        partial.file.set_len(0).map_err(failed)?;
        partial.file.set_len(size).map_err(failed)?;
        partial.plan(planned_part(size, options), 0)?;
        Ok(partial)
    }

    /// Makes one part of all, for registries that send only wholes. What is there from
    /// the start on stays.
    ///
    /// # Errors
    /// A disk that refuses.
    pub fn join_parts(&mut self) -> Result<(), RegistryError> {
        let mut there = 0;
        for part in &self.parts {
            let completed = part.completed.load(Ordering::Relaxed);
            there += completed;
            if completed < part.size {
                break;
            }
        }
        self.plan(self.size, there)
    }

    /// New parts of `part` bytes; `there` bytes of the first are there.
    fn plan(&mut self, part: u64, there: u64) -> Result<(), RegistryError> {
        Self::forget_records(&self.path);
        let step = usize::try_from(part.max(1)).unwrap_or(usize::MAX);
        let offsets = (0..self.size).step_by(step);
        self.parts = offsets
            .enumerate()
            .map(|(n, offset)| Part {
                n,
                offset,
                size: part.min(self.size - offset),
                completed: AtomicU64::new(if n == 0 { there } else { 0 }),
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

    /// Where the partial file of a blob is.
    pub fn path(store: &Store, digest: &Digest) -> PathBuf {
        store.blob_path(digest).with_file_name(format!("{}-partial", digest.file_name()))
    }

    /// Removes the records: of a blob that is complete.
    pub fn forget_records(path: &Path) {
        let count = (0..MOST_PARTS).take_while(|&n| record_path(path, n).exists()).count();
        // The last one first: wherever the process ends, those that are left have no gap
        // before them and are found again.
        for n in (0..count).rev() {
            let _ = fs::remove_file(record_path(path, n));
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
    let part = (size / 16).clamp(least.max(1), most.max(least).max(1));
    part.max(size.div_ceil(MOST_PARTS as u64))
}

fn record_path(partial: &Path, n: usize) -> PathBuf {
    let mut name = partial.as_os_str().to_owned();
    name.push(format!("-{n}"));
    name.into()
}

/// The records that are there, by number; none in place of a damaged one: a process
/// that does not replace its records in one step may have ended.
fn read_records(partial: &Path) -> Vec<Option<Record>> {
    let mut records = Vec::new();
    for n in 0..MOST_PARTS {
        let Ok(bytes) = fs::read(record_path(partial, n)) else { break };
        let record = serde_json::from_slice::<Record>(&bytes).ok();
        records.push(record.filter(|record| record.n == n));
    }
    records
}

/// The parts of a blob of this size, without a gap. Where a record is damaged between
/// good ones its part begins anew.
fn mended(records: &[Option<Record>], size: u64) -> Option<Vec<Record>> {
    let mut at = 0u64;
    let mut all = Vec::with_capacity(records.len());
    for (n, record) in records.iter().enumerate() {
        let next = || match records.get(n + 1) {
            Some(next) => next.map(|next| next.offset),
            None => Some(size),
        };
        let record = match record {
            Some(record) => *record,
            None => Record { n, offset: at, size: next()?.checked_sub(at)?, completed: 0 },
        };
        if record.offset != at || record.size == 0 || record.completed > record.size {
            return None;
        }
        at = at.checked_add(record.size)?;
        all.push(record);
    }
    (at == size && !all.is_empty()).then_some(all)
}
