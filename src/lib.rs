//! Runs quantized GGUF language models on CPUs.

pub mod error;
// pub mod gguf;
pub mod quant;
pub mod sampler;

pub use error::{Error, Place, Result};
