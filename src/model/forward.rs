//! The forward pass: rows of several conversations through all layers at once.
//!
//! A batch is a list of [`Feed`]s, each some tokens for one cache. All code
//! below works on rows `[rows, width]`; only attention looks at which
//! conversation a row belongs to. One parallel region covers the whole pass.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::attention::Attention;
use crate::kernel::matmul::{Group, Input, Product, multiply};
use crate::kernel::norm::RmsNorm;
use crate::kernel::pool::Team;
use crate::kernel::rope::Turns;
use crate::kv_cache::KvCache;
use crate::quant;

use super::transformer::Transformer;
use super::weights::Layer;

/// Tokens for one conversation.
pub(crate) struct Feed<'a> {
    pub cache: &'a mut KvCache,
    pub tokens: &'a [u32],
    pub wanted: Wanted,
}

/// What a [`Feed`] is computed for, beside its keys and values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    None,
    /// The logits after the last token.
    Last,
    /// The logits after every token.
    All,
    /// The hidden state of every token after the final norm: what the output
    /// matrix would multiply.
    Hidden,
}

/// The rows of a pass that get past the last layer.
#[derive(Debug, Default)]
struct WantedRows {
    logits: Vec<usize>,
    hidden: Vec<usize>,
}

/// Buffers of the forward pass, reused from call to call.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// `[rows, dim]`: the residual stream.
    x: Vec<f32>,
    /// What the next matrices multiply.
    input: Input,
    /// `[rows, q_dim]`, `[rows, kv_dim]` twice.
    q: Vec<f32>,
    k: Vec<f32>,
    v: Vec<f32>,
    /// `[rows, ffn_dim]`: what `ffn_down` multiplies.
    gated: Vec<f32>,
    turns: Turns,
    /// `[rows that want logits, n_vocab]`
    pub logits: Vec<f32>,
    /// `[rows that want hidden states, dim]`
    pub hidden: Vec<f32>,
}

impl Transformer {
    /// Runs `feeds`, appends to their caches, and leaves the wanted logits and
    /// hidden states in `state`, each in the order of the rows.
    ///
    /// # Errors
    /// [`Error::Limit`] if a cache is full, [`Error::Misuse`] for a token outside
    /// the vocabulary, [`Error::Cancelled`] when `cancel` was raised: it is read
    /// before every layer. The caches are unchanged then.
    pub fn forward(
        &self,
        state: &mut State,
        feeds: &mut [Feed<'_>],
        cancel: &AtomicBool,
    ) -> Result<()> {
        let mut positions = Vec::new();
        let mut rows = WantedRows::default();
        for Feed { cache, tokens, wanted } in feeds.iter_mut() {
            self.check_tokens(tokens)?;
            cache.reserve(tokens.len())?;
            let (start, end) = (positions.len(), positions.len() + tokens.len());
            match wanted {
                Wanted::None => {}
                Wanted::Last => rows.logits.extend((start..end).last()),
                Wanted::All => rows.logits.extend(start..end),
                Wanted::Hidden => rows.hidden.extend(start..end),
            }
            positions.extend(cache.len()..cache.len() + tokens.len());
        }
        state.reset(self, positions.len());
        self.config.rope.turns(&positions, &mut state.turns);
        self.pool.region(|team| -> Result<()> {
            self.embed(team, feeds, &mut state.x)?;
            for (index, layer) in self.weights.layers.iter().enumerate() {
                if cancel.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                self.layer(team, state, feeds, index, layer);
            }
            self.head(team, state, &rows);
            Ok(())
        })?;
        for feed in feeds {
            feed.cache.commit(feed.tokens.len());
        }
        Ok(())
    }

    /// Every token must have a row in the embedding.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let n_vocab = self.config.n_vocab;
        match tokens.iter().find(|&&token| token as usize >= n_vocab) {
            Some(token) => Err(Error::misuse(format!(
                "token {token} is outside the vocabulary of {n_vocab} tokens"
            ))),
            None => Ok(()),
        }
    }

