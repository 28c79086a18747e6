//! Runs quantized GGUF language models on CPUs.

pub mod error;
pub mod gguf;
pub mod quant;
pub mod template;
pub mod tensor;
pub mod tokenizer;

pub use error::{Error, Place, Result};
pub use gguf::Gguf;
