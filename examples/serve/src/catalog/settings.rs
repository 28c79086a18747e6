//! What the layers of a stored model say: template, system text, options, history.

use serde::Deserialize;
use serde_json::{Map, Value};
use tramontane::Message;

use crate::store::{Digest, Entry, Store, media};
use crate::wire::{self, ApiError, Result};

use super::{Details, params};

/// Bytes of a text layer at most.
const LARGEST: u64 = 4 << 20;

/// What a model brings along.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// Its Go template.
    pub template: Option<String>,
    /// Its system text.
    pub system: Option<String>,
    /// Its options.
    pub params: Map<String, Value>,
    /// What every conversation begins with.
    pub messages: Vec<Message>,
    /// Licences.
    pub licenses: Vec<String>,
}

impl Settings {
    /// Reads the layers.
    ///
    /// # Errors
    /// 500 for one that is missing, or no JSON where it must be.
    pub fn read(store: &Store, entry: &Entry) -> Result<Self> {
        let mut settings = Settings::default();
        for layer in &entry.manifest.layers {
            let text = || text(store, &layer.digest);
            match layer.media_type.as_str() {
                media::TEMPLATE | media::PROMPT => settings.template = Some(text()?),
                media::SYSTEM => settings.system = Some(text()?),
                media::PARAMS => {
                    let params: Option<_> = json(&layer.digest, &text()?)?;
                    settings.params = params::usable(params.unwrap_or_default());
                }
                media::MESSAGES => settings.messages = messages(&layer.digest, &text()?)?,
                media::LICENSE => settings.licenses.push(text()?),
                _ => {}
            }
        }
        Ok(settings)
    }
}

fn text(store: &Store, digest: &Digest) -> Result<String> {
    let bytes = store
        .read_small(digest, LARGEST)
        .map_err(|error| ApiError::internal(format!("layer {digest}: {error}")))?;
    Ok(wire::text(&bytes))
}

fn json<T: for<'de> Deserialize<'de>>(digest: &Digest, text: &str) -> Result<T> {
    serde_json::from_str(&wire::json_text(text.as_bytes()))
        .map_err(|error| ApiError::internal(format!("layer {digest}: {error}")))
}

fn messages(digest: &Digest, text: &str) -> Result<Vec<Message>> {
    #[derive(Deserialize)]
    struct Stored {
        role: Option<String>,
        content: Option<String>,
    }
    let stored: Option<Vec<Stored>> = json(digest, text)?;
    let one = |m: Stored| Message::new(m.role.unwrap_or_default(), m.content.unwrap_or_default());
    Ok(stored.into_iter().flatten().map(one).collect())
}

/// The config of a stored model, as far as it is shown or used.
#[derive(Debug, Clone, Default, Deserialize, serde::Serialize)]
#[serde(default)]
pub struct ModelConfig {
    /// `gguf`
    pub model_format: String,
    /// The architecture.
    pub model_family: String,
    /// Architectures.
    pub model_families: Option<Vec<String>>,
    /// Number of parameters, `7.2B`.
    pub model_type: String,
    /// `Q4_K_M`
    pub file_type: String,
    /// Ollama's renderer; unused here, kept in copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub renderer: Option<String>,
    /// Ollama's parser; unused here, kept in copies.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parser: Option<String>,
    /// The oldest version that runs it; shown only.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requires: Option<String>,
    /// Another server that runs it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_host: Option<String>,
    /// Positions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context_length: Option<u64>,
    /// Width of the network.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub embedding_length: Option<u64>,
    /// `amd64`
    pub architecture: String,
    /// `linux`
    pub os: String,
    /// Everything else that stood there.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

impl ModelConfig {
    /// Reads the config of a model.
    ///
    /// # Errors
    /// 500 if it is missing or no JSON.
    pub fn read(store: &Store, entry: &Entry) -> Result<Self> {
        let digest = &entry.manifest.config.digest;
        json(digest, &text(store, digest)?)
    }

    /// What lists show.
    pub fn details(self) -> Details {
        Details {
            parent_model: String::new(),
            format: self.model_format,
            families: self.model_families.or_else(|| Some(vec![self.model_family.clone()])),
            family: self.model_family,
            parameter_size: self.model_type,
            quantization_level: self.file_type,
            context_length: self.context_length,
            embedding_length: self.embedding_length,
        }
    }
}
