//! Texts → vectors, many texts in one pass.

use std::borrow::Cow;
use std::sync::atomic::AtomicBool;

use crate::error::{Bounded, Error, Result};
use crate::kv_cache::{KvCache, KvType};
use crate::model::Model;
use crate::model::forward::{Feed, State, Wanted};
use crate::session::num_batch;

use super::pooling::{Pool, Pooling};

/// Inputs in one pass at most: each holds a cache, and a layer of a cache takes
/// memory by up to 2 MiB.
const AT_ONCE: usize = 16;

/// How texts become vectors.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EmbedOptions {
    /// Which hidden states make the vector. Default: what the model file says; else the mean
    /// of an encoder's, and of other models the last token's, as Ollama's own engine
    /// answered.
    pub pooling: Option<Pooling>,
    /// Whether vectors get length 1, so that a product of two is their cosine.
    /// Default: true.
    pub normalize: bool,
    /// Whether an input longer than the context is cut at its end (an
    /// end-of-sequence token that the vocabulary put there is kept). Default: false,
    /// an error.
    pub truncate: bool,
    /// Tokens per input at most. Default: as for a session.
    pub num_ctx: Option<usize>,
    /// Tokens per forward pass. Default: 512; more for a longer text where all of it must be
    /// in one pass (encoders). The result does not depend on it.
    pub num_batch: Option<usize>,
    /// How keys and values are stored. Default: [`KvType::I16`].
    pub kv_type: KvType,
}

impl Default for EmbedOptions {
    fn default() -> Self {
        EmbedOptions {
            pooling: None,
            normalize: true,
            truncate: false,
            num_ctx: None,
            num_batch: None,
            kv_type: KvType::default(),
        }
    }
}

impl EmbedOptions {
    setters! {
        with_pooling(pooling: impl Into<Option<Pooling>>);
        with_normalize(normalize: bool);
        with_truncate(truncate: bool);
        with_num_ctx(num_ctx: impl Into<Option<usize>>);
        with_num_batch(num_batch: impl Into<Option<usize>>);
        with_kv_type(kv_type: KvType);
    }

    /// The pooling that was asked for, or the file's.
    pub(super) fn pooling_of(&self, model: &Model) -> Result<Pooling> {
        let default = match model.transformer().plan.is_encoder() {
            true => Pooling::Mean,
            false => Pooling::Last,
        };
        self.pooling.map_or_else(|| Pooling::of(model.metadata(), default), Ok)
    }
}

/// The vector of an input.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Embedding {
    /// `[width of the network]`, or as wide as its last matrix behind pooling.
    pub vector: Vec<f32>,
    /// Tokens of the input that were used: fewer than given if it was cut.
    pub tokens: usize,
}

/// The tokens of a text, or of two that are read together.
#[derive(Debug, Clone)]
pub(super) struct Tokens<'a> {
    pub all: Cow<'a, [u32]>,
    /// Where the second text begins.
    pub second: Option<usize>,
}

/// An input on its way through the network.
struct Running<'a> {
    cache: KvCache,
    pool: Pool,
    tokens: usize,
    /// Tokens not computed yet.
    rest: &'a [u32],
    /// How many of them are in this pass.
    share: usize,
    second: Option<usize>,
}

impl Model {
    /// The vectors of `inputs`, token ids each (encode text with the vocabulary's
    /// [`encode`](crate::Tokenizer::encode), with
    /// [`eos`](crate::EncodeOptions::eos)), in their order. The hidden states are
    /// those behind the final norm, which the output matrix would see. A vector does
    /// not depend on what else is computed with it.
    ///
    /// Many models want a prefix before a text, others for what is searched than for what is
    /// found, such as `search_query: ` and `search_document: `: see `docs/embeddings.md`.
    ///
    /// ```
    /// use tramontane::EncodeOptions;
    /// let model = tramontane::Model::open("models/storyteller-q4_k_m.gguf")?;
    /// let options = EncodeOptions::default().with_eos(true);
    /// let encode = |text| model.tokenizer().encode(text, options);
    /// let inputs = [encode("The cat slept."), encode("A kitten was sleeping.")];
    /// let both = model.embed(&inputs, &Default::default())?;
    /// let cosine: f32 = both[0].vector.iter().zip(&both[1].vector).map(|(a, b)| a * b).sum();
    /// assert!(cosine > 0.0 && cosine < 1.0);
    /// # Ok::<(), tramontane::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Misuse`] for an input without tokens or with one outside the
    /// vocabulary, [`Error::Limit`] for one that does not fit the context, unless it
    /// is to be cut; [`Error::NonFinite`] if the network computes NaN or infinity;
    /// [`Error::Unsupported`] if the file names a pooling that gives no vector.
    pub fn embed(
        &self,
        inputs: &[impl AsRef<[u32]>],
        options: &EmbedOptions,
    ) -> Result<Vec<Embedding>> {
        let pooling = options.pooling_of(self)?;
        let num_ctx = self.embed_ctx(options.num_ctx)?;
        let mut all = Vec::with_capacity(inputs.len());
        for (i, input) in inputs.iter().enumerate() {
            let fitting = self.fitting(i, input.as_ref(), num_ctx, options.truncate)?;
            all.push(Tokens { all: fitting, second: None });
        }
        let mut embeddings = Vec::with_capacity(inputs.len());
        self.pool_each(&all, pooling, options, |pool, tokens| {
            let vector = pool.vector(self.transformer(), options.normalize)?;
            embeddings.push(Embedding { vector, tokens });
            Ok(())
        })?;
        Ok(embeddings)
    }

