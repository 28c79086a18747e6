//! A drop-in Ollama server, and its command line, in one binary.
//!
//! ```text
//! cli ─► http (route table, guards, sockets) ─► ollama · openai ─► answer ─► engine
//!                                                 │                  │
//!                             registry ─► store ◄─┴── catalog ◄── schedule
//!                                   wire (JSON, NDJSON, SSE, errors)
//! ```
//! Everything about tensors, tokens and sampling is the library's; here are names,
//! files, HTTP and policy. The modules are declared from the bottom up: each uses those
//! before it, and `tests/structure` holds that.

// Blank lines keep the order: rustfmt sorts neighbours.
pub mod task;

pub mod wire;

pub mod name;

pub mod store;

pub mod prompt;

pub mod config;

pub mod log;

pub mod record;

pub mod builtin;

pub mod registry;

pub mod schedule;

pub mod metrics;

pub mod app;

pub mod catalog;

pub mod modelfile;

pub mod answer;

pub mod ollama;

pub mod openai;

pub mod http;

pub mod cli;
