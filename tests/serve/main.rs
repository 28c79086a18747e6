//! The example `serve`: its parts, its router without a socket, the whole binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stderr, reason = "what could not run is said loudly")]
#![allow(dead_code, reason = "the tests use the example's parts, not all of each")]

#[path = "../../examples/serve/answer/mod.rs"]
mod answer;
#[path = "../../examples/serve/app.rs"]
mod app;
#[path = "../../examples/serve/catalog/mod.rs"]
mod catalog;
#[path = "../../examples/serve/cli/mod.rs"]
mod cli;
#[path = "../../examples/serve/config.rs"]
mod config;
#[path = "../../examples/serve/error.rs"]
mod error;
#[path = "../../examples/serve/http/mod.rs"]
mod http;
#[path = "../../examples/serve/metrics.rs"]
mod metrics;
#[path = "../../examples/serve/modelfile.rs"]
mod modelfile;
#[path = "../../examples/serve/name.rs"]
mod name;
#[path = "../../examples/serve/ollama/mod.rs"]
mod ollama;
#[path = "../../examples/serve/openai/mod.rs"]
mod openai;
#[path = "../../examples/serve/prompt/mod.rs"]
mod prompt;
#[path = "../../examples/serve/registry/mod.rs"]
mod registry;
#[path = "../../examples/serve/schedule/mod.rs"]
mod schedule;
#[path = "../../examples/serve/store/mod.rs"]
mod store;

mod cli_tests;
mod config_tests;
mod go_tests;
mod golden_tests;
mod hostile_tests;
mod modelfile_tests;
mod name_tests;
mod openai_tests;
mod prompt_limits_tests;
mod prompt_tests;
mod registry_tests;
mod router_tests;
mod schedule_tests;
mod store_tests;
mod support;
