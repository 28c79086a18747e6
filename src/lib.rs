//! Runs quantized GGUF language models on CPUs: pure Rust, no C anywhere.
//!
//! ```no_run
//! use tramontane::{GenerateOptions, Model, SessionOptions};
//!
//! fn main() -> tramontane::Result<()> {
//!     let model = Model::open("mistral-7b-instruct-v0.3.Q4_K_M.gguf")?;
//!     let mut session = model.session(&SessionOptions::default())?;
//!     for piece in session.generate("Once upon a time", &GenerateOptions::default())? {
//!         print!("{}", piece?.text);
//!     }
//!     Ok(())
//! }
//! ```
//!
//! # Before you run it
//!
//! In a debug build without these lines in your `Cargo.toml` a model generates a hundred
//! times slower, so that it seems to hang:
//!
//! ```toml
//! [dependencies]
//! tramontane = "0.1"
//!
//! [profile.dev.package.tramontane]
//! opt-level = 3
//! ```
//!
//! # Where to look
//!
//! | to | see |
//! |---|---|
//! | open a file; choose threads, instruction set, sliding window | [`Model::open`], [`ModelOptions`] |
//! | continue a text | [`Session::generate`] |
//! | talk, with history and tools | [`Session::chat`], [`Chat`], [`Message`] |
#![cfg_attr(
    feature = "constrain",
    doc = "| get a value of a Rust type from an answer | [`Session::extract`], [`Engine::extract`] |\n\
           | have a model call functions | [`ToolSet`], [`Session::run_tools`], [`Engine::run_tools`] |"
)]
//! | set temperature, seed, stop strings, a limit of tokens | [`GenerateOptions`], [`SamplerOptions`] |
//! | set options by Ollama's names (`num_predict`, `top_k`, …) | [`GenerateOptions::set`] |
//! | set the context's length and the type of keys and values | [`SessionOptions`], [`KvType`] |
//! | say what happens when the context is full | [`ContextFull`] |
//! | keep answers to a JSON schema, a grammar or a regular expression | [`Constraint`], [`GenerateOptions::constraint`] |
//! | stop from another thread | [`Generation::canceller`], [`Canceller`] |
//! | know why a text ended, and how long it took | [`Summary`], [`Timings`] |
//! | serve many conversations at once, from threads or tasks | [`Engine`], [`EngineOptions`], [`Reply`] |
//! | get log-probabilities | [`SamplerOptions::top_logprobs`], [`Logprob`] |
//! | get logits, or choose tokens yourself | [`Session::feed`], [`sampler::Sampler`] |
//! | turn texts into vectors | [`Model::embed`], [`Engine::embed`] |
//! | know the memory before it is taken | [`MemoryEstimate`] |
//! | keep what was computed in a file | [`Session::save`], [`Engine::save_prefix`] |
//! | turn text into tokens and back | [`Model::tokenizer`], [`Tokenizer`] |
//! | look into a file | [`Gguf`] |
//! | tell errors apart | [`Error`] |
//!
//! Features: `chat-template` (default) renders the chat templates of model files;
//! `constrain` keeps answers to a [`Constraint`], and has typed answers and functions that a model
//! calls; `futures` makes [`Reply`] a `futures_core::Stream`.
//!
//! # How it is built
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

mod error;

mod quant;

pub mod tensor;

pub mod gguf;

mod simd;

mod kv_cache;

mod kernel;

mod machine;

pub mod tokenizer;

pub mod template;

pub mod constrain;

pub mod output;

pub mod sampler;

pub mod model;

pub mod session;

pub mod engine;

#[cfg(feature = "constrain")]
pub mod tools;

mod bench;

#[doc(hidden)]
pub mod internal;

pub use constrain::Constraint;
pub use engine::Score;
pub use engine::{EmbedOptions, Embedding, Pooling, PromptProgress};
pub use engine::{Engine, EngineOptions, EngineStats, MemoryEstimate, Pending, Reply, Request};
pub use error::{Bounded, Error, Place, Result, Warning};
pub use gguf::Gguf;
pub use kv_cache::KvType;
pub use model::{ChatPrompt, Model, ModelOptions};
pub use output::{AnswerShape, OutputEvent, OutputParser, OutputSyntax, ToolChoice};
pub use quant::Format;
pub use sampler::SamplerOptions;
pub use session::{
    Canceller, Completion, ContextFull, FinishReason, GenerateOptions, Generation, Logprob, Piece,
    Session, SessionOptions, Summary, Timings,
};
pub use simd::Isa;
pub use template::{Chat, ChatTemplate, Ending, Message, Thinking, Tool, ToolCall};
pub use tokenizer::{EncodeOptions, Prompt, Tokenizer};
#[cfg(feature = "constrain")]
pub use tools::{ToolEvent, ToolOptions, ToolRun, ToolSet};

/// The snippets of the README compile.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
