//! Ollama's options → the library's.

use serde_json::{Map, Value};
use tramontane::{ContextFull, GenerateOptions, SamplerOptions};

use crate::error::{ApiError, Result};
use crate::http::go_kind;

use super::Asked;

/// Options of one request: its own, else the model's, else Ollama's defaults.
#[derive(Debug, Clone)]
pub struct Options {
    /// Positions of the conversation, if somebody says.
    pub num_ctx: Option<usize>,
    /// Tokens at the start that are never dropped; -1: the whole prompt.
    num_keep: i64,
    /// Tokens to generate at most; negative: no limit of its own.
    num_predict: i64,
    /// How tokens are chosen.
    sampler: SamplerOptions,
    /// Ends before any of these.
    stop: Vec<String>,
    shift: bool,
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
    /// Reads `params` of the model and then those of the request.
    ///
    /// # Errors
    /// 400 for a value of the wrong type.
    pub fn new(params: &Map<String, Value>, asked: &Asked) -> Result<Self> {
        let sampler = SamplerOptions::default()
            .with_logprobs(asked.logprobs)
            .with_top_logprobs(asked.top_logprobs);
        let mut options = Options {
            num_ctx: None,
            num_keep: 4,
            num_predict: -1,
            sampler,
            stop: Vec::new(),
            shift: asked.shift,
        };
        for (name, value) in params.iter().chain(&asked.options) {
            if !value.is_null() {
                options.set(name, value)?;
            }
        }
        Ok(options)
    }

    fn set(&mut self, name: &str, value: &Value) -> Result<()> {
        let sampler = &mut self.sampler;
        match name {
            // Below 4 there is no room for a token between BOS and the answer.
            "num_ctx" => {
                let positions = usize::try_from(integer(name, value)?).unwrap_or(0);
                self.num_ctx = (positions > 0).then_some(positions.max(4));
            }
            "num_keep" => self.num_keep = integer(name, value)?,
            "num_predict" => self.num_predict = integer(name, value)?,
            "seed" => {
                let seed = integer(name, value)?;
                sampler.seed = (seed != -1).then_some(seed as u64);
            }
            "top_k" => sampler.top_k = clamped(integer(name, value)?),
            "repeat_last_n" => sampler.repeat_last_n = clamped(integer(name, value)?),
            "top_p" => sampler.top_p = float(name, value)?,
            "min_p" => sampler.min_p = float(name, value)?,
            "typical_p" => sampler.typical_p = float(name, value)?,
            "temperature" => sampler.temperature = float(name, value)?,
            "repeat_penalty" => sampler.repeat_penalty = float(name, value)?,
            "presence_penalty" => sampler.presence_penalty = float(name, value)?,
            "frequency_penalty" => sampler.frequency_penalty = float(name, value)?,
            "stop" => self.stop = strings(name, value)?,
            "logit_bias" => sampler.logit_bias = biases(value)?,
            name if IGNORED.contains(&name) => tracing::debug!(name, "option without effect"),
            name => tracing::warn!(name, "unknown option ignored"),
        }
        Ok(())
    }

    /// What the library is told for a prompt of `prompt` tokens in `num_ctx` positions;
    /// `most` is the server's own limit of tokens.
    pub fn generate(&self, prompt: usize, num_ctx: usize, most: Option<usize>) -> GenerateOptions {
        // Ollama's bound for a model that never ends.
        let endless = num_ctx.saturating_mul(10);
        let asked = usize::try_from(self.num_predict).unwrap_or(endless);
        let num_predict = asked.min(endless).min(most.unwrap_or(usize::MAX));
        let num_keep = usize::try_from(self.num_keep).unwrap_or(prompt);
        let shift = ContextFull::Shift { num_keep };
        GenerateOptions::default()
            .with_sampler(self.sampler.clone())
            .with_num_predict(num_predict)
            .with_stop(self.stop.clone())
            .with_context_full(if self.shift { shift } else { ContextFull::Stop })
    }
}

fn wrong(name: &str, kind: &str) -> ApiError {
    ApiError::bad_request(format!("option {name:?} must be of type {kind}"))
}

/// A whole number; decimals are cut off.
fn integer(name: &str, value: &Value) -> Result<i64> {
    let number = value.as_i64().or_else(|| value.as_f64().map(|number| number as i64));
    number.ok_or_else(|| wrong(name, "integer"))
}

fn float(name: &str, value: &Value) -> Result<f32> {
    let number = value.as_f64().ok_or_else(|| wrong(name, "float32"))? as f32;
    if number.is_finite() { Ok(number) } else { Err(wrong(name, "float32")) }
}

fn clamped(number: i64) -> i32 {
    number.clamp(i32::MIN.into(), i32::MAX.into()) as i32
}

fn strings(name: &str, value: &Value) -> Result<Vec<String>> {
    let Value::Array(list) = value else { return Err(wrong(name, "array")) };
    let text = |value: &Value| value.as_str().map(str::to_owned);
    list.iter().map(text).collect::<Option<_>>().ok_or_else(|| {
        ApiError::bad_request(format!("option {name:?} must be of an array of strings"))
    })
}

/// OpenAI's form: an object of token ids and what is added to their logits.
fn biases(value: &Value) -> Result<Vec<(u32, f32)>> {
    let wrong = || {
        let kind = go_kind(value);
        ApiError::bad_request(format!(
            "option \"logit_bias\" must be an object of numbers, not {kind}"
        ))
    };
    let map = value.as_object().ok_or_else(wrong)?;
    let one = |(token, bias): (&String, &Value)| {
        Some((token.parse::<u32>().ok()?, bias.as_f64().filter(|b| b.is_finite())? as f32))
    };
    map.iter().map(one).collect::<Option<_>>().ok_or_else(wrong)
}
