//! What every API asks of a model, and what comes back.
//!
//! The routes of `ollama` and `openai` turn their JSON into one of these requests and
//! the events of its [`Answer`] into their JSON; between the two there is one way.

mod chat;
mod coming;
mod embed;
mod generate;
mod options;
mod request;
mod rerank;
mod stream;
mod submit;
mod tokens;

pub use chat::{chat, count};
pub use coming::{Coming, News};
pub use embed::{Embed, Embedded, embed};
pub use generate::{Generate, generate};
pub use options::Options;
pub use request::{Asked, Chat};
pub use rerank::{Document, Ranked, Rerank, Reranked, rerank};
pub use stream::{Answer, Done, DoneReason, Logprob, Step, TopLogprob};
pub use submit::{find, lease, load, unload};
