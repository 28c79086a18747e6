//! Models in several files: `name-00001-of-00004.gguf`.
//!
//! The first file has the metadata; each has a part of the tensors and the keys
//! `split.no` (from 0), `split.count` and `split.tensors.count` (of all parts),
//! as llama.cpp's `gguf-split` writes them.

use std::path::{Path, PathBuf};

use crate::error::{Error, Place, Result};
use crate::gguf::{Gguf, map};

/// More parts than any real model has.
const MAX_PARTS: u32 = 4096;

/// Adds the tensors of the other parts to `first`, which was read from `path`.
/// A model in one file passes through unchanged.
pub(super) fn join(mut first: Gguf, path: &Path) -> Result<Gguf> {
    let count = first.metadata.opt_u32("split.count")?.unwrap_or(0);
    if count <= 1 {
        return Ok(first);
    }
    if count > MAX_PARTS {
        return Err(Error::key("split.count", format!("is {count}; at most {MAX_PARTS} parts")));
    }
    let number = first.metadata.u32("split.no")?;
    if number != 0 {
        let problem = format!(
            "this is part {} of {count}; open the first part, …-00001-of-{count:05}.gguf",
            u64::from(number) + 1
        );
        return Err(Error::Misuse(problem));
    }
    for number in 1..count {
        let part_path = sibling(path, number, count)?;
        let at = || Place::Shard(part_path.display().to_string());
        let part = Gguf::from_storage(map(&part_path)?).map_err(|error| match error {
            Error::File { at: inner, problem } => Error::file(at(), format!("{inner}: {problem}")),
            Error::Unsupported { at: inner, problem } => {
                Error::unsupported(at(), format!("{inner}: {problem}"))
            }
            other => other,
        })?;
        if part.metadata.u32("split.no")? != number || part.metadata.u32("split.count")? != count {
            let problem = format!("does not say that it is part {} of {count}", number + 1);
            return Err(Error::file(at(), problem));
        }
        first.tensors.extend(part.tensors);
    }
    check_whole(&first)?;
    Ok(first)
}

/// `…-00001-of-00004.gguf` → `…-00003-of-00004.gguf` for number 2.
fn sibling(first: &Path, number: u32, count: u32) -> Result<PathBuf> {
    let name = first.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let tail = format!("-00001-of-{count:05}.gguf");
    let stem = name.strip_suffix(&tail).ok_or_else(|| {
        let at = Place::Shard(name.to_owned());
        Error::file(at, format!("part 1 of {count} must be named NAME{tail} to find the others"))
    })?;
    Ok(first.with_file_name(format!("{stem}-{:05}-of-{count:05}.gguf", number + 1)))
}

fn check_whole(model: &Gguf) -> Result<()> {
    if let Some(declared) = model.metadata.opt_u32("split.tensors.count")? {
        let found = model.tensors.len();
        if declared as usize != found {
            let problem = format!("is {declared}, but the parts hold {found} tensors");
            return Err(Error::key("split.tensors.count", problem));
        }
    }
    let mut names: Vec<&str> = model.tensors.iter().map(|tensor| tensor.name()).collect();
    names.sort_unstable();
    match names.windows(2).find(|pair| pair[0] == pair[1]) {
        Some(pair) => Err(Error::tensor(pair[0], "appears in two parts")),
        None => Ok(()),
    }
}
