//! Functions, formats and thoughts through the routes, with the built-in model behind
//! templates that know them. It is no model for calls: where one is expected it is forced.

mod calls;
mod commands;
mod formats;
mod history;
mod hostile;
mod models;
mod streams;
mod thoughts;
