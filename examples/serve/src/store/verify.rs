//! Whether everything in a store is what it should be.

use std::collections::BTreeMap;
use std::fs::File;

use super::error::{Context, Result};
use super::{Digest, Store};

/// What was found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Models whose manifest can be read.
    pub models: usize,
    /// Blobs that they need and that are as they should be.
    pub blobs: usize,
    /// One sentence for each thing that is wrong.
    pub problems: Vec<String>,
    /// Files among the blobs that no model needs.
    pub unneeded: Vec<String>,
    /// What keeps those from being removed: by its path, with the way out.
    pub obstacles: Vec<String>,
}

impl Store {
    /// Hashes every blob that a model needs. `progress` hears bytes done and to do.
    ///
    /// # Errors
    /// Folders that cannot be read.
    pub fn verify(&self, progress: &mut dyn FnMut(u64, u64)) -> Result<Report> {
        let obstacles = self.obstacles().iter().map(ToString::to_string).collect();
        let mut report = Report { obstacles, ..Report::default() };
        let mut needed: BTreeMap<Digest, (u64, String)> = BTreeMap::new();
        for (name, path) in self.tree()?.manifests {
            match self.entry(&name, &path) {
                Ok(Some(entry)) => {
                    report.models += 1;
                    for layer in entry.manifest.all() {
                        needed.insert(layer.digest, (layer.size, name.short()));
                    }
                }
                Ok(None) => {}
                Err(error) => report.problems.push(error.to_string()),
            }
        }
        let total =
            needed.values().map(|(size, _)| size).fold(0, |a, &b| u64::saturating_add(a, b));
        let mut done = 0;
        for (digest, (size, name)) in &needed {
            match self.check(digest, *size).unwrap_or_else(|error| Some(error.to_string())) {
                None => report.blobs += 1,
                Some(problem) => report.problems.push(format!("{name}: {problem}")),
            }
            done += size;
            progress(done, total);
        }
        for (file, _) in super::folder::files(&self.blobs())? {
            let known = file.parse::<Digest>().is_ok_and(|digest| needed.contains_key(&digest));
            if !known {
                report.unneeded.push(file);
            }
        }
        Ok(report)
    }

    /// What is wrong with a blob.
    fn check(&self, digest: &Digest, size: u64) -> Result<Option<String>> {
        let Some(path) = self.blob(digest) else {
            return Ok(Some(format!("{digest} is missing; pull the model again")));
        };
        let mut file = File::open(&path).at(&path)?;
        let got = file.metadata().at(&path)?.len();
        if got != size {
            return Ok(Some(format!("{digest} has {got} bytes instead of {size}")));
        }
        let hashed = Digest::of_reader(&mut file, |_| ()).at(&path)?;
        Ok((hashed != *digest).then(|| format!("{digest} is damaged; remove and pull the model")))
    }
}
