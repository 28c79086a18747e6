//! Settings: the OLLAMA_* variables, and the same as flags.
