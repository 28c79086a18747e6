//! From logits to the next token.
//!
//! ```text
//! logits → bias → penalties ─┬─ temperature ≤ 0 ──────────────────────────────→ argmax → token
//!                            └─ top-k → typical → top-p → min-p → temperature → draw ──→ token
//! ```
//!
//! The order and the meaning of each step are those of llama.cpp's default
//! chain, which is what Ollama runs. Temperature comes last, so every filter
//! sees the distribution at temperature 1, renormalised over what the filter
//! before it has left. One deviation: greedy decoding skips the filters, where
//! llama.cpp takes the argmax of what they left. Only `typical_p` can tell, as
//! it alone may drop the most likely token.
//!
//! **The same draw everywhere.** For one seed, history and logits the token is
//! the same on every machine: equal logits are ordered by token id, sums run
//! in f64 in one fixed order (by id, or by rank once a filter has ranked the
//! tokens), `exp` and `ln` are our own (`math.rs`), and so is the generator
//! (`random.rs`).
//!
//! A logit of −∞ marks a masked token: legal, and never drawn. A constraint masks tokens
//! before everything else, so that no filter can leave none that it allows.

mod candidates;
mod math;
mod options;
mod penalties;
mod random;
mod scan;

use candidates::Candidates;
use penalties::Penalties;
use random::Random;

pub use options::SamplerOptions;

use crate::constrain::Mask;
use crate::{Error, Result};

/// One drawn token, and how likely the model itself found it.
#[derive(Debug, Clone, PartialEq)]
pub struct Sampled {
    /// The drawn token.
    pub token: u32,
    /// Natural logarithm of the token's probability in the model's own
    /// distribution: softmax of the logits as passed in, at temperature 1,
    /// before bias, penalties and filters; under a constraint, of those that it allows.
    /// `None` unless
    /// [`SamplerOptions::logprobs`] or [`SamplerOptions::top_logprobs`] asks for it.
    pub logprob: Option<f32>,
    /// The most likely tokens of that same distribution, best first. Shorter
    /// than [`SamplerOptions::top_logprobs`] when fewer tokens are unmasked.
    pub top_logprobs: Vec<TokenLogprob>,
}

/// A token and the natural logarithm of its probability.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct TokenLogprob {
    /// The token.
    pub token: u32,
    /// Natural logarithm of its probability.
    pub logprob: f32,
}

/// Chooses tokens from logits; one per conversation.
///
/// It holds the history that the penalties look at, the random generator, and
/// its scratch memory: after the first call [`sample`](Self::sample) allocates
/// nothing but the list of alternatives it was asked to report.
///
/// ```
/// use tramontane::sampler::{Sampler, SamplerOptions};
///
/// let options = SamplerOptions::default().with_seed(7);
/// let mut sampler = Sampler::new(options, 4)?;
/// let drawn = sampler.sample(&[0.5, 9.0, f32::NEG_INFINITY, 0.1])?;
/// sampler.accept(drawn.token);
/// assert_eq!(drawn.token, 1);
/// # Ok::<(), tramontane::Error>(())
/// ```
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    n_vocab: usize,
    seed: u64,
    random: Random,
    penalties: Penalties,
    /// The logits after bias and penalties; `[n_vocab]` once anything changed some.
    adjusted: Vec<f32>,
    candidates: Candidates,
    /// Tokens that are never chosen.
    never: Vec<u32>,
    /// The logits that a constraint left.
    masked: Vec<f32>,
}

impl Sampler {
    /// A sampler for logits of `n_vocab` tokens.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] names the option that is out of range and what it
    /// accepts.
    pub fn new(options: SamplerOptions, n_vocab: usize) -> Result<Self> {
        options.validate(n_vocab)?;
        let seed = options.seed.unwrap_or_else(random::seed_from_entropy);
        Ok(Self {
            n_vocab,
            seed,
            random: Random::new(seed),
            penalties: Penalties::new(&options),
            adjusted: Vec::new(),
            candidates: Candidates::default(),
            never: Vec::new(),
            masked: Vec::new(),
            options,
        })
    }

    /// Never chooses one of `tokens`, whatever the options say.
    pub(crate) fn without(mut self, tokens: &[u32]) -> Self {
        self.never = tokens.to_vec();
        self
    }

    /// Adds a token of the prompt or of the answer to the history that the
    /// penalties look at.
    pub fn accept(&mut self, token: u32) {
        self.penalties.accept(token);
    }

