//! The command line: `serve`, `run`, `pull`, `list`, …

/// Parses the arguments and runs the command.
pub fn main() -> std::process::ExitCode {
    std::process::ExitCode::SUCCESS
}
