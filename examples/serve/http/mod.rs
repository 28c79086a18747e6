//! The router: every route in one table, and the guards before it.

mod body;
mod guard;
mod origin;
mod reply;
mod routes;
mod server;

pub use body::{Body, go_kind};
pub use reply::{Event, go_json, json, json_with, ndjson, sse, unfold};
pub use routes::router;
pub use server::serve;
