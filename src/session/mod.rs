//! One conversation: feed tokens, read logits, generate text.

pub(crate) mod answer;
mod cancel;
mod generate;
mod guide;
mod named;
pub(crate) mod overflow;
pub(crate) mod saved;
mod stop;
mod timings;
mod together;

use std::borrow::Cow;
use std::path::Path;
use std::time::Instant;

pub(crate) use cancel::CancelHook;
pub use cancel::Canceller;
pub use generate::{
    Completion, FinishReason, GenerateOptions, Generation, Logprob, Piece, Summary,
};
pub use overflow::ContextFull;
pub use timings::Timings;
pub use together::feed_together;

use answer::Answer;
use generate::PlannedPrompt;
use overflow::Kept;

use crate::error::{Bounded, Error, Result};
use crate::kv_cache::{KvBudget, KvCache, KvType};
use crate::model::forward::{Feed, State, Wanted};
use crate::model::{ChatPrompt, Model};
use crate::template::Chat;
use crate::tokenizer::DecodeStream;

/// The default context length: Ollama's on CPUs.
const DEFAULT_NUM_CTX: usize = 4096;

/// How a conversation is kept.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SessionOptions {
    /// Positions that the conversation may have. Default: 4096, or the model's
    /// trained context if that is shorter. Memory is taken as they are used.
    pub num_ctx: Option<usize>,
    /// Tokens per forward pass while a prompt is computed. Default: 512. The
    /// result does not depend on it.
    pub num_batch: Option<usize>,
    /// How keys and values are stored. Default: [`KvType::I16`].
    pub kv_type: KvType,
}

impl SessionOptions {
    setters! {
        with_num_ctx(num_ctx: impl Into<Option<usize>>);
        with_num_batch(num_batch: impl Into<Option<usize>>);
        with_kv_type(kv_type: KvType);
    }
}

/// One conversation with a model.
#[derive(Debug)]
pub struct Session {
    model: Model,
    cache: KvCache,
    state: State,
    /// What was fed: one token per position of the cache.
    tokens: Vec<u32>,
    /// Generated last and not fed yet: they go in front of what comes next. More than one where
    /// a constraint left no choice.
    pending: Vec<u32>,
    num_batch: usize,
}

impl Model {
    /// Starts a conversation.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a context or batch length of 0.
    pub fn session(&self, options: &SessionOptions) -> Result<Session> {
        self.check_generates()?;
        let num_ctx = self.num_ctx(options.num_ctx)?;
        let num_batch = num_batch(options.num_batch)?;
        Ok(Session {
            model: self.clone(),
            cache: self.transformer().cache(num_ctx, options.kv_type),
            state: State::default(),
            tokens: Vec::new(),
            pending: Vec::new(),
            num_batch,
        })
    }

    /// Positions of a context: what was asked for, or the default.
    pub(crate) fn num_ctx(&self, asked: Option<usize>) -> Result<usize> {
        num_ctx(self.context_length(), asked)
    }
}

/// The same for a model that was trained for so many positions.
pub(crate) fn num_ctx(trained_for: usize, asked: Option<usize>) -> Result<usize> {
    at_least_1("num_ctx", asked.unwrap_or(trained_for.min(DEFAULT_NUM_CTX)))
}

/// Rows of a pass: what was asked for, or the default.
pub(crate) fn num_batch(asked: Option<usize>) -> Result<usize> {
    at_least_1("num_batch", asked.unwrap_or(512))
}

/// # Errors
/// [`Error::NonFinite`] for logits that are no result. (−∞ masks a token.)
fn finite(logits: &[f32]) -> Result<&[f32]> {
    match logits.iter().any(|&logit| logit.is_nan() || logit == f32::INFINITY) {
        false => Ok(logits),
        true => Err(Error::NonFinite(
            "the model computed NaN or infinity; its file is probably damaged".into(),
        )),
    }
}

fn at_least_1(name: &str, value: usize) -> Result<usize> {
    match value {
        0 => Err(Error::misuse(format!("option \"{name}\" must be at least 1"))),
        _ => Ok(value),
    }
}

impl Session {
    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// The tokens that were computed so far. The last generated token is not among
    /// them until more is fed or generated; nor are those before it that a
    /// [constraint](GenerateOptions::constraint) left no choice about.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// Positions that the conversation may have.
    pub fn num_ctx(&self) -> usize {
        self.cache.capacity()
    }

