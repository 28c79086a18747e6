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
    /// Which hidden states make the vector. Default: what the model file says, else
    /// the last token's.
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
    /// Tokens per forward pass. Default: 512. The result does not depend on it.
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
        self.pooling.map_or_else(|| Pooling::of(model.metadata()), Ok)
    }
}

/// The vector of an input.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Embedding {
    /// `[width of the network]`
    pub vector: Vec<f32>,
    /// Tokens of the input that were used: fewer than given if it was cut.
    pub tokens: usize,
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
}

impl Model {
    /// The vectors of `inputs`, token ids each (encode text with the vocabulary's
    /// [`encode`](crate::Tokenizer::encode), with
    /// [`eos`](crate::EncodeOptions::eos)), in their order. The hidden states are
    /// those behind the final norm, which the output matrix would see. A vector does
    /// not depend on what else is computed with it.
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
        let (num_ctx, num_batch) = (self.num_ctx(options.num_ctx)?, num_batch(options.num_batch)?);
        let inputs = inputs
            .iter()
            .enumerate()
            .map(|(i, input)| self.fitting(i, input.as_ref(), num_ctx, options.truncate))
            .collect::<Result<Vec<_>>>()?;
        let mut waiting = inputs.iter();
        let mut state = State::default();
        // A pass is full of the oldest inputs, so they end in their order.
        let mut running: Vec<Running<'_>> = Vec::new();
        let mut embeddings = Vec::with_capacity(inputs.len());
        while embeddings.len() < inputs.len() {
            let mut rows: usize = running.iter().map(|input| input.rest.len()).sum();
            while rows < num_batch
                && running.len() < AT_ONCE
                && let Some(tokens) = waiting.next()
            {
                rows += tokens.len();
                running.push(Running {
                    cache: self.transformer().cache(tokens.len(), options.kv_type),
                    pool: Pool::new(pooling, self.transformer().plan.dim()),
                    tokens: tokens.len(),
                    rest: tokens,
                    share: 0,
                });
            }
            self.pass(&mut state, &mut running, num_batch)?;
            let ended = running.iter().take_while(|input| input.rest.is_empty()).count();
            for Running { pool, tokens, .. } in running.drain(..ended) {
                embeddings.push(Embedding { vector: pool.finish(options.normalize)?, tokens });
            }
        }
        Ok(embeddings)
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
        for Running { cache, rest, share, .. } in running.iter_mut() {
            *share = rest.len().min(room);
            room -= *share;
            let tokens;
            (tokens, *rest) = rest.split_at(*share);
            feeds.push(Feed { cache, tokens, wanted: Wanted::Hidden });
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
