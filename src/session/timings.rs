//! How long the phases of a generation took.

use std::time::Duration;

/// Counts and times of one generation.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Opening the model.
    pub load: Duration,
    /// From handing in a request to the start of its work; 0 in a session.
    pub waited: Duration,
    /// Prompt tokens that were computed.
    pub prompt_tokens: usize,
    /// Prompt tokens that were already in the cache.
    pub reused_tokens: usize,
    /// Computing the prompt.
    pub prompt: Duration,
    /// Tokens generated.
    pub generated_tokens: usize,
    /// Tokens drafted.
    pub drafted_tokens: usize,
    /// Drafted tokens that were right: they cost no pass of their own.
    pub accepted_tokens: usize,
    /// Generating them, sampling included.
    pub generation: Duration,
}

impl Timings {
    /// Prompt tokens computed per second; 0 if there were none.
    pub fn prompt_rate(&self) -> f64 {
        rate(self.prompt_tokens, self.prompt)
    }

    /// Tokens generated per second; 0 if there were none.
    pub fn generation_rate(&self) -> f64 {
        rate(self.generated_tokens, self.generation)
    }
}

fn rate(count: usize, time: Duration) -> f64 {
    if time.is_zero() { 0.0 } else { count as f64 / time.as_secs_f64() }
}
