//! Typed answers, and functions that a model calls.
//!
//! | to | see |
//! |---|---|
//! | get a value of a Rust type from an answer | [`Session::extract`](crate::Session::extract), [`Engine::extract`](crate::Engine::extract) |
//! | have a model call closures until it has its answer | [`ToolSet`], [`Session::run_tools`](crate::Session::run_tools), [`Engine::run_tools`](crate::Engine::run_tools) |
//! | show a model the schema of a type | [`schema_of`] |
//!
//! Types say what they are by `serde` and `schemars`, of which a program depends itself, with
//! their feature `derive`. Schemas are enforced while the answer is generated, so what comes
//! out is of the type, or the answer was cut.

mod extract;
mod run;
mod schema;
mod tool_set;
mod turn;

pub use run::{ToolEvent, ToolOptions, ToolRun};
pub use schema::schema_of;
pub use tool_set::ToolSet;