    /// Changes how many positions the conversation may have. Nothing is reloaded.
    ///
    /// # Errors
    /// [`Error::Misuse`] if it already has more, or if the model rotates the keys of
    /// contexts this long in another way (Phi-3's LongRoPE) and some are held:
    /// [`clear`](Session::clear) first.
    pub fn set_num_ctx(&mut self, num_ctx: usize) -> Result<()> {
        let transformer = self.model.transformer();
        let shape = self.cache.shape();
        if transformer.plan.is_long(num_ctx) == shape.long_rope() {
            return self.cache.set_capacity(num_ctx);
        }
        if self.cache.len() > 0 {
            let problem = format!(
                "this model computes contexts of {num_ctx} positions with other rotary \
                 factors than what is held; clear first"
            );
            return Err(Error::misuse(problem));
        }
        self.cache = transformer.cache(num_ctx, shape.kv_type());
        Ok(())
    }

    /// Bytes of keys and values held.
    pub fn cache_bytes(&self) -> usize {
        self.cache.bytes()
    }

    /// Appends `tokens` and returns the logits after the last one, `[n_vocab]`.
    ///
    /// # Errors
    /// [`Error::Misuse`] for no tokens or one outside the vocabulary,
    /// [`Error::Limit`] if they do not fit the context. Nothing is fed then.
    /// [`Error::NonFinite`] if the model computes NaN or infinity.
    pub fn feed(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        self.feed_cancellable(tokens, &Canceller::new())
    }

    /// [`feed`](Session::feed) that another thread can end, within one layer.
    ///
    /// # Errors
    /// As [`feed`](Session::feed), and [`Error::Cancelled`]: the tokens of finished batches
    /// stay fed.
    pub fn feed_cancellable(&mut self, tokens: &[u32], canceller: &Canceller) -> Result<&[f32]> {
        self.compute(tokens, canceller)?;
        finite(&self.state.logits)
    }

    /// Appends `tokens`, after the one that is pending.
    fn compute(&mut self, tokens: &[u32], canceller: &Canceller) -> Result<()> {
        let tokens = self.with_pending(tokens)?;
        let mut rest = &*tokens;
        while !rest.is_empty() {
            let (batch, after) = rest.split_at(rest.len().min(self.num_batch));
            let wanted = if after.is_empty() { Wanted::Last } else { Wanted::None };
            self.step(batch, wanted, canceller)?;
            rest = after;
        }
        Ok(())
    }

    /// Appends `tokens` in one forward pass and returns the logits after each,
    /// `[tokens, n_vocab]`: for measuring text. Memory grows with the length, so
    /// give long texts in parts. (A token generated before counts as one more.)
    ///
    /// # Errors
    /// As [`feed`](Session::feed).
    pub fn evaluate(&mut self, tokens: &[u32]) -> Result<&[f32]> {
        let tokens = self.with_pending(tokens)?;
        self.step(&tokens, Wanted::All, &Canceller::new())?;
        finite(&self.state.logits)
    }

