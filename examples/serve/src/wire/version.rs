//! The version of Ollama whose API this is.

macro_rules! ollama_version {
    () => {
        "0.32.0"
    };
}

/// The version that clients compare with what they need.
pub const OLLAMA_VERSION: &str = ollama_version!();

/// What registries are told.
pub const USER_AGENT: &str =
    concat!("ollama/", ollama_version!(), " (tramontane ", env!("CARGO_PKG_VERSION"), ")");
