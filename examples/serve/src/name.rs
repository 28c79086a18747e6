//! Model names: `[scheme://][host/][namespace/]model[:tag]`.

use std::fmt;

/// Where models come from that name no registry.
pub const DEFAULT_HOST: &str = "registry.ollama.ai";
/// Whose models they are that name nobody.
pub const DEFAULT_NAMESPACE: &str = "library";
/// The tag of those that name none.
pub const DEFAULT_TAG: &str = "latest";

/// A valid name, complete. Each part is a file name that stays in its folder: it begins
/// with a letter, a digit or `_` and has no separators.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ModelName {
    scheme: Option<String>,
    host: String,
    namespace: String,
    model: String,
    tag: String,
}

/// What is no name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("invalid model name {0:?}; write model, model:tag or host/namespace/model:tag")]
pub struct NameError(String);

/// Which characters a part may have.
#[derive(Clone, Copy, PartialEq)]
enum Part {
    Host,
    Namespace,
    Other,
}

impl ModelName {
    /// Reads a name; what is missing becomes the default.
    ///
    /// # Errors
    /// What is no name.
    pub fn parse(text: &str) -> Result<Self, NameError> {
        let wrong = || NameError(text.chars().take(200).collect());
        let (scheme, rest) = match text.split_once("://") {
            Some((scheme, rest)) => (Some(scheme), rest),
            None => (None, text),
        };
        if scheme.is_some_and(|scheme| !matches!(scheme, "http" | "https")) {
            return Err(wrong());
        }
        let mut parts: Vec<&str> = rest.splitn(4, '/').collect();
        let last = parts.pop().ok_or_else(wrong)?;
        let (model, tag) = last.rsplit_once(':').unwrap_or((last, DEFAULT_TAG));
        let (host, namespace) = match parts[..] {
            [] => (DEFAULT_HOST, DEFAULT_NAMESPACE),
            [namespace] => (DEFAULT_HOST, namespace),
            [host, namespace] => (host, namespace),
            _ => return Err(wrong()),
        };
        let valid = is_part(host, Part::Host)
            && is_part(namespace, Part::Namespace)
            && is_part(model, Part::Other)
            && is_part(tag, Part::Other);
        if !valid {
            return Err(wrong());
        }
        Ok(ModelName {
            scheme: scheme.map(str::to_owned),
            host: host.into(),
            namespace: namespace.into(),
            model: model.into(),
            tag: tag.into(),
        })
    }

    /// A name of the four parts, as the folders of a store have them.
    pub fn from_parts(host: &str, namespace: &str, model: &str, tag: &str) -> Option<Self> {
        ModelName::parse(&format!("{host}/{namespace}/{model}:{tag}")).ok()
    }

    /// `http` or `https`, if it was written.
    pub fn scheme(&self) -> Option<&str> {
        self.scheme.as_deref()
    }

    /// The registry, perhaps with a port.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Whose model it is.
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Which model.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// Which of its versions.
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The four parts, outermost first.
    pub fn parts(&self) -> [&str; 4] {
        [&self.host, &self.namespace, &self.model, &self.tag]
    }

    /// The same name without the scheme, in the spelling of the folders.
    pub fn with_parts(&self, parts: [String; 4]) -> Self {
        let [host, namespace, model, tag] = parts;
        ModelName { scheme: None, host, namespace, model, tag }
    }

    /// As lists show it: without what is the default, with the tag.
    pub fn short(&self) -> String {
        let ModelName { host, namespace, model, tag, .. } = self;
        if !host.eq_ignore_ascii_case(DEFAULT_HOST) {
            format!("{host}/{namespace}/{model}:{tag}")
        } else if !namespace.eq_ignore_ascii_case(DEFAULT_NAMESPACE) {
            format!("{namespace}/{model}:{tag}")
        } else {
            format!("{model}:{tag}")
        }
    }

    /// All four parts.
    pub fn full(&self) -> String {
        let ModelName { host, namespace, model, tag, .. } = self;
        format!("{host}/{namespace}/{model}:{tag}")
    }
}

impl fmt::Display for ModelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.short())
    }
}

/// Whether a text that should name a model is the path of a file.
pub fn is_path(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let ending = [".gguf", ".bin", ".safetensors"].iter().any(|ending| lower.ends_with(ending));
    ["./", "../", "/", "~"].iter().any(|start| text.starts_with(start))
        || matches!(text, "." | "..")
        || text.contains('\\')
        // A tag may be the name of a file.
        || (ending && !text.contains(':'))
}

fn is_part(text: &str, part: Part) -> bool {
    let longest = if part == Part::Host { 350 } else { 80 };
    let good = |c: char| {
        c.is_ascii_alphanumeric()
            || matches!(c, '_' | '-')
            || (c == '.' && part != Part::Namespace)
            || (c == ':' && part == Part::Host)
    };
    text.len() <= longest
        && text.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_')
        && text.chars().all(good)
}