    /// The pending token, then `tokens`; checked against what the vocabulary has
    /// and the context takes, so that an error leaves everything as it was.
    fn with_pending<'t>(&mut self, tokens: &'t [u32]) -> Result<Cow<'t, [u32]>> {
        let all: Cow<'_, [u32]> = match &*self.pending {
            [] => tokens.into(),
            pending => [pending, tokens].concat().into(),
        };
        if all.is_empty() {
            return Err(Error::misuse("the prompt is empty; give at least one token"));
        }
        self.model.transformer().check_tokens(&all)?;
        self.check_room(self.cache.len() + all.len())?;
        Ok(all)
    }

    fn check_room(&self, needed: usize) -> Result<()> {
        if needed > self.cache.capacity() {
            return Err(Error::limit(Bounded::Context, needed, self.cache.capacity()));
        }
        Ok(())
    }

    fn step(&mut self, tokens: &[u32], wanted: Wanted, canceller: &Canceller) -> Result<()> {
        let mut feeds = [Feed { cache: &mut self.cache, tokens, wanted }];
        let transformer = self.model.transformer();
        transformer.forward(&mut self.state, &mut feeds, canceller.flag())?;
        self.tokens.extend_from_slice(tokens);
        self.pending.clear();
        Ok(())
    }

    /// Forgets the tokens from `len` on.
    ///
    /// # Errors
    /// [`Error::Misuse`] if there are fewer, or if a sliding window has already
    /// dropped what the next token would see, or if the model has recurrent layers and their
    /// state there is not kept (that before the last feed is, unless a feed was cancelled
    /// since). Nothing is changed then;
    /// [`clear`](Session::clear) and feed again.
    pub fn truncate(&mut self, len: usize) -> Result<()> {
        self.cache.truncate(len)?;
        self.tokens.truncate(len);
        self.pending.clear();
        Ok(())
    }

    /// Forgets the conversation.
    pub fn clear(&mut self) {
        self.cache.clear();
        self.tokens.clear();
        self.pending.clear();
    }

    /// A second conversation that goes on from here on its own. The past is
    /// shared, not copied.
    pub fn fork(&self) -> Session {
        Session {
            model: self.model.clone(),
            cache: self.cache.fork(),
            state: State::default(),
            tokens: self.tokens.clone(),
            pending: self.pending.clone(),
            num_batch: self.num_batch,
        }
    }

    /// Saves what is computed, all of [`tokens`](Session::tokens), to a file, which sessions
    /// and [engines](crate::Engine::restore_prefix) of this model read. The whole file is
    /// written, or what was there before stays. The first save or restore hashes the
    /// model's weights, about a second per 2 GB and thread.
    ///
    /// ```
    /// # let folder = std::env::temp_dir().join(format!("tramontane-doc-{}", std::process::id()));
    /// # std::fs::create_dir_all(&folder).unwrap();
    /// # let path = folder.join("prefix");
    /// let model = tramontane::Model::open("models/storyteller-q4_k_m.gguf")?;
    /// let mut session = model.session(&Default::default())?;
    /// session.feed(&[1, 441, 455, 263])?;
    /// session.save(&path)?;
    /// let mut later = model.session(&Default::default())?;
    /// later.restore(&path)?;
    /// assert_eq!(later.tokens(), [1, 441, 455, 263]);
    /// # std::fs::remove_dir_all(&folder).unwrap();
    /// # Ok::<(), tramontane::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Misuse`] if nothing is computed, [`Error::NonFinite`] for keys or values
    /// that could not be read back, [`Error::Io`].
    pub fn save(&self, path: impl AsRef<Path>) -> Result<()> {
        if self.tokens.is_empty() {
            return Err(Error::misuse("nothing is computed yet that could be saved"));
        }
        saved::write(path.as_ref(), &self.model, &self.tokens, &self.cache)
    }

    /// Puts what [`save`](Session::save), or an engine, saved in the place of the
    /// conversation.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a file of another model or KV type, [`Error::Unsupported`] for
    /// one of a newer version, [`Error::File`] for a damaged one, [`Error::Limit`] if it has
    /// more positions than [`num_ctx`](Session::num_ctx), [`Error::Io`]. The conversation
    /// stays as it was then.
    pub fn restore(&mut self, path: impl AsRef<Path>) -> Result<()> {
        let kv_type = self.cache.shape().kv_type();
        let budget = KvBudget::unlimited();
        let (tokens, mut cache) = saved::read(path.as_ref(), &self.model, &budget, kv_type)?;
        self.check_room(tokens.len())?;
        if cache.shape().long_rope() != self.cache.shape().long_rope() {
            let problem = "the prefix was saved in a context with other rotary factors (another \
                           num_ctx)";
            return Err(Error::misuse(problem));
        }
        cache.set_capacity(self.num_ctx())?;
        (self.cache, self.tokens, self.pending) = (cache, tokens, Vec::new());
        Ok(())
    }

    /// Appends `prompt` as plain text (control tokens in it are text) and
    /// generates. At the start of a conversation the vocabulary's BOS is added, and
    /// SentencePiece's space; later the text goes on where the one before ended, as it does
    /// with an empty prompt after a generation.
    ///
    /// # Errors
    /// [`Error::Misuse`] for an empty prompt or impossible options, [`Error::Limit`] for a
    /// prompt that does not fit the context, unless [`ContextFull`] says to cut it. Nothing
    /// is changed then.
    pub fn generate(&mut self, prompt: &str, options: &GenerateOptions) -> Result<Generation<'_>> {
        if prompt.is_empty() && self.pending.is_empty() {
            return Err(Error::misuse("the prompt is empty; give some text to continue"));
        }
        let before = [&*self.tokens, &*self.pending].concat();
        let tokens = self.model.tokenizer().encode_after(&before, prompt);
        self.generate_from(&tokens, options)
    }

    /// Appends `prompt` and generates.
    ///
    /// # Errors
    /// As [`generate`](Session::generate).
    pub fn generate_from(
        &mut self,
        prompt: &[u32],
        options: &GenerateOptions,
    ) -> Result<Generation<'_>> {
        if prompt.is_empty() && self.pending.is_empty() {
            return Err(Error::misuse("the prompt is empty; give at least one token"));
        }
        let answer = Answer::new(&self.model, &[], DecodeStream::continuing(), options)?;
        let before = [&*self.tokens, &*self.pending].concat();
        let planned = self.plan_prompt(&before, prompt, 0, options)?;
        Ok(Generation::start(self, planned, answer))
    }

    /// Renders `chat` with the model's template and generates the answer; a last message
    /// of the assistant is continued (see [`Ending`](crate::template::Ending)).
    ///
    /// The first tokens that the prompt shares with what the session holds are not computed
    /// again ([`Timings::reused_tokens`] counts them), so calling this with a growing list
    /// of messages costs only the new ones. How far that goes is the template's doing: one
    /// that writes the system's message into the last turn changes earlier turns with every
    /// new one (Mistral v0.3), and little is found again.
    ///
    /// # Errors
    /// [`Error::Template`] if the model has no template, or it refuses the messages although
    /// they were [folded](crate::template::Fold) to what it takes, and what [`generate`](Session::generate) gives.
    pub fn chat(&mut self, chat: &Chat, options: &GenerateOptions) -> Result<Generation<'_>> {
        self.answer_prompt(&self.model.chat_prompt(chat)?, options)
    }

    /// Generates the answer to a rendered conversation; see [`chat`](Session::chat).
    pub(crate) fn answer_prompt(
        &mut self,
        prompt: &ChatPrompt,
        options: &GenerateOptions,
    ) -> Result<Generation<'_>> {
        let ChatPrompt { tokens: prompt, continues, .. } = prompt;
        if prompt.is_empty() {
            return Err(Error::Template("it renders nothing".into()));
        }
        let common = self.tokens.iter().zip(prompt).take_while(|(a, b)| a == b).count();
        // At least one token must be computed to have logits, and more where the state does
        // not reach back so far.
        let common = self.cache.reachable(common.min(prompt.len().saturating_sub(1)));
        // The answer is a text of its own: SentencePiece's leading space is no part
        // of it, and the template will add it again when the answer is history.
        let decoder = match continues {
            true => DecodeStream::continuing(),
            false => DecodeStream::new(),
        };
        let answer = Answer::new(&self.model, &[], decoder, options)?;
        let planned = self.plan_prompt(&prompt[..common], &prompt[common..], common, options)?;
        if !planned.start_again {
            let common = self.cache.rewind_to(common);
            self.tokens.truncate(common);
            self.pending.clear();
        }
        Ok(Generation::start(self, planned, answer))
    }

    /// How to compute `prompt` after `before`, which the session has, or is about to have;
    /// the first `reused` tokens of both count as found.
    fn plan_prompt(
        &self,
        before: &[u32],
        prompt: &[u32],
        reused: usize,
        options: &GenerateOptions,
    ) -> Result<PlannedPrompt> {
        self.model.transformer().check_tokens(prompt)?;
        let all = [before, prompt].concat();
        let kept = options.context_full.fit_prompt(&all, self.num_ctx(), options.num_predict);
        if let Some(Kept { tokens, dropped }) = kept {
            return Ok(PlannedPrompt { start_again: true, tokens, dropped, reused: 0 });
        }
        self.check_room(all.len())?;
        Ok(PlannedPrompt { start_again: false, tokens: prompt.to_vec(), dropped: 0, reused })
    }

    /// Time since `start`, and a new start.
    fn lap(start: &mut Instant) -> std::time::Duration {
        let now = Instant::now();
        let lap = now - *start;
        *start = now;
        lap
    }
}
