//! Runs quantized GGUF language models on CPUs: pure Rust, no C anywhere.
//!
//! The modules stand in the order of the data's way; each uses only those above it.
//!
//! ```text
//! gguf file ─► tensors ─► model (network · vocabulary · template)
//!                            │
//!          text ─► tokens ─► session (KV cache) ─► logits ─► sampler ─► text
//! ```

// Blank lines keep the order: rustfmt sorts neighbours.
#[macro_use]
mod setters;

pub mod error;

pub mod quant;

pub mod tensor;

pub mod gguf;

pub mod simd;

mod kv_cache;

mod kernel;

pub mod machine;

pub mod tokenizer;

pub mod template;

pub mod sampler;

pub mod model;

pub mod session;

pub mod engine;

#[doc(hidden)]
pub mod bench;

pub use engine::{EmbedOptions, Embedding, Pooling};
pub use engine::{Engine, EngineOptions, EngineStats, MemoryEstimate, Pending, Reply, Request};
pub use error::{Bounded, Error, Place, Result};
pub use gguf::Gguf;
pub use kv_cache::KvType;
pub use model::{Model, ModelOptions};
#[cfg(feature = "builtin")]
pub use model::{builtin, builtin_bytes, builtin_with};
pub use sampler::SamplerOptions;
pub use session::{
    Canceller, Completion, ContextFull, FinishReason, GenerateOptions, Generation, Logprob, Piece,
    Session, SessionOptions, Summary, Timings, feed_together,
};
pub use template::{Chat, ChatTemplate, Ending, Message, Tool, ToolCall};
pub use tokenizer::{EncodeOptions, Prompt, Tokenizer};