    fn embed(&self, team: &Team<'_>, feeds: &[Feed<'_>], x: &mut [f32]) -> Result<()> {
        let embd = &self.weights.token_embd;
        let tokens: Vec<u32> = feeds.iter().flat_map(|feed| feed.tokens).copied().collect();
        let mut rows: Vec<_> =
            x.chunks_exact_mut(self.config.dim).map(|row| (row, Ok(()))).collect();
        team.for_each(&mut rows, |r, (row, result)| {
            *result = quant::dequantize(embd.format(), embd.row(tokens[r] as usize), row);
        });
        rows.into_iter().try_for_each(|(_, result)| result)
    }

    /// One transformer block: attention, then the feed-forward network.
    fn layer(
        &self,
        team: &Team<'_>,
        state: &mut State,
        feeds: &mut [Feed<'_>],
        index: usize,
        layer: &Layer,
    ) {
        let State { x, input, q, k, v, gated, turns, .. } = state;
        let (wq, wk, wv) = (&layer.attn_q, &layer.attn_k, &layer.attn_v);
        self.norm(team, x, &layer.attn_norm, input);
        self.multiply(
            team,
            input,
            &mut [Product::Store(wq, q), Product::Store(wk, k), Product::Store(wv, v)],
        );
        self.attend(team, turns, feeds, index, (q, k, v), input);
        self.multiply(team, input, &mut [Product::Add(&layer.attn_output, x)]);

        self.norm(team, x, &layer.ffn_norm, input);
        let (gate, up) = (&layer.ffn_gate, &layer.ffn_up);
        let activation = Activation::Silu;
        self.multiply(team, input, &mut [Product::Gate { activation, gate, up, out: gated }]);
        input.replace(gated, self.config.ffn_dim);
        self.multiply(team, input, &mut [Product::Add(&layer.ffn_down, x)]);
        input.replace(gated, self.config.dim); // each keeps its own memory
    }

    /// `input ← rms_norm(x) · weight`
    fn norm(&self, team: &Team<'_>, x: &[f32], weight: &[f32], input: &mut Input) {
        let dim = self.config.dim;
        input.reset(x.len() / dim, dim);
        self.norm_rows(team, x.chunks_exact(dim), weight, &mut input.values);
    }

    /// `out ← rms_norm(x) · weight`, `out`: as many rows as `x`.
    fn norm_rows<'x>(
        &self,
        team: &Team<'_>,
        x: impl Iterator<Item = &'x [f32]>,
        weight: &[f32],
        out: &mut [f32],
    ) {
        let epsilon = self.config.rms_epsilon;
        let mut rows: Vec<_> = x.zip(out.chunks_exact_mut(self.config.dim)).collect();
        team.for_each(&mut rows, |_, (x, out)| {
            self.isa.run(RmsNorm { x, weight, epsilon, out });
        });
    }

    /// Computes `products` of one input.
    fn multiply<'a>(&self, team: &Team<'_>, input: &'a mut Input, products: &'a mut [Product<'a>]) {
        multiply(team, self.isa, &mut [Group { input, products }]);
    }

    /// `input ← attention(q)`, after writing keys and values to the caches.
    fn attend(
        &self,
        team: &Team<'_>,
        turns: &Turns,
        feeds: &mut [Feed<'_>],
        layer: usize,
        (q, k, v): (&[f32], &[f32], &[f32]),
        input: &mut Input,
    ) {
        let (kv_heads, head_dim) = (self.config.kv_heads, self.config.head_dim);
        let attention = Attention { isa: self.isa, layer, kv_heads, head_dim, turns };
        let mut rows = 0;
        let spans: Vec<Range<usize>> = feeds
            .iter()
            .map(|feed| {
                let span = rows..rows + feed.tokens.len();
                rows = span.end;
                span
            })
            .collect();
        let caches = feeds.iter_mut().map(|feed| &mut *feed.cache).zip(spans.clone());
        attention.remember(team, caches.collect(), k, v);
        input.reset(rows, self.config.q_dim());
        let caches: Vec<_> = feeds.iter().map(|feed| &*feed.cache).zip(spans).collect();
        attention.attend(team, &caches, q, &mut input.values);
    }

    /// Final norm and output matrix, for the wanted rows only.
    fn head(&self, team: &Team<'_>, state: &mut State, wanted: &WantedRows) {
        let dim = self.config.dim;
        let State { x, input, logits, hidden, .. } = state;
        let row = |&row: &usize| &x[row * dim..][..dim];
        let norm = &self.weights.output_norm;
        hidden.resize(wanted.hidden.len() * dim, 0.0);
        if !wanted.hidden.is_empty() {
            self.norm_rows(team, wanted.hidden.iter().map(row), norm, hidden);
        }
        logits.resize(wanted.logits.len() * self.config.n_vocab, 0.0);
        if !wanted.logits.is_empty() {
            input.reset(wanted.logits.len(), dim);
            self.norm_rows(team, wanted.logits.iter().map(row), norm, &mut input.values);
            let output = &self.weights.output;
            self.multiply(team, input, &mut [Product::Store(output, logits)]);
        }
    }
}

