//! What an engine has done and holds.

/// Counts since the start, and the present state: see
/// [`Engine::stats`](super::Engine::stats).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct EngineStats {
    /// Requests being worked on.
    pub running: usize,
    /// Requests in the queue.
    pub waiting: usize,
    /// Forward passes.
    pub passes: u64,
    /// Tokens of prompts that were computed.
    pub prompt_tokens: u64,
    /// Tokens of the prompts of running requests that are still to be computed.
    pub prompt_tokens_due: usize,
    /// Tokens of prompts that had been computed before.
    pub reused_tokens: u64,
    /// Tokens generated.
    pub generated_tokens: u64,
    /// Tokens drafted.
    pub drafted_tokens: u64,
    /// Drafted tokens that were right.
    pub accepted_tokens: u64,
    /// Bytes of keys and values held, shared ones once.
    pub kv_bytes: usize,
    /// Bytes reserved for running requests beyond that.
    pub kv_reserved: usize,
    /// Prefixes kept of ended requests.
    pub prefixes: usize,
    /// Their tokens.
    pub prefix_tokens: usize,
}

impl EngineStats {
    /// Adds what a pass did.
    pub(super) fn add(&mut self, pass: &EngineStats) {
        self.passes += pass.passes;
        self.prompt_tokens += pass.prompt_tokens;
        self.generated_tokens += pass.generated_tokens;
        self.drafted_tokens += pass.drafted_tokens;
        self.accepted_tokens += pass.accepted_tokens;
    }
}
