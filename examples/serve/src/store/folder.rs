//! Reading folders and small files. Links are followed, as Ollama follows them.

use std::ffi::OsString;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use super::error::{Context, Result, StoreError};

/// The whole of a small file; none if there is none.
pub(super) fn read_file(path: &Path, limit: u64) -> Result<Option<Vec<u8>>> {
    let about = match fs::metadata(path) {
        Ok(about) => about,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return match fs::symlink_metadata(path) {
                Ok(_) => Err(StoreError::DeadLink(path.to_owned())),
                Err(_) => Ok(None),
            };
        }
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
pub(super) fn spelling_in(folder: &Path, part: &str) -> Result<Option<String>> {
    if fs::symlink_metadata(folder.join(part)).is_ok() {
        return Ok(Some(part.to_owned()));
    }
    let names = names(folder)?.into_iter().filter_map(|name| name.into_string().ok());
    Ok(names.into_iter().find(|name| name.eq_ignore_ascii_case(part)))
}

/// What is in a folder; nothing if the folder is not there.
pub(super) fn names(folder: &Path) -> Result<Vec<OsString>> {
    let entries = match fs::read_dir(folder) {
        Ok(entries) => entries,
        Err(error) => match error.kind() {
            // A link to nowhere is there.
            io::ErrorKind::NotFound if fs::symlink_metadata(folder).is_ok() => {
                return Err(StoreError::DeadLink(folder.to_owned()));
            }
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => return Ok(Vec::new()),
            _ => return Err(error).at(folder),
        },
    };
    entries.map(|entry| Ok(entry.at(folder)?.file_name())).collect()
}

/// The files of a folder that the store writes, and links in it. Names that are no UTF-8
/// are no names of ours.
pub(super) fn files(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let names = names(folder)?.into_iter().filter_map(|name| name.into_string().ok());
    let files = names
        .map(|name| (folder.join(&name), name))
        .filter(|(path, _)| fs::symlink_metadata(path).is_ok_and(|about| !about.is_dir()));
    Ok(files.map(|(path, name)| (name, path)).collect())
}

/// Removes empty folders below. Links are left alone: what is behind them is not ours.
pub(super) fn remove_empty(folder: &Path, depth: usize) {
    for name in names(folder).unwrap_or_default() {
        let path = folder.join(name);
        if !fs::symlink_metadata(&path).is_ok_and(|about| about.is_dir()) {
            continue;
        }
        if depth > 1 {
            remove_empty(&path, depth - 1);
        }
        // Not empty is the usual reason.
        let _ = fs::remove_dir(&path);
    }
}