impl State {
    /// Makes room for `rows` rows.
    fn reset(&mut self, model: &Transformer, rows: usize) {
        let config = &model.config;
        self.x.resize(rows * config.dim, 0.0);
        self.q.resize(rows * config.q_dim(), 0.0);
        self.k.resize(rows * config.kv_dim(), 0.0);
        self.v.resize(rows * config.kv_dim(), 0.0);
        self.gated.resize(rows * config.ffn_dim, 0.0);
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

    use super::*;
    use crate::kv_cache::KvType;
    use crate::model::Model;

    #[test]
    fn hidden_states_are_what_the_output_matrix_multiplies_whatever_rides_along() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/models/storyteller-q4_k_m.gguf");
        let model = Model::open(file).unwrap();
        let transformer = model.transformer();
        let tokens: Vec<u32> = (1..30).collect();
        let wanted = [Wanted::Last, Wanted::Hidden, Wanted::None, Wanted::All, Wanted::Hidden];
        let mut caches = wanted.map(|_| transformer.cache(tokens.len(), KvType::I16));
        let feeds = caches.iter_mut().zip(wanted);
        let mut feeds: Vec<_> =
            feeds.map(|(cache, wanted)| Feed { cache, tokens: &tokens, wanted }).collect();
        let mut state = State::default();
        transformer.forward(&mut state, &mut feeds, &AtomicBool::new(false)).unwrap();

        let (dim, n_vocab) = (transformer.config.dim, transformer.config.n_vocab);
        let (first, second) = state.hidden.split_at(tokens.len() * dim);
        assert_eq!(first, second);
        let mut input = Input::default();
        input.reset(tokens.len(), dim);
        input.values.copy_from_slice(first);
        let mut logits = vec![0.0; tokens.len() * n_vocab];
        let output = &transformer.weights.output;
        transformer.pool.region(|team| {
            transformer.multiply(team, &mut input, &mut [Product::Store(output, &mut logits)]);
        });
        let (last, all) = state.logits.split_at(n_vocab);
        assert_eq!(all, logits);
        assert_eq!(last, &logits[logits.len() - n_vocab..]);

        // Buffers of the pass before leave no trace.
        let first = all[..n_vocab].to_vec();
        let mut cache = transformer.cache(1, KvType::I16);
        let feed = Feed { cache: &mut cache, tokens: &tokens[..1], wanted: Wanted::Last };
        transformer.forward(&mut state, &mut [feed], &AtomicBool::new(false)).unwrap();
        assert_eq!((&*state.logits, &*state.hidden), (&*first, &[][..]));
    }
}
