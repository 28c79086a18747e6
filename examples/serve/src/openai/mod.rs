//! OpenAI's API and Anthropic's, `/v1/…`: the subset that text models need. What is not
//! in it is refused by name, never passed over in silence.
//!
//! ```text
//! JSON ─► read (options · content · tools · format · unsupported) ─► answer ─► Step ─► reply (id · shared)
//! ```

pub mod anthropic;
pub mod blocks;
pub mod chat;
pub mod completions;
pub mod content;
pub mod embeddings;
pub mod error;
pub mod format;
pub mod id;
pub mod items;
pub mod message;
pub mod models;
pub mod options;
pub mod rerank;
pub mod response;
pub mod responses;
pub mod shared;
pub mod stream;
pub mod tools;
pub mod unsupported;

pub use anthropic::{count_tokens, messages};
pub use chat::chat_completions;
pub use completions::completions;
pub use embeddings::embeddings;
pub use error::refusal;
pub use models::{model, models};
pub use rerank::{api_rerank, rerank};
pub use responses::responses;
