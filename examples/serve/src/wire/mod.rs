//! What goes over the wire: Go's JSON, NDJSON and server-sent events, Ollama's forms of
//! addresses and durations, errors. Knows no model and no route.

mod address;
mod body;
mod error;
mod json;
mod keep_alive;
mod reply;
mod text;
mod think;
mod version;

pub use address::{Address, is_loopback};
pub use body::Body;
pub use error::{ApiError, BUSY, Result, STOPPED};
pub use json::{go_json, go_kind, go_type, number_in};
pub use keep_alive::KeepAlive;
pub use reply::{Event, json, json_with, ndjson, sse, unfold};
pub use text::{json as json_text, text};
pub use think::Think;
pub use version::{OLLAMA_VERSION, USER_AGENT};
