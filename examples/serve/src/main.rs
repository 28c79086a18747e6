//! The binary `tramontane`: see the library.

fn main() -> std::process::ExitCode {
    tramontane_serve::cli::main()
}
