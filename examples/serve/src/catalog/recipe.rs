//! A new model: layers of another one, or a GGUF file, and what is put on top.

use std::io::Write;

use serde_json::{Map, Value, json};
use tramontane::Message;

use crate::name::ModelName;
use crate::schedule::Source;
use crate::store::{Digest, Layer, Manifest, Store, StoreError, media};
use crate::wire::{ApiError, Result};

use super::{Facts, LocalModel, ModelConfig};

/// What a model is made of.
#[derive(Debug, Clone, Default)]
pub struct Recipe {
    /// The name of the model to begin with.
    pub from: Option<String>,
    /// That model, once it is here.
    pub base: Option<LocalModel>,
    /// A GGUF file in the store.
    pub file: Option<Digest>,
    /// A Go template.
    pub template: Option<String>,
    /// A system text.
    pub system: Option<String>,
    /// Licences.
    pub licenses: Vec<String>,
    /// Options, over those of the base.
    pub params: Map<String, Value>,
    /// What every conversation begins with.
    pub messages: Vec<Message>,
    /// Keys of the config that are set.
    pub config: Map<String, Value>,
}

/// Layers on their way into a manifest.
struct Making<'a> {
    store: &'a Store,
    tell: &'a dyn Fn(String),
    layers: Vec<Layer>,
}

impl Recipe {
    /// Writes layers and manifest; `tell` hears what happens.
    ///
    /// # Errors
    /// 400 for a blob that is no GGUF file, 500 if the store cannot be written.
    pub fn make(
        &self,
        store: &Store,
        name: &ModelName,
        no_prune: bool,
        tell: &dyn Fn(String),
    ) -> Result<()> {
        let mut making = Making { store, tell, layers: Vec::new() };
        // Nobody may remove the layers before the manifest refers to them.
        let _pin = store.pin(&self.known_layers()).map_err(failed)?;
        let mut config = self.begin(&mut making)?;
        self.add(&mut making)?;
        config.extend(self.config.clone());
        let diffs: Vec<String> = making.layers.iter().map(|l| l.digest.to_string()).collect();
        config.insert("rootfs".into(), json!({"type": "layers", "diff_ids": diffs}));
        let config = making.layer(media::CONFIG, &to_bytes(&config))?;
        let manifest = Manifest {
            schema_version: 2,
            media_type: media::MANIFEST.into(),
            config,
            layers: making.layers,
        };
        tell("writing manifest".into());
        let replaced = store.write_manifest(name, &to_bytes(&manifest)).map_err(failed)?;
        if let Some(old) = replaced.filter(|_| !no_prune) {
            let layers: Vec<Digest> = old.manifest.layers.iter().map(|l| l.digest).collect();
            store.release(&layers);
        }
        Ok(())
    }

    fn known_layers(&self) -> Vec<Digest> {
        let entry = self.base.as_ref().and_then(|base| base.entry.as_ref());
        let layers = entry.map_or(&[][..], |entry| &entry.manifest.layers);
        layers.iter().map(|layer| layer.digest).chain(self.file).collect()
    }

    /// The weights and what comes with them; the config to begin with.
    fn begin(&self, making: &mut Making<'_>) -> Result<Map<String, Value>> {
        if let Some(entry) = self.base.as_ref().and_then(|base| base.entry.as_ref()) {
            making.layers = entry.manifest.layers.clone();
            for layer in &making.layers {
                (making.tell)(format!("using existing layer {}", layer.digest));
            }
            let config = ModelConfig::read(making.store, entry)?;
            return Ok(object(&config));
        }
        let weights = match (self.file, &self.base) {
            (Some(digest), _) => digest,
            (None, Some(base)) => making.import(&base.source)?,
            (None, None) => return Err(ApiError::bad_request("no files provided to convert")),
        };
        (making.tell)("parsing GGUF".into());
        making.weights(weights)
    }

