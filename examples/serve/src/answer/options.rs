//! Ollama's options → the library's.

use std::borrow::Cow;

use serde_json::{Map, Value};
use tramontane::{ContextFull, GenerateOptions, SamplerOptions};

use crate::wire::{ApiError, Result, number_in};

use super::Asked;

/// Options of one request: its own, else the model's, else those that its file recommends,
/// else Ollama's defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Positions of the conversation, if somebody says.
    pub num_ctx: Option<usize>,
    /// Tokens at the start that are never dropped; -1: the whole prompt.
    num_keep: i64,
    shift: bool,
    generate: GenerateOptions,
}

/// Names that are Ollama's, known here and of no effect on a CPU.
const IGNORED: [&str; 7] = [
    "num_batch",
    "num_gpu",
    "main_gpu",
    "use_mmap",
    "num_thread",
    "draft_num_predict",
    "penalize_newline",
];

impl Options {
    /// Reads `params` of the model and then those of the request, over what its file
    /// `recommends`.
    ///
    /// # Errors
    /// 400 for a value of the wrong type.
    pub fn new(
        params: &Map<String, Value>,
        asked: &Asked,
        recommends: &SamplerOptions,
    ) -> Result<Self> {
        let sampler =
            recommends.clone().with_logprobs(asked.logprobs).with_top_logprobs(asked.top_logprobs);
        let generate = GenerateOptions::default().with_sampler(sampler);
        let mut options = Options { num_ctx: None, num_keep: 4, shift: asked.shift, generate };
        for (name, value) in params.iter().chain(&asked.options) {
            if let Some(value) = said(name, value) {
                options.set(name, &value)?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        match name {
            // Below 4 there is no room for a token between BOS and the answer.
            "num_ctx" => {
                let positions = usize::try_from(integer(name, value)?).unwrap_or(0);
                self.num_ctx = (positions > 0).then_some(positions.max(4));
            }
            "num_keep" => self.num_keep = integer(name, value)?,
            name if IGNORED.contains(&name) => tracing::debug!(name, "option without effect"),
            name => match self.generate.set(name, value) {
                Ok(true) => {}
                Ok(false) => tracing::warn!(name, "unknown option ignored"),
                Err(error) => return Err(ApiError::bad_request(error.to_string())),
            },
        }
        Ok(())
    }

    /// What the library is told for a prompt of `prompt` tokens in `num_ctx` positions;
    /// `most` is the server's own limit of tokens.
    pub fn generate(&self, prompt: usize, num_ctx: usize, most: Option<usize>) -> GenerateOptions {
        // Ollama's bound for a model that never ends.
        let endless = num_ctx.saturating_mul(10);
        let asked = self.generate.num_predict.unwrap_or(endless);
        let num_predict = asked.min(endless).min(most.unwrap_or(usize::MAX));
        let num_keep = usize::try_from(self.num_keep).unwrap_or(prompt);
        let shift = ContextFull::Shift { num_keep };
        let context_full = if self.shift { shift } else { ContextFull::Stop };
        self.generate.clone().with_num_predict(num_predict).with_context_full(context_full)
    }
}

/// What an option says. Nothing, if it is null or empty: clients that always send `stop: []`
/// do not mean to switch off those of the model.
fn said<'v>(name: &str, value: &'v Value) -> Option<Cow<'v, Value>> {
    match (name, value) {
        (_, Value::Null) => None,
        ("stop", Value::String(text)) if text.is_empty() => None,
        ("stop", Value::Array(list)) => {
            let texts: Vec<_> = list.iter().filter(|text| *text != "").cloned().collect();
            (!texts.is_empty()).then(|| Cow::Owned(texts.into()))
        }
        ("logit_bias", Value::Object(map)) if map.is_empty() => None,
        (_, value) => Some(Cow::Borrowed(value)),
    }
}

/// A whole number; decimals are cut off.
fn integer(name: &str, value: &Value) -> Result<i64> {
    let number = number_in(value)
        .as_ref()
        .and_then(|number| number.as_i64().or_else(|| number.as_f64().map(|number| number as i64)));
    number.ok_or_else(|| ApiError::bad_request(format!("option {name:?} must be of type integer")))
}
