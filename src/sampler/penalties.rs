//! Penalties: tokens of the recent past become less likely.
//!
//! ```text
//! logit = logit > 0 ? logit / repeat : logit · repeat
//! logit = logit − (count · frequency + presence)
//! ```
//!
//! for every token that occurs `count ≥ 1` times among the last
//! `repeat_last_n` tokens; in f32, as llama.cpp computes it.

use std::collections::{HashMap, VecDeque};

use super::{SamplerOptions, change};

/// The tokens in the window, and what their presence costs.
#[derive(Debug, Clone)]
pub(super) struct Penalties {
    window: Window,
    /// The last tokens, oldest first; unused when the window is the whole
    /// history, where nothing ever leaves.
    recent: VecDeque<u32>,
    /// How often each token occurs in the window; never 0. Its order does not
    /// matter: each token is penalized on its own.
    counts: HashMap<u32, u32>,
    repeat: f32,
    presence: f32,
    frequency: f32,
}

#[derive(Debug, Clone, Copy)]
enum Window {
    /// No penalty can change anything: nothing is remembered.
    Off,
    Last(usize),
    All,
}

impl Penalties {
    pub(super) fn new(options: &SamplerOptions) -> Self {
        let neutral = options.repeat_penalty == 1.0
            && options.presence_penalty == 0.0
            && options.frequency_penalty == 0.0;
        let window = match usize::try_from(options.repeat_last_n) {
            _ if neutral => Window::Off,
            Ok(0) => Window::Off,
            Ok(n) => Window::Last(n),
            Err(_) => Window::All,
        };
        Self {
            window,
            recent: VecDeque::new(),
            counts: HashMap::new(),
            repeat: options.repeat_penalty,
            presence: options.presence_penalty,
            frequency: options.frequency_penalty,
        }
    }

    pub(super) fn accept(&mut self, token: u32) {
        match self.window {
            Window::Off => return,
            Window::All => {}
            Window::Last(n) => {
                if self.recent.len() == n {
                    self.forget_oldest();
                }
                self.recent.push_back(token);
            }
        }
        let count = self.counts.entry(token).or_insert(0);
        *count = count.saturating_add(1);
    }

    fn forget_oldest(&mut self) {
        let Some(oldest) = self.recent.pop_front() else { return };
        if let Some(count) = self.counts.get_mut(&oldest) {
            *count -= 1;
            if *count == 0 {
                self.counts.remove(&oldest);
            }
        }
    }

    /// Whether [`apply`](Self::apply) would change nothing.
    pub(super) fn is_empty(&self) -> bool {
        self.counts.is_empty()
    }

    pub(super) fn apply(&self, logits: &mut [f32]) {
        for (&token, &count) in &self.counts {
            let cost = (count as f32 * self.frequency + self.presence).clamp(f32::MIN, f32::MAX);
            change(logits, token, |logit| {
                if logit > 0.0 { logit / self.repeat } else { logit * self.repeat }
            });
            change(logits, token, |logit| logit - cost);
        }
    }

    pub(super) fn clear(&mut self) {
        self.recent.clear();
        self.counts.clear();
    }
}