    /// Chooses the token that follows, from one logit per token of the
    /// vocabulary. The history is left alone: call [`accept`](Self::accept)
    /// with the token that was really taken.
    ///
    /// A draw advances the random generator by one step; a greedy choice does
    /// not.
    ///
    /// # Errors
    ///
    /// [`Error::Misuse`] for a wrong number of logits, [`Error::NonFinite`]
    /// when one is NaN or +∞ or when all are −∞.
    pub fn sample(&mut self, logits: &[f32]) -> Result<Sampled> {
        if logits.len() != self.n_vocab {
            return Err(Error::misuse(format!(
                "the sampler was made for {} logits, got {}",
                self.n_vocab,
                logits.len()
            )));
        }
        let Self { options, penalties, adjusted, candidates, random, never, .. } = self;
        let scores = adjust(options, penalties, never, adjusted, logits);
        let best = scan::highest(scores)?;
        let token = if options.temperature <= 0.0 {
            best.token
        } else {
            candidates.fill(scores, best.logit, options.top_k);
            candidates.keep_typical(options.typical_p);
            candidates.keep_top_p(options.top_p);
            candidates.keep_min_p(options.min_p);
            candidates.draw(options.temperature, random.unit()).unwrap_or(best.token)
        };
        if options.reports() {
            self.report(token, logits)
        } else {
            Ok(Sampled { token, logprob: None, top_logprobs: Vec::new() })
        }
    }

    /// [`sample`](Self::sample) of the tokens that `mask` allows. If it is but one, the
    /// generator is not advanced.
    ///
    /// # Errors
    ///
    /// As [`sample`](Self::sample); tokens that are not allowed are not looked at.
    pub(crate) fn sample_allowed(&mut self, logits: &[f32], mask: &Mask) -> Result<Sampled> {
        if let Some(token) = mask.only() {
            return Ok(self.certain(token));
        }
        let mut masked = std::mem::take(&mut self.masked);
        masked.clear();
        let allowed = |(token, &logit)| if mask.allows(token) { logit } else { f32::NEG_INFINITY };
        masked.extend((0u32..).zip(logits).map(allowed));
        let sampled = self.sample(&masked);
        self.masked = masked;
        sampled
    }

    /// The choice of the one token that is allowed: whatever the logits are, its probability
    /// is 1.
    pub(crate) fn certain(&self, token: u32) -> Sampled {
        let logprob = self.options.reports().then_some(0.0);
        let top = (self.options.top_logprobs > 0).then_some(TokenLogprob { token, logprob: 0.0 });
        Sampled { token, logprob, top_logprobs: top.into_iter().collect() }
    }

    /// `token` with the log-probabilities of the model's own distribution.
    fn report(&mut self, token: u32, logits: &[f32]) -> Result<Sampled> {
        let peak = f64::from(scan::highest(logits)?.logit);
        let total: f64 = logits.iter().map(|&logit| math::exp(f64::from(logit) - peak)).sum();
        let log_total = math::ln(total);
        let logprob = |logit: f32| (f64::from(logit) - peak - log_total) as f32;

        let top = self.candidates.strongest(logits, self.options.top_logprobs);
        let top_logprobs =
            top.map(|(token, logit)| TokenLogprob { token, logprob: logprob(logit) }).collect();
        let logprob = logits.get(token as usize).map(|&logit| logprob(logit));
        Ok(Sampled { token, logprob, top_logprobs })
    }

    /// The options it was made with.
    pub fn options(&self) -> &SamplerOptions {
        &self.options
    }

    /// The seed in use: the one asked for, or the one taken from entropy.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Forgets the history and restarts the random generator at its seed.
    pub fn reset(&mut self) {
        self.random = Random::new(self.seed);
        self.penalties.clear();
    }
}

/// The logits after bias and penalties, and without those of `never`: in `adjusted` if
/// anything changed.
fn adjust<'a>(
    options: &SamplerOptions,
    penalties: &Penalties,
    never: &[u32],
    adjusted: &'a mut Vec<f32>,
    logits: &'a [f32],
) -> &'a [f32] {
    if options.logit_bias.is_empty() && penalties.is_empty() && never.is_empty() {
        return logits;
    }
    adjusted.clear();
    adjusted.extend_from_slice(logits);
    for &(token, bias) in &options.logit_bias {
        change(adjusted, token, |logit| logit + bias);
    }
    penalties.apply(adjusted);
    for &token in never {
        // NaN stays, as above.
        if let Some(logit) = adjusted.get_mut(token as usize)
            && !logit.is_nan()
        {
            *logit = f32::NEG_INFINITY;
        }
    }
    adjusted
}

/// Changes one finite logit and keeps it finite: an extreme penalty makes a
/// token very unlikely, but only −∞ in the input means "never". Masked tokens
/// stay masked, and NaN stays for [`scan::highest`] to find.
fn change(logits: &mut [f32], token: u32, by: impl FnOnce(f32) -> f32) {
    if let Some(logit) = logits.get_mut(token as usize)
        && logit.is_finite()
    {
        *logit = by(*logit).clamp(f32::MIN, f32::MAX);
    }
}
