//! The router: every route in one table, and the guards before it.

mod body;
mod guard;
mod origin;
mod reply;
mod routes;
mod server;

pub use body::{Body, go_kind};
pub use reply::{Event, go_json, json, json_with, ndjson, sse, unfold};
#[allow(unused_imports, reason = "tests ask the router without a socket")]
pub use routes::router;
pub use server::serve;
#[allow(unused_imports, reason = "tests run a server of their own")]
pub use server::{Listener, run};
