//! The media types of manifests and their layers.

/// GGUF weights.
pub const MODEL: &str = "application/vnd.ollama.image.model";
/// A Go template.
pub const TEMPLATE: &str = "application/vnd.ollama.image.template";
/// Its old name.
pub const PROMPT: &str = "application/vnd.ollama.image.prompt";
/// The system text.
pub const SYSTEM: &str = "application/vnd.ollama.image.system";
/// Options, as JSON.
pub const PARAMS: &str = "application/vnd.ollama.image.params";
/// A conversation to begin with, as JSON.
pub const MESSAGES: &str = "application/vnd.ollama.image.messages";
/// A licence; may stand several times.
pub const LICENSE: &str = "application/vnd.ollama.image.license";
/// The config.
pub const CONFIG: &str = "application/vnd.docker.container.image.v1+json";
/// The manifest itself.
pub const MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Part of a model that is no GGUF file.
pub const TENSOR: &str = "application/vnd.ollama.image.tensor";
