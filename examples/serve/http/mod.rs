//! The router: every route in one table, and the guards before it.

mod body;
mod reply;

pub use body::{Body, go_kind};
pub use reply::{Event, go_json, json, json_with, ndjson, sse, unfold};
