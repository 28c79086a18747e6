//! Removing models, and the blobs that no model needs.
//!
//! **The rule of collection.** A blob is removed only if all of this holds:
//!
//! 1. Everything under `manifests/` was read and understood. A manifest that is damaged, a
//!    link that leads nowhere, a folder that cannot be read, a file with a name or in a
//!    place that no manifest has: each may need any blob, so while one of them is there
//!    nothing is removed. The log names each by its path and says the way out.
//! 2. No manifest mentions the blob, in whatever field.
//! 3. No pin names it: no pull and no create of any process is about to refer to it. A pin
//!    that cannot be read counts as in 1.
//! 4. It is older than the grace time. Only the layers of a manifest that was removed or
//!    replaced by this very call go at once.
//! 5. There is a manifest. A store with blobs and without one manifest looks like one whose
//!    `manifests` is on a disk that is not mounted.
//! 6. The store's lock is held. Where the file system has no locks, nothing is removed.
//!
//! Of what else lies in `blobs/`, parts of downloads and temporary files follow 1 to 4 and 6;
//! files with other names are nobody's business and stay. A blob that is a link is removed
//! as a link; what it leads to stays.

use std::collections::HashSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use super::error::{Context, Result, StoreError};
use super::folder::{files, read_file, remove_empty};
use super::lock::Alone;
use super::tree::{Obstacle, TEMPORARY, is_temporary};
use super::{Digest, Manifest, Store};
use crate::name::ModelName;

/// What a collection removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Pruned {
    /// Files.
    pub files: usize,
    /// Their bytes.
    pub bytes: u64,
}

/// What is known about who needs what.
#[derive(Debug, Default)]
struct Survey {
    needed: HashSet<Digest>,
    manifests: usize,
    /// Reasons to remove nothing.
    obstacles: Vec<Obstacle>,
}

impl Store {
    /// Removes a model, and then those of its layers that no other needs. Whether it was
    /// there. One whose manifest is damaged is removed too; its layers stay until the next
    /// collection.
    ///
    /// # Errors
    /// A system that refuses; the model is still there then.
    pub fn delete(&self, name: &ModelName) -> Result<bool> {
        if self.spelled(name)?.is_none() {
            return Ok(false);
        }
        let alone = self.lock_alone()?;
        let Some((name, path)) = self.spelled(name)? else { return Ok(false) };
        let entry = self.entry(&name, &path);
        fs::remove_file(&path).at(&path).map_err(|error| self.not_writable(error))?;
        self.remove_empty_folders(&path);
        match entry {
            Ok(Some(entry)) => {
                let layers: Vec<Digest> = entry.manifest.all().map(|layer| layer.digest).collect();
                self.remove_unneeded(&layers, &alone);
            }
            Ok(None) => {}
            Err(error) => tracing::warn!(%name, %error, "a damaged manifest was removed"),
        }
        Ok(true)
    }

    /// Removes those of `layers` that no model needs; not if blobs are to stay. They are
    /// the layers of a manifest that was replaced.
    pub fn release(&self, layers: &[Digest]) {
        if self.0.no_prune {
            return;
        }
        match self.lock_alone() {
            Ok(alone) => self.remove_unneeded(layers, &alone),
            Err(error) => tracing::warn!(%error, "unneeded layers stay until the next start"),
        }
    }

    /// The model is changed already: what cannot be removed now stays for later.
    fn remove_unneeded(&self, layers: &[Digest], alone: &Alone) {
        let Some(survey) = self.survey(alone) else { return };
        for digest in layers.iter().filter(|digest| !survey.needed.contains(digest)) {
            for path in self.blob_paths(digest) {
                if fs::symlink_metadata(&path).is_ok()
                    && let Err(error) = fs::remove_file(&path)
                {
                    tracing::warn!(path = %path.display(), %error, "an unneeded blob stays");
                }
            }
        }
    }

    /// What must stay; none if something is not understood, which is logged.
    fn survey(&self, alone: &Alone) -> Option<Survey> {
        if !alone.is_locked() {
            tracing::warn!("this file system has no locks: no blob is removed");
            return None;
        }
        let survey = self.look_around();
        for obstacle in &survey.obstacles {
            tracing::warn!(
                path = %obstacle.path.display(),
                "no blob is removed while this is not understood: {}", obstacle.what
            );
        }
        survey.obstacles.is_empty().then_some(survey)
    }

    fn look_around(&self) -> Survey {
        let mut survey = Survey::default();
        let refuse = |path: &Path, what: String| Obstacle { path: path.to_owned(), what };
        match self.tree() {
            Ok(tree) => {
                survey.obstacles = tree.obstacles;
                survey.manifests = tree.manifests.len();
                for (_, path) in tree.manifests {
                    match mentioned(&path) {
                        Ok(digests) => survey.needed.extend(digests),
                        Err(what) => survey.obstacles.push(refuse(&path, what)),
                    }
                }
            }
            Err(error) => {
                survey.obstacles.push(refuse(&self.manifests(), error.to_string()));
            }
        }
        match self.pinned() {
            Ok(pinned) => survey.needed.extend(pinned),
            Err(error) => survey.obstacles.push(refuse(
                &self.pins(),
                format!(
                    "{error}; it may be a pull of another user: wait for it, or remove the file"
                ),
            )),
        }
        survey
    }

