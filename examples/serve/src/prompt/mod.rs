//! Conversations → the text that the model reads, by the Go template of a pulled model,
//! as Ollama renders it.
//!
//! Text of people is marked ([`tramontane::Model::mark`]), so that it never becomes a
//! control token. A template sees the marks: `len`, `slice` and comparisons of a text
//! that spells control tokens may differ from Ollama's. A role is marked too, unless it
//! is one of the usual four or the template names it.

mod capability;
mod conversation;
mod cut;
mod go;
mod template;
mod tools;

pub use capability::Capabilities;
pub use go::{TemplateError, quote};
pub use template::{Mark, PromptTemplate};
