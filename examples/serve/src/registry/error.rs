//! What can go wrong with a registry.

use std::error::Error as _;
use std::time::Duration;

use crate::store::{Digest, StoreError};
use crate::task::Panicked;

/// One sentence, in Ollama's words where clients look at them.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No such model there.
    #[error("pull model manifest: file does not exist")]
    NoModel,
    /// The registry refuses, or fails.
    #[error("{what}: {status}: {body}")]
    Refused {
        /// What was asked.
        what: &'static str,
        /// HTTP's number.
        status: u16,
        /// The beginning of what it said.
        body: String,
    },
    /// http where https was expected.
    #[error("insecure protocol http")]
    Insecure,
    /// A registry that is not on the list.
    #[error("registry {0:?} is not allowed here; the server's --registries says which are")]
    NotAllowed(String),
    /// A name whose first part is no host.
    #[error("{0:?} is no address of a registry; write host or host:port")]
    NoHost(String),
    /// An address that no registry has.
    #[error("{0:?} is an address for this machine's own services, which no registry has")]
    Internal(String),
    /// A token service somewhere else.
    #[error("realm host {realm:?} does not match original host {host:?}")]
    Realm {
        /// Where the token would come from.
        realm: String,
        /// The registry.
        host: String,
    },
    /// No right to do this.
    #[error("unauthorized: access denied")]
    Denied,
    /// Something else than the manifest promised.
    #[error("digest mismatch, file must be downloaded again: want {wanted}, got {got}")]
    Mismatch {
        /// What was promised.
        wanted: Digest,
        /// What came.
        got: Digest,
    },
    /// The same part failed again and again.
    #[error("max retries exceeded: {0}")]
    Retries(String),
    /// It sends nothing.
    #[error("the registry sent nothing for {0:?}")]
    Idle(Duration),
    /// It sends so little that it would never end.
    #[error("the registry's answer is too slow: no end of it after {0:?}")]
    Slow(Duration),
    /// What no registry should send.
    #[error("the registry's answer cannot be used: {0}")]
    Nonsense(String),
    /// Nobody answers there.
    #[error("{0}")]
    Unreachable(String),
    /// A connection that broke.
    #[error("{0}")]
    Transport(String),
    /// A model of another engine.
    #[error("this model is made of safetensors; only GGUF models run here")]
    NotGguf,
    /// The store refuses.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The disk refuses.
    #[error("{0}")]
    Disk(String),
}

impl RegistryError {
    /// The innermost reason: the outer ones only say "error sending request".
    pub(super) fn transport(error: reqwest::Error) -> Self {
        let mut text = error.to_string();
        let mut inner = error.source();
        while let Some(cause) = inner {
            text = cause.to_string();
            inner = cause.source();
        }
        let host = error.url().and_then(|url| url.host_str()).unwrap_or("registry");
        let text = format!("{host}: {text}");
        match error.is_connect() {
            true => RegistryError::Unreachable(text),
            false => RegistryError::Transport(text),
        }
    }

    /// Whether another try may help soon: somebody answers there.
    pub(super) fn is_hiccup(&self) -> bool {
        match self {
            RegistryError::Transport(_) => true,
            RegistryError::Refused { status, .. } => matches!(status, 408 | 425 | 429 | 500..),
            _ => false,
        }
    }

    /// Whether another try may help.
    pub(super) fn is_passing(&self) -> bool {
        matches!(self, RegistryError::Unreachable(_) | RegistryError::Idle(_)) || self.is_hiccup()
    }
}

impl From<Panicked> for RegistryError {
    fn from(panicked: Panicked) -> Self {
        RegistryError::Disk(panicked.to_string())
    }
}
