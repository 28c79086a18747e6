//! Many conversations with one model at once.

#[allow(dead_code, reason = "the worker will use it")]
mod draft;
mod embed;
mod pooling;
#[allow(dead_code, reason = "the worker will use it")]
mod saved;

pub use embed::{EmbedOptions, Embedding};
pub use pooling::Pooling;
