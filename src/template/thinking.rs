//! Whether a model is to think before it answers, as templates know it.

use serde_json::{Map, Value as Json};

/// Whether the model is to think before it answers, and how much.
///
/// Templates have no common name for it. All of these are set, and a
/// [variable](crate::Chat::variables) of the caller's comes before them:
///
/// | variable | is | read by |
/// |---|---|---|
/// | `enable_thinking` | whether it is on | Qwen3, SmolLM3, Hunyuan, GLM, … |
/// | `thinking` | the same | Granite 3.x, DeepSeek V3.1, Kimi |
/// | `reasoning_effort` | the level, if there is one | gpt-oss |
///
/// Templates of gpt-oss know no `max`: there it is `high`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Thinking {
    /// Not at all, if the model can leave it.
    Off,
    /// As much as it likes.
    On,
    /// Little.
    Low,
    /// Some.
    Medium,
    /// Much.
    High,
    /// As much as it can.
    Max,
}

impl Thinking {
    /// Whether it thinks at all.
    pub fn is_on(self) -> bool {
        self != Thinking::Off
    }

    /// The level: `low`, `medium`, `high` or `max`.
    pub fn level(self) -> Option<&'static str> {
        match self {
            Thinking::Off | Thinking::On => None,
            Thinking::Low => Some("low"),
            Thinking::Medium => Some("medium"),
            Thinking::High => Some("high"),
            Thinking::Max => Some("max"),
        }
    }

    /// The level as a template with this source knows it: gpt-oss has no `max`.
    pub fn level_in(self, source: &str) -> Option<&'static str> {
        let is_harmony = source.contains("<|channel|>") && source.contains("<|start|>");
        match self.level() {
            Some("max") if is_harmony => Some("high"),
            level => level,
        }
    }

    /// The variables for a template with this source.
    pub(super) fn variables(self, source: &str) -> Map<String, Json> {
        let flags = ["enable_thinking", "thinking"].map(|name| (name, Json::Bool(self.is_on())));
        let level = self.level_in(source).map(|level| ("reasoning_effort", Json::from(level)));
        flags.into_iter().chain(level).map(|(name, value)| (name.to_owned(), value)).collect()
    }
}
