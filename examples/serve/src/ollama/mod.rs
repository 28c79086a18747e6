//! Ollama's own API, `/api/…`.

mod blobs;
mod chat;
mod create;
mod embed;
mod fields;
mod generate;
mod lines;
mod list;
mod manage;
mod message;
mod show;
mod tokens;
mod transfer;

pub use blobs::{has_blob, put_blob};
pub use chat::chat;
pub use create::create;
pub use embed::{embed, embeddings};
pub use generate::generate;
pub use list::{ps, status, tags, version};
pub use manage::{copy, delete};
pub use show::show;
pub use tokens::{detokenize, tokenize};
pub use transfer::{pull, push};