    /// Positions of a text: what was asked for or the default, but no more than an encoder
    /// has learned.
    pub(super) fn embed_ctx(&self, asked: Option<usize>) -> Result<usize> {
        let num_ctx = self.num_ctx(asked)?;
        let positions = self.transformer().plan.embed.positions.as_ref();
        Ok(positions.map_or(num_ctx, |table| num_ctx.min(table.0.rows())))
    }

    /// Computes `inputs` and calls `each` with the pooled states of each and the number of
    /// its tokens, in their order.
    pub(super) fn pool_each(
        &self,
        inputs: &[Tokens<'_>],
        pooling: Pooling,
        options: &EmbedOptions,
        mut each: impl FnMut(Pool, usize) -> Result<()>,
    ) -> Result<()> {
        let num_batch = num_batch(options.num_batch)?;
        let transformer = self.transformer();
        let whole = transformer.plan.is_encoder();
        let mut waiting = inputs.iter().peekable();
        let mut state = State::default();
        // A pass is full of the oldest inputs, so they end in their order.
        let mut running: Vec<Running<'_>> = Vec::new();
        while !running.is_empty() || waiting.peek().is_some() {
            let mut rows: usize = running.iter().map(|input| input.rest.len()).sum();
            // An encoder reads whole texts: a pass grows to a long one.
            let fits = |rows: usize, len: usize| match whole {
                true => rows == 0 || rows + len <= num_batch,
                false => rows < num_batch,
            };
            while running.len() < AT_ONCE
                && let Some(Tokens { all, second }) =
                    waiting.next_if(|tokens| fits(rows, tokens.all.len()))
            {
                rows += all.len();
                running.push(Running {
                    cache: transformer.cache(all.len(), options.kv_type),
                    pool: Pool::new(pooling, transformer.plan.dim()),
                    tokens: all.len(),
                    rest: all,
                    share: 0,
                    second: *second,
                });
            }
            self.pass(&mut state, &mut running, if whole { rows } else { num_batch })?;
            let ended = running.iter().take_while(|input| input.rest.is_empty()).count();
            for Running { pool, tokens, .. } in running.drain(..ended) {
                each(pool, tokens)?;
            }
        }
        Ok(())
    }

    /// The tokens of input number `index` to be used, checked.
    pub(super) fn fitting<'a>(
        &self,
        index: usize,
        tokens: &'a [u32],
        num_ctx: usize,
        truncate: bool,
    ) -> Result<Cow<'a, [u32]>> {
        if tokens.is_empty() {
            let problem = format!("input {index} is empty; give at least one token");
            return Err(Error::misuse(problem));
        }
        self.transformer().check_tokens(tokens)?;
        if tokens.len() > num_ctx && !truncate {
            return Err(Error::limit(Bounded::Context, tokens.len(), num_ctx));
        }
        let added_eos = self.tokenizer().eos().filter(|_| self.tokenizer().adds_eos());
        Ok(cut(tokens, num_ctx, added_eos))
    }

    /// The next `num_batch` tokens of the inputs, oldest first.
    fn pass(&self, state: &mut State, running: &mut [Running<'_>], num_batch: usize) -> Result<()> {
        let mut room = num_batch;
        let mut feeds = Vec::with_capacity(running.len());
        for Running { cache, rest, share, second, .. } in running.iter_mut() {
            *share = rest.len().min(room);
            room -= *share;
            let tokens;
            (tokens, *rest) = rest.split_at(*share);
            let wanted = second.map_or(Wanted::Hidden, Wanted::HiddenOfPair);
            feeds.push(Feed { cache, tokens, wanted });
        }
        self.transformer().forward(state, &mut feeds, &AtomicBool::new(false))?;
        let mut hidden = &*state.hidden;
        for Running { pool, share, .. } in running {
            let own;
            (own, hidden) = hidden.split_at(*share * self.transformer().plan.dim());
            pool.add(own);
        }
        Ok(())
    }
}

/// The hidden state of every token behind the final norm, `[tokens, dim]`.
///
/// # Errors
/// As [`Model::embed`].
pub fn hidden_states(model: &Model, tokens: &[u32], kv_type: KvType) -> Result<Vec<f32>> {
    let transformer = model.transformer();
    let mut cache = transformer.cache(tokens.len(), kv_type);
    let mut state = State::default();
    let feed = Feed { cache: &mut cache, tokens, wanted: Wanted::Hidden };
    transformer.forward(&mut state, &mut [feed], &AtomicBool::new(false))?;
    Ok(state.hidden)
}

/// The first `most` of `tokens`; where they end with `added_eos`, the cut ones do too.
fn cut(tokens: &[u32], most: usize, added_eos: Option<u32>) -> Cow<'_, [u32]> {
    match tokens {
        _ if tokens.len() <= most => tokens.into(),
        [.., last] if Some(*last) == added_eos && most > 0 => {
            [&tokens[..most - 1], &[*last]].concat().into()
        }
        _ => tokens[..most].into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_keeps_the_end_of_sequence_that_the_vocabulary_added() {
        let tokens = [1, 5, 6, 7, 2];
        assert_eq!(*cut(&tokens, 5, Some(2)), tokens);
        assert_eq!(*cut(&tokens, 3, Some(2)), [1, 5, 2]);
        assert_eq!(*cut(&tokens, 1, Some(2)), [2]);
        assert_eq!(*cut(&tokens, 3, None), [1, 5, 6]);
        assert_eq!(*cut(&tokens[..4], 3, Some(2)), [1, 5, 6]);
    }
}