    /// What the recipe puts on top.
    fn add(&self, making: &mut Making<'_>) -> Result<()> {
        if let Some(template) = &self.template {
            making.replace(&[media::TEMPLATE, media::PROMPT], template)?;
        }
        if let Some(system) = &self.system {
            making.replace(&[media::SYSTEM], system)?;
        }
        for license in &self.licenses {
            let layer = making.layer(media::LICENSE, license.as_bytes())?;
            making.layers.push(layer);
        }
        if !self.params.is_empty() {
            let mut params = match &self.base {
                Some(base) => base.settings(making.store)?.params,
                None => Map::new(),
            };
            params.extend(self.params.clone());
            making.replace(&[media::PARAMS], &Value::Object(params).to_string())?;
        }
        if !self.messages.is_empty() {
            let one = |m: &Message| json!({"role": m.role(), "content": m.content()});
            let messages: Value = self.messages.iter().map(one).collect();
            making.replace(&[media::MESSAGES], &messages.to_string())?;
        }
        Ok(())
    }
}

impl Making<'_> {
    /// The file of a model that is not in the store, copied into it.
    fn import(&self, source: &Source) -> Result<Digest> {
        let mut blob = self.store.begin_blob().map_err(failed)?;
        let copied = match source {
            Source::File(path) => std::fs::File::open(path)
                .and_then(|mut file| std::io::copy(&mut file, &mut blob).map(drop)),
            Source::Builtin => blob.write_all(crate::builtin::BYTES),
        };
        copied.map_err(|error| ApiError::internal(error.to_string()))?;
        let (digest, _) = blob.finish(None, None).map_err(failed)?;
        Ok(digest)
    }

    /// The layer of a GGUF file, and the config that its facts make.
    fn weights(&mut self, digest: Digest) -> Result<Map<String, Value>> {
        let path = self.store.blob(&digest).ok_or_else(|| {
            ApiError::bad_request(format!("blob {digest} not found; upload it first"))
        })?;
        let size = path.metadata().map(|about| about.len()).unwrap_or(0);
        let facts = Facts::read(&Source::File(path)).map_err(|error| {
            let reason = error.message.split_once(": ").map_or("", |(_, reason)| reason);
            ApiError::bad_request(format!("supplied file was not in GGUF format: {reason}"))
        })?;
        facts.check_supported().map_err(|error| ApiError::bad_request(error.to_string()))?;
        let layer = Layer { media_type: media::MODEL.into(), digest, size, from: None, name: None };
        self.layers.push(layer);
        let details = facts.details();
        let config = ModelConfig {
            model_format: "gguf".into(),
            model_family: details.family,
            model_families: details.families,
            model_type: details.parameter_size,
            file_type: details.quantization_level,
            context_length: details.context_length,
            embedding_length: details.embedding_length,
            architecture: "amd64".into(),
            os: "linux".into(),
            ..ModelConfig::default()
        };
        Ok(object(&config))
    }

    /// A layer in the place of those of these types.
    fn replace(&mut self, kinds: &[&str], text: &str) -> Result<()> {
        self.layers.retain(|layer| !kinds.contains(&layer.media_type.as_str()));
        if let Some(kind) = kinds.first().filter(|_| !text.is_empty()) {
            let layer = self.layer(kind, text.as_bytes())?;
            self.layers.push(layer);
        }
        Ok(())
    }

    /// Writes a layer, unless it is there.
    fn layer(&self, kind: &str, bytes: &[u8]) -> Result<Layer> {
        let digest = Digest::of(bytes);
        if self.store.blob(&digest).is_some() {
            (self.tell)(format!("using existing layer {digest}"));
        } else {
            (self.tell)(format!("creating new layer {digest}"));
            let mut blob = self.store.begin_blob().map_err(failed)?;
            blob.write_all(bytes).map_err(|error| ApiError::internal(error.to_string()))?;
            blob.finish(Some(&digest), None).map_err(failed)?;
        }
        let size = bytes.len() as u64;
        Ok(Layer { media_type: kind.into(), digest, size, from: None, name: None })
    }
}

fn object(config: &ModelConfig) -> Map<String, Value> {
    match json!(config) {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn to_bytes(value: &impl serde::Serialize) -> Vec<u8> {
    json!(value).to_string().into_bytes()
}

fn failed(error: StoreError) -> ApiError {
    ApiError::internal(error.to_string())
}