    /// What keeps blobs from being removed.
    pub(super) fn obstacles(&self) -> Vec<Obstacle> {
        self.look_around().obstacles
    }

    /// Removes what is older than `age` and needed by nobody: blobs, downloads and
    /// uploads that ended early, empty folders.
    ///
    /// # Errors
    /// A system that refuses.
    pub fn prune(&self, age: Duration) -> Result<Pruned> {
        let alone = self.lock_alone()?;
        let mut pruned = Pruned::default();
        let Some(survey) = self.survey(&alone) else { return Ok(pruned) };
        let mut kept = 0;
        for (name, path) in files(&self.blobs())? {
            let Some(kind) = Kind::of(&name) else { continue };
            if self.is_needed(&kind, &survey.needed) || !self.is_old(&kind, &path, age) {
                continue;
            }
            if survey.manifests == 0 && matches!(kind, Kind::Blob(_)) {
                kept += 1;
                continue;
            }
            pruned.remove(&path);
        }
        for (_, path) in files(&self.manifests())?.iter().filter(|(_, path)| is_temporary(path)) {
            if older(path, age) {
                pruned.remove(path);
            }
        }
        if kept > 0 {
            tracing::warn!(
                blobs = kept,
                path = %self.manifests().display(),
                "there are blobs and not one manifest: nothing is removed. If the manifests are on \
                 another disk, mount it; if the blobs are garbage, remove the folder blobs"
            );
        }
        remove_empty(&self.manifests(), 3);
        Ok(pruned)
    }

    fn is_needed(&self, kind: &Kind<'_>, needed: &HashSet<Digest>) -> bool {
        match kind {
            Kind::Blob(digest) => needed.contains(digest),
            // What is left of a download whose blob came is needed by nobody.
            Kind::Partial(digest, _) => needed.contains(digest) && self.blob(digest).is_none(),
            Kind::Temporary => false,
        }
    }

    fn is_old(&self, kind: &Kind<'_>, path: &Path, age: Duration) -> bool {
        // A download is as old as what was written last: its first parts are not taken
        // away from the others.
        let whole = match kind {
            Kind::Partial(_, file) => Some(self.blobs().join(file)).filter(|path| path.exists()),
            _ => None,
        };
        older(whole.as_deref().unwrap_or(path), age)
    }

    /// The folders of a manifest that went, as far as they are empty.
    fn remove_empty_folders(&self, manifest: &Path) {
        for folder in manifest.ancestors().skip(1).take(3) {
            // Not empty is the usual reason; a link is none of ours.
            if fs::remove_dir(folder).is_err() {
                break;
            }
        }
    }
}

impl Pruned {
    fn remove(&mut self, path: &Path) {
        let bytes = fs::symlink_metadata(path).map(|about| about.len()).unwrap_or(0);
        if fs::remove_file(path).is_ok() {
            self.files += 1;
            self.bytes += bytes;
        }
    }
}

/// Every digest that a manifest has in it, in fields that nobody here knows too.
fn mentioned(path: &Path) -> Result<HashSet<Digest>, String> {
    const LENGTH: usize = "sha256:".len() + 64;
    const WAY_OUT: &str = "pull or create the model again, or remove it with rm";
    let bytes = match read_file(path, Manifest::LARGEST) {
        Ok(Some(bytes)) => bytes,
        Ok(None) => return Err("it went away meanwhile".into()),
        Err(StoreError::DeadLink(_)) => return Err("a link that leads nowhere".into()),
        Err(error) => return Err(format!("cannot be read ({error}); {WAY_OUT}")),
    };
    let manifest = Manifest::read(&bytes).map_err(|why| {
        let why = if bytes.is_empty() { "it is empty".to_owned() } else { why };
        format!("is no manifest ({why}); {WAY_OUT}")
    })?;
    let mut digests: HashSet<Digest> = manifest.all().map(|layer| layer.digest).collect();
    digests.extend(bytes.windows(LENGTH).filter(|text| text.starts_with(b"sha256")).filter_map(
        |text| std::str::from_utf8(text).ok().and_then(|text| text.parse::<Digest>().ok()),
    ));
    Ok(digests)
}

/// What a file in `blobs/` is.
enum Kind<'a> {
    Blob(Digest),
    /// A download of it, or a record of that; the name of the download's file.
    Partial(Digest, &'a str),
    /// Ours or Ollama's, before it had a name.
    Temporary,
}

impl<'a> Kind<'a> {
    /// None: somebody else's file.
    fn of(name: &'a str) -> Option<Self> {
        const PARTIAL: &str = "-partial";
        if let Some(end) = name.find(PARTIAL) {
            let digest = name[..end].parse().ok()?;
            return Some(Kind::Partial(digest, &name[..end + PARTIAL.len()]));
        }
        if let Ok(digest) = name.parse() {
            return Some(Kind::Blob(digest));
        }
        // Ollama's temporary names: the same beginning, and a random number.
        let ollamas = name.strip_prefix("sha256-").is_some_and(|rest| {
            (1..=20).contains(&rest.len()) && rest.bytes().all(|byte| byte.is_ascii_digit())
        });
        (ollamas || name.starts_with(TEMPORARY)).then_some(Kind::Temporary)
    }
}

fn older(path: &Path, age: Duration) -> bool {
    let time = fs::symlink_metadata(path).and_then(|about| about.modified());
    time.is_ok_and(|time| time.elapsed().is_ok_and(|elapsed| elapsed >= age))
}
