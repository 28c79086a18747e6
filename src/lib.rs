//! Runs quantized GGUF language models on CPUs.

pub mod error;
pub mod quant;

pub use error::{Error, Place, Result};
