//! What the replies of several routes have in common: head, figures, log probabilities.

use std::time::SystemTime;

use serde_json::{Map, Value, json};

use crate::answer::{Done, Logprob, TopLogprob};

use super::id;

/// What every chunk of a reply repeats.
#[derive(Debug, Clone)]
pub struct Head {
    /// The reply's name.
    pub id: String,
    /// Seconds since 1970.
    pub created: u64,
    /// The model, as the client wrote it.
    pub model: String,
}

impl Head {
    /// A new reply; its id begins with `prefix`.
    pub fn new(prefix: &str, model: &str) -> Self {
        Head {
            id: id::random(prefix),
            created: id::seconds(SystemTime::now()),
            model: model.into(),
        }
    }

    /// A reply or a chunk of it, with its choices.
    pub fn object(&self, kind: &str, choices: Value) -> Value {
        json!({
            "id": self.id,
            "object": kind,
            "created": self.created,
            "model": self.model,
            "system_fingerprint": "fp_ollama",
            "choices": choices,
        })
    }
}

/// Tokens that were read and made.
pub fn usage(done: &Done) -> Value {
    let mut usage = json!({
        "prompt_tokens": done.prompt_tokens,
        "completion_tokens": done.generated_tokens,
        "total_tokens": done.prompt_tokens + done.generated_tokens,
        "prompt_tokens_details": {"cached_tokens": done.reused_tokens},
    });
    if done.thinking_tokens > 0 {
        usage["completion_tokens_details"] = json!({"reasoning_tokens": done.thinking_tokens});
    }
    usage
}

/// Says that the conversation was cut, or folded to what the template takes, that the
/// answer ended because its format or tools allowed no further token, or which functions'
/// arguments could not be held to their schemas: not in these APIs, but what their users miss.
pub fn add_own(reply: &mut Value, done: &Done) {
    let mut own = Map::new();
    let (tokens, messages) = (done.dropped_tokens, done.dropped_messages);
    if tokens + messages > 0 {
        own.insert("truncated".into(), true.into());
        own.insert("dropped_tokens".into(), tokens.into());
        own.insert("dropped_messages".into(), messages.into());
    }
    if done.dead_end {
        own.insert("incomplete".into(), "constraint".into());
    }
    if !done.loose_functions.is_empty() {
        own.insert("unconstrained_tools".into(), json!(done.loose_functions));
    }
    if !done.folds.is_empty() {
        own.insert("folded".into(), json!(done.folds));
    }
    if !own.is_empty() {
        reply["x_tramontane"] = own.into();
    }
}

/// Tokens with their log probabilities, in the form of chats.
pub fn logprobs(list: &[Logprob]) -> Vec<Value> {
    let top = |top: &TopLogprob| json!({"token": top.token, "logprob": finite(top.logprob), "bytes": top.bytes});
    let one = |one: &Logprob| {
        json!({
            "token": one.token,
            "logprob": finite(one.logprob),
            "bytes": one.bytes,
            "top_logprobs": one.top_logprobs.iter().map(top).collect::<Vec<_>>(),
        })
    };
    list.iter().map(one).collect()
}

/// The same in the form of completions.
pub fn logprobs_of_text(list: &[Logprob]) -> Value {
    let (mut tokens, mut chosen, mut top, mut offsets) = (vec![], vec![], vec![], vec![]);
    for one in list {
        tokens.push(one.token.as_str());
        chosen.push(finite(one.logprob));
        let others = one.top_logprobs.iter();
        let others = others.map(|top| (top.token.clone(), json!(finite(top.logprob))));
        top.push(others.collect::<Map<_, _>>());
        offsets.push(one.offset);
    }
    json!({
        "tokens": tokens,
        "token_logprobs": chosen,
        "top_logprobs": top,
        "text_offset": offsets,
        // Ollama's form.
        "content": logprobs(list),
    })
}

/// JSON has no infinity; this is OpenAI's number for "never".
fn finite(logprob: f64) -> f64 {
    if logprob.is_finite() { logprob.max(-9999.0) } else { -9999.0 }
}
