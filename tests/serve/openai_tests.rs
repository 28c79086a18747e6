//! Tests of `openai`.
