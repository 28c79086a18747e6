//! What every API asks of a model, and what comes back.
//!
//! The routes of `ollama` and `openai` turn their JSON into one of these requests and
//! the events of its [`Answer`] into their JSON; between the two there is one way.

mod able;
mod call;
mod chat;
mod closed;
mod coming;
mod embed;
mod fit;
mod form;
mod format;
mod generate;
mod options;
mod output;
mod request;
mod rerank;
mod step;
mod stream;
mod submit;
mod tokens;
pub mod tools;
mod whole;

pub use able::abilities;
pub use call::Call;
pub use chat::{chat, count};
pub use coming::{Coming, News};
pub use embed::{Embed, Embedded, embed};
pub use format::{Format, FormatKind};
pub use generate::{Generate, generate};
pub use options::Options;
pub use request::{Asked, Chat};
pub use rerank::{Document, Ranked, Rerank, Reranked, rerank};
pub use step::{Done, DoneReason, Logprob, Step, TopLogprob};
pub use stream::Answer;
pub use submit::{find, lease, load, unload};
pub use tools::{Choice, Tools};
pub use whole::{Part, Whole};
