//! Tests that start processes. They are apart from the others: what a process has open
//! when it forks, its child holds until it has become another program, locks and
//! listening sockets too. For the same reason they run one after the other.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stderr, reason = "figures are said")]

use std::io::Write;

#[path = "../support/mod.rs"]
mod support;

mod command;
#[cfg(unix)]
mod interactive;
mod proxies;
mod pull_full_disk;
mod pull_killed;
mod read_only;
mod real_registry;
mod store;

/// Held by the one test that runs.
static ALONE: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

/// Says aloud what could not be tested here; `.ci/run` lists it. Not `eprintln!`: the
/// harness would hide it.
fn not_run(what: &str) {
    let _ = writeln!(std::io::stderr(), "NOT RUN: {what}");
}
