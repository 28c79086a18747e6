//! What the caller may choose, and which values make sense.

use std::ops::RangeInclusive;

use crate::{Error, Result};

/// How tokens are chosen. The default is Ollama's.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct SamplerOptions {
    /// Divides the logits before the draw: below 1 sharper, above 1 flatter.
    /// Zero or negative takes the most likely token and draws nothing. Default: 0.8.
    pub temperature: f32,
    /// Keeps this many of the most likely tokens; zero or negative keeps all. Default: 40.
    pub top_k: i32,
    /// Keeps the smallest set of most likely tokens whose probabilities reach
    /// this sum, at least one token; 1 keeps all. Default: 0.9.
    pub top_p: f32,
    /// Keeps tokens at least this many times as likely as the most likely one;
    /// 0 keeps all. Default: 0.
    pub min_p: f32,
    /// Keeps the tokens whose surprise is nearest to the expected surprise,
    /// until their probabilities exceed this sum; 1 keeps all. Default: 1.
    pub typical_p: f32,
    /// How many of the last tokens the penalties look at: 0 none, −1 the whole
    /// history. Default: 64.
    pub repeat_last_n: i32,
    /// Divides positive logits, and multiplies the others, of tokens in the
    /// window; 1 changes nothing. Default: 1.
    pub repeat_penalty: f32,
    /// Subtracted from the logit of each token that is in the window. Default: 0.
    pub presence_penalty: f32,
    /// Subtracted from a token's logit once per occurrence in the window. Default: 0.
    pub frequency_penalty: f32,
    /// Where the random generator starts: the same seed, prompt and options give the
    /// same text on every machine. Default: a seed from entropy, which
    /// [`Generation::seed`](crate::Generation::seed) tells.
    pub seed: Option<u64>,
    /// Added to the logits of single tokens before all else. A token that is
    /// named twice gets both. Default: none.
    pub logit_bias: Vec<(u32, f32)>,
    /// How many of the most likely tokens to report with each choice, at most
    /// 20. More than 0 implies [`logprobs`](Self::logprobs). Default: 0.
    pub top_logprobs: usize,
    /// Whether to report the log-probability of each choice. Costs one `exp` per token of
    /// the vocabulary. Default: false.
    pub logprobs: bool,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self {
            temperature: 0.8,
            top_k: 40,
            top_p: 0.9,
            min_p: 0.0,
            typical_p: 1.0,
            repeat_last_n: 64,
            repeat_penalty: 1.0,
            presence_penalty: 0.0,
            frequency_penalty: 0.0,
            seed: None,
            logit_bias: Vec::new(),
            top_logprobs: 0,
            logprobs: false,
        }
    }
}

impl SamplerOptions {
    setters! {
        with_temperature(temperature: f32);
        with_top_k(top_k: i32);
        with_top_p(top_p: f32);
        with_min_p(min_p: f32);
        with_typical_p(typical_p: f32);
        with_repeat_last_n(repeat_last_n: i32);
        with_repeat_penalty(repeat_penalty: f32);
        with_presence_penalty(presence_penalty: f32);
        with_frequency_penalty(frequency_penalty: f32);
        with_seed(seed: impl Into<Option<u64>>);
        with_logit_bias(logit_bias: impl Into<Vec<(u32, f32)>>);
        with_top_logprobs(top_logprobs: usize);
        with_logprobs(logprobs: bool);
    }

    /// Always the most likely token; the other options as by default.
    pub fn greedy() -> Self {
        Self { temperature: 0.0, ..Self::default() }
    }

    /// Whether log-probabilities are asked for.
    pub(super) fn reports(&self) -> bool {
        self.logprobs || self.top_logprobs > 0
    }

    /// Refuses the first option that is out of its range.
    pub(crate) fn validate(&self, n_vocab: usize) -> Result<()> {
        // Token ids are u32.
        if n_vocab == 0 || u32::try_from(n_vocab - 1).is_err() {
            return Err(Error::misuse(format!(
                "a sampler needs a vocabulary of 1 to 2^32 tokens, got {n_vocab}"
            )));
        }
        finite("temperature", self.temperature)?;
        within("top_p", self.top_p, 0.0..=1.0)?;
        within("min_p", self.min_p, 0.0..=1.0)?;
        within("typical_p", self.typical_p, 0.0..=1.0)?;
        finite("repeat_penalty", self.repeat_penalty)?;
        if self.repeat_penalty <= 0.0 {
            return Err(refuse("repeat_penalty", "greater than 0", self.repeat_penalty));
        }
        finite("presence_penalty", self.presence_penalty)?;
        finite("frequency_penalty", self.frequency_penalty)?;
        if self.repeat_last_n < -1 {
            let accepted = "-1 (the whole context), 0 (off) or a number of tokens";
            return Err(refuse("repeat_last_n", accepted, self.repeat_last_n));
        }
        within("top_logprobs", self.top_logprobs, 0..=20)?;
        self.validate_bias(n_vocab)
    }

    fn validate_bias(&self, n_vocab: usize) -> Result<()> {
        for &(token, bias) in &self.logit_bias {
            if token as usize >= n_vocab {
                return Err(Error::misuse(format!(
                    "option \"logit_bias\" must name tokens from 0 to {}, got {token}",
                    n_vocab - 1
                )));
            }
            if !bias.is_finite() {
                return Err(Error::misuse(format!(
                    "option \"logit_bias\" must be a finite number, got {bias} for token {token}"
                )));
            }
        }
        Ok(())
    }
}

fn finite(name: &str, value: f32) -> Result<()> {
    if value.is_finite() { Ok(()) } else { Err(refuse(name, "a finite number", value)) }
}

fn within<T>(name: &str, value: T, range: RangeInclusive<T>) -> Result<()>
where
    T: PartialOrd + std::fmt::Display,
{
    if range.contains(&value) {
        return Ok(());
    }
    let accepted = format!("between {} and {}", range.start(), range.end());
    Err(refuse(name, &accepted, value))
}

fn refuse(name: &str, accepted: &str, value: impl std::fmt::Display) -> Error {
    Error::misuse(format!("option \"{name}\" must be {accepted}, got {value}"))
}
