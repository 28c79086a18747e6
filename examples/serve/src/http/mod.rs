//! The top: who may ask what, which handler answers, sockets.

mod access;
mod guard;
mod listen;
mod origin;
mod path;
mod request_log;
mod routes;
mod server;

pub use routes::router;
pub use server::{Listener, run, serve};
