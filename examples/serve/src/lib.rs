//! A drop-in Ollama server, and its command line, in one binary.
//!
//! ```text
//! cli ─► config ─► http (route table, guards) ─► ollama · openai ─► answer ─► engine
//!                                                  │                  │
//!                              registry ─► store ◄─┴── catalog ◄── schedule
//! ```
//! Everything about tensors, tokens and sampling is the library's; here are names,
//! files, HTTP and policy.

pub mod answer;
pub mod app;
pub mod catalog;
pub mod cli;
pub mod config;
pub mod error;
pub mod http;
pub mod metrics;
pub mod modelfile;
pub mod name;
pub mod ollama;
pub mod openai;
pub mod prompt;
pub mod registry;
pub mod schedule;
pub mod store;
