//! The server: its parts, its router without a socket, the whole binary.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stderr, reason = "what could not run is said loudly")]

#[path = "../support/mod.rs"]
mod support;

mod cli_tests;
mod collection_tests;
mod config_tests;
mod encoder_tests;
mod fold_tests;
mod go_tests;
mod golden_tests;
mod hostile_tests;
mod layer_tests;
mod log_tests;
mod modelfile_tests;
mod name_tests;
mod openai_tests;
mod prompt_limits_tests;
mod prompt_tests;
mod prompt_tools_tests;
mod registry_tests;
mod router_tests;
mod sampling_tests;
mod schedule_tests;
mod store_tests;
mod stream_tests;
mod tools_tests;
mod unsupported_tests;
