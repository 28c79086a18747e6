//! Pulling and pushing models by the registry protocol.
//!
//! ```text
//! manifest ─► layers that are missing ─► parts, side by side, resumed after any end
//!                                          │
//!        registry ◄─ 401, token ─►         └─► hash ─► store ─► manifest
//! ```
//! A registry is not trusted: what it sends is bounded by what the manifest promised,
//! nothing stands under its name before its hash is right, and tokens go to the
//! registry's own host only.

mod address;
mod download;
mod error;
mod partial;
mod pull;
mod push;
mod retry;
mod session;
mod token;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use serde::Serialize;

use crate::store::Digest;
use crate::wire::{USER_AGENT, is_loopback};

pub use error::RegistryError;

/// How registries are used.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// Hosts (with their port, if they have one) that may be used; none: all.
    pub allow: Option<Vec<String>>,
    /// Parts of a blob on their way at the same time.
    pub parts: usize,
    /// Bytes of a part at least and at most.
    pub part_bytes: (u64, u64),
    /// Bytes between two notes of how far a part is. They are written at once and at
    /// multiples of it, so that Linux may keep them as huge pages for who maps the file.
    pub record_bytes: usize,
    /// Bytes of one request of an upload: they are in memory.
    pub sent_bytes: u64,
    /// Tries of a part that brings nothing.
    pub tries: u32,
    /// Before the second try; then twice as long each time.
    pub back_off: Duration,
    /// A connection that brings nothing for so long is given up.
    pub idle: Duration,
}

impl Default for RegistryOptions {
    fn default() -> Self {
        RegistryOptions {
            allow: None,
            parts: 16,
            part_bytes: (100_000_000, 1_000_000_000),
            record_bytes: 2 << 20, // a huge page
            sent_bytes: 4 << 20,
            tries: 6,
            back_off: Duration::from_secs(1),
            idle: Duration::from_secs(30),
        }
    }
}

/// All registries. Clones share connections.
#[derive(Debug, Clone)]
pub struct Registry {
    client: reqwest::Client,
    /// Past the proxies, for registries on this machine; made when the first is used.
    direct: Arc<OnceLock<reqwest::Client>>,
    options: RegistryOptions,
}

/// How far it is, as Ollama tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// What is being done.
    pub status: String,
    /// With which blob.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// Its bytes.
    #[serde(skip_serializing_if = "is_zero")]
    pub total: u64,
    /// How many of them are done.
    #[serde(skip_serializing_if = "is_zero")]
    pub completed: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl Progress {
    fn status(status: impl Into<String>) -> Self {
        Progress { status: status.into(), digest: None, total: 0, completed: 0 }
    }

    /// `pulling 0123456789ab`
    fn blob(verb: &str, digest: &Digest, total: u64, completed: u64) -> Self {
        let status = format!("{verb} {}", &digest.hex()[..12]);
        Progress { status, digest: Some(digest.to_string()), total, completed }
    }
}

impl Registry {
    /// Makes ready to connect; connects to nobody.
    ///
    /// # Errors
    /// A system without usable TLS.
    pub fn new(options: RegistryOptions) -> Result<Self, RegistryError> {
        let client = builder().build().map_err(RegistryError::transport)?;
        Ok(Registry { client, direct: Arc::default(), options })
    }

    /// Who connects to an address.
    fn client(&self, url: &reqwest::Url) -> &reqwest::Client {
        if !url.host_str().is_some_and(is_loopback) {
            return &self.client;
        }
        self.direct
            .get_or_init(|| builder().no_proxy().build().unwrap_or_else(|_| self.client.clone()))
    }
}

fn builder() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .user_agent(USER_AGENT)
        // Redirects are followed by hand: a token must not go along.
        .redirect(reqwest::redirect::Policy::none())
        .dns_resolver(Arc::new(address::Names))
        .connect_timeout(Duration::from_secs(30))
}
