//! Runs quantized GGUF language models on CPUs.

pub mod error;
pub mod gguf;
mod kernel;
mod kv_cache;
pub mod sampler;
pub mod model;
pub mod quant;
pub mod simd;
pub mod tensor;

pub use error::{Error, Place, Result};
pub use gguf::Gguf;
