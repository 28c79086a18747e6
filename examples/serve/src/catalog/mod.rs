//! The models that this server can run: those of the store, files, the built-in one.

mod facts;
pub mod params;
mod recipe;
mod settings;

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::app::Shared;
use crate::name::ModelName;
use crate::schedule::Source;
use crate::store::{Digest, Entry, Store, media};
use crate::task::blocking;
use crate::wire::{ApiError, Result};

pub use facts::{Details, Facts};
pub use recipe::Recipe;
pub use settings::{ModelConfig, Settings};

/// The name of the built-in model.
pub const BUILTIN: &str = "storyteller:latest";

/// A model that can be run.
#[derive(Debug, Clone)]
pub struct LocalModel {
    /// The name to show: short, with its tag; of a file its path.
    pub name: String,
    /// The name's parts, if it is one of the store's form.
    pub parts: Option<ModelName>,
    /// Where its weights are.
    pub source: Source,
    /// 64 hexadecimal digits: of the manifest; of anything else of what it is named.
    pub digest: String,
    /// Bytes on disk.
    pub size: u64,
    /// When it came.
    pub modified: SystemTime,
    /// Its place in the store.
    pub entry: Option<Entry>,
}

impl LocalModel {
    /// Who made it, for lists: the namespace.
    pub fn namespace(&self) -> &str {
        self.parts.as_ref().map_or("library", ModelName::namespace)
    }

    /// `registry.ollama.ai/library/NAME:TAG`, which some error texts have.
    pub fn full_name(&self) -> String {
        self.parts.as_ref().map_or_else(|| self.name.clone(), ModelName::full)
    }

    /// Template, system text, options, …: what its layers say.
    ///
    /// # Errors
    /// 500 for a layer that cannot be read.
    pub fn settings(&self, store: &Store) -> Result<Settings> {
        match &self.entry {
            Some(entry) => Settings::read(store, entry),
            None => Ok(Settings::default()),
        }
    }

    /// What lists show about it.
    pub fn details(&self, store: &Store) -> Details {
        match &self.entry {
            Some(entry) => ModelConfig::read(store, entry).map(|c| c.details()).unwrap_or_default(),
            None => Facts::read(&self.source).map(|facts| facts.details()).unwrap_or_default(),
        }
    }

    fn stored(store: &Store, entry: Entry) -> Result<Self> {
        let layers = &entry.manifest.layers;
        let weights = layers.iter().find(|layer| layer.media_type == media::MODEL);
        let weights = weights.ok_or_else(|| {
            ApiError::bad_request(format!(
                "{} has no GGUF weights; safetensors models arrive with a later version",
                entry.name.short()
            ))
        })?;
        let path = store.blob(&weights.digest).ok_or_else(|| {
            ApiError::internal(format!(
                "the weights of {} are missing from the store; pull it again",
                entry.name.short()
            ))
        })?;
        Ok(LocalModel {
            name: entry.name.short(),
            parts: Some(entry.name.clone()),
            source: Source::File(path),
            digest: entry.digest.hex(),
            size: entry.size(),
            modified: entry.modified,
            entry: Some(entry),
        })
    }

    /// The built-in model.
    pub fn builtin() -> Self {
        LocalModel {
            name: BUILTIN.into(),
            parts: ModelName::parse(BUILTIN).ok(),
            source: Source::Builtin,
            digest: Digest::of(BUILTIN.as_bytes()).hex(),
            size: crate::builtin::BYTES.len() as u64,
            modified: built(),
            entry: None,
        }
    }

    fn file(path: &Path) -> Option<Self> {
        let about = path.metadata().ok().filter(|about| about.is_file())?;
        let name = path.display().to_string();
        Some(LocalModel {
            digest: Digest::of(name.as_bytes()).hex(),
            name,
            parts: None,
            source: Source::File(path.to_owned()),
            size: about.len(),
            modified: about.modified().unwrap_or(SystemTime::UNIX_EPOCH),
            entry: None,
        })
    }
}

/// When the program was made, and with it the built-in model.
fn built() -> SystemTime {
    let program = std::env::current_exe().and_then(|path| path.metadata()?.modified());
    program.unwrap_or(SystemTime::UNIX_EPOCH)
}

/// All models, newest first, and the built-in one; that not in a store which came with
/// models of its own.
///
/// # Errors
/// 500 if the store cannot be read.
pub async fn list(app: &Shared) -> Result<Vec<LocalModel>> {
    let app = app.clone();
    blocking(move || {
        let files = app.config.files.iter().filter_map(|path| LocalModel::file(path));
        let mut models: Vec<_> = files.collect();
        let entries = app.store.list().map_err(|error| ApiError::internal(error.to_string()))?;
        for entry in entries {
            let name = entry.name.short();
            match LocalModel::stored(&app.store, entry) {
                Ok(model) => models.push(model),
                Err(error) => tracing::warn!(name, %error, "not listed"),
            }
        }
        // Where it was seen once it stays, unless one of the store takes its name. Among the
        // models that came from Ollama it would be a stranger.
        let seen = models.is_empty() || app.store.began_empty();
        if seen && !models.iter().any(|model| model.name.eq_ignore_ascii_case(BUILTIN)) {
            models.push(LocalModel::builtin());
        }
        Ok(models)
    })
    .await
}

/// The model of that name; none if there is none.
///
/// # Errors
/// 400 for what is no name, 403 for models of a cloud, 500 if the store cannot be read.
pub async fn find(app: &Shared, name: &str) -> Result<Option<LocalModel>> {
    let (app, name) = (app.clone(), name.trim().to_owned());
    blocking(move || find_now(&app, &name)).await
}

fn find_now(app: &Shared, name: &str) -> Result<Option<LocalModel>> {
    if let Some(path) = served_file(app, name) {
        return Ok(LocalModel::file(&path));
    }
    if name.is_empty() {
        return Ok(None);
    }
    let parts = parse(name)?;
    let entry = app.store.find(&parts).map_err(|error| ApiError::internal(error.to_string()))?;
    match entry {
        Some(entry) => LocalModel::stored(&app.store, entry).map(Some),
        None if is_builtin(&parts) => Ok(Some(LocalModel::builtin())),
        None => Ok(None),
    }
}

/// Whether a name is that of the built-in model.
pub fn is_builtin(name: &ModelName) -> bool {
    name.short().eq_ignore_ascii_case(BUILTIN)
}

/// A name as clients write it, with `:local` and without `:cloud`.
///
/// # Errors
/// 400 `invalid model name`, 403 for models of a cloud.
pub fn parse(name: &str) -> Result<ModelName> {
    let name = name.trim();
    let lower = name.to_ascii_lowercase();
    let tag = lower.rsplit_once(':').map_or("", |(_, tag)| tag);
    if tag == "cloud" || tag.ends_with("-cloud") {
        let text = "ollama cloud is disabled: remote model is unavailable";
        return Err(ApiError::new(axum::http::StatusCode::FORBIDDEN, text));
    }
    // Lower case is as long as ASCII was.
    let local = lower.ends_with(":local").then(|| &name[..name.len() - ":local".len()]);
    ModelName::parse(local.unwrap_or(name)).map_err(|_| ApiError::bad_request("invalid model name"))
}

/// The file that a name is the path of, if that is allowed.
fn served_file(app: &Shared, name: &str) -> Option<PathBuf> {
    let path = Path::new(name);
    let served = app.config.files.iter().any(|file| file == path);
    let looks = name.ends_with(".gguf") && name.contains(std::path::MAIN_SEPARATOR);
    (served || (app.config.allow_paths && looks)).then(|| path.to_owned())
}
