//! A drop-in Ollama server, and its command line, in one binary.
//!
//! ```text
//! cli ─► config ─► http (route table, guards) ─► ollama · openai ─► answer ─► engine
//!                                                  │                  │
//!                              registry ─► store ◄─┴── catalog ◄── schedule
//! ```
//! Everything about tensors, tokens and sampling is the library's; here are names,
//! files, HTTP and policy.

mod answer;
mod app;
mod catalog;
mod cli;
mod config;
mod error;
mod http;
mod metrics;
mod modelfile;
mod name;
mod ollama;
mod openai;
mod prompt;
mod registry;
mod schedule;
mod store;

fn main() -> std::process::ExitCode {
    cli::main()
}
