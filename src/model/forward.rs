//! The forward pass: rows of several conversations through all layers at once.
//!
//! A batch is a list of [`Feed`]s, each some tokens for one cache. All code
//! below works on rows `[rows, width]`; only attention looks at which
//! conversation a row belongs to. One parallel region covers the whole pass.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{Bounded, Error, Result};
use crate::kernel::math::{map, soft_cap};
use crate::kernel::matmul::Product;
use crate::kernel::pool::Team;
use crate::kernel::rope::{Place, RotaryTable};
use crate::quant;
use crate::simd::{Simd, Task};

use super::layer::{BranchEnd, NormRow, Pass, multiply_one, norm_rows};
use super::plan::{Embed, Ffn, LayerPlan, Mixer};
pub(crate) use super::state::{Feed, State, Wanted};
use super::transformer::Transformer;

/// The rows of a pass that get past the last layer.
#[derive(Debug, Default)]
struct WantedRows {
    logits: Vec<usize>,
    hidden: Vec<usize>,
}

impl Transformer {
    /// Runs `feeds`, appends to their caches, and leaves the wanted logits and
    /// hidden states in `state`, each in the order of the rows.
    ///
    /// # Errors
    /// [`Error::Limit`] if a cache is full, [`Error::Misuse`] for a token outside
    /// the vocabulary, [`Error::Cancelled`] when `cancel` was raised: it is read
    /// before every layer. The caches hold what they held then; of recurrent layers the state
    /// before the last pass may be gone.
    pub fn forward(
        &self,
        state: &mut State,
        feeds: &mut [Feed<'_>],
        cancel: &AtomicBool,
    ) -> Result<()> {
        let (mut places, mut spans) = (Vec::new(), Vec::new());
        let mut wanted_rows = WantedRows::default();
        for Feed { cache, tokens, wanted } in feeds.iter_mut() {
            self.check_tokens(tokens)?;
            self.check_positions(cache.len(), tokens.len())?;
            cache.allocate(tokens.len())?;
            let rows = places.len()..places.len() + tokens.len();
            wanted_rows.add(*wanted, rows.clone());
            let (long, first) = (cache.shape().long_rope(), cache.len());
            places
                .extend(rows.clone().map(|row| Place { position: first + row - rows.start, long }));
            spans.push(rows);
        }
        state.prepare(self, &places);
        self.pool.region(|team| -> Result<()> {
            self.embed(team, feeds, &places, &mut state.x)?;
            let end = BranchEnd { norm: None, scale: 1.0 };
            let mut pass = Pass { team, isa: self.isa, state: &mut *state, feeds, spans, end };
            if let Some(inputs) = &self.plan.embed.layer_inputs {
                inputs.fill(&mut pass)?;
            }
            for layer in &self.plan.layers {
                if cancel.load(Ordering::Relaxed) {
                    return Err(Error::Cancelled);
                }
                run_layer(&mut pass, layer);
            }
            self.head(team, pass.state, &wanted_rows)
        })?;
        for feed in feeds {
            feed.cache.commit(feed.tokens.len());
        }
        Ok(())
    }

    /// Every token must have a row in the embedding.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        let n_vocab = self.plan.n_vocab();
        match tokens.iter().find(|&&token| token as usize >= n_vocab) {
            Some(token) => Err(Error::misuse(format!(
                "token {token} is outside the vocabulary of {n_vocab} tokens"
            ))),
            None => Ok(()),
        }
    }

    /// All rows of a text that is seen from both sides must be in one pass, and every
    /// position must have its row where positions are learned.
    fn check_positions(&self, held: usize, more: usize) -> Result<()> {
        if held > 0 && self.plan.is_encoder() {
            return Err(Error::misuse("an encoder reads a text in one pass, not in parts"));
        }
        match &self.plan.embed.positions {
            Some(table) if held + more > table.0.rows() => {
                Err(Error::limit(Bounded::Context, held + more, table.0.rows()))
            }
            _ => Ok(()),
        }
    }

    fn embed(
        &self,
        team: &Team<'_>,
        feeds: &[Feed<'_>],
        places: &[Place],
        x: &mut [f32],
    ) -> Result<()> {
        let mut of_rows = Vec::with_capacity(places.len());
        for Feed { tokens, wanted, .. } in feeds {
            let second = match wanted {
                Wanted::HiddenOfPair(second) => *second,
                _ => usize::MAX,
            };
            of_rows.extend(tokens.iter().enumerate().map(|(row, &token)| (token, row >= second)));
        }
        let mut rows: Vec<_> =
            x.chunks_exact_mut(self.plan.dim()).map(|row| (row, Ok(()))).collect();
        team.for_each(&mut rows, |r, (row, result)| {
            let (token, second) = of_rows[r];
            *result = self.embed_row(token, places[r].position, second, row);
        });
        rows.into_iter().try_for_each(|(_, result)| result)
    }

    /// The row of `token`; of a position and of a text, where the model adds such.
    fn embed_row(&self, token: u32, position: usize, second: bool, x: &mut [f32]) -> Result<()> {
        let Embed { table, scale, types, positions, norm, .. } = &self.plan.embed;
        quant::dequantize(table.0.format(), table.0.row(token as usize), x)?;
        if *scale != 1.0 {
            x.iter_mut().for_each(|x| *x *= scale);
        }
        if let Some(types) = types {
            // Models of one kind have one row for all.
            let of_second = types.get(x.len()..2 * x.len()).filter(|_| second);
            let kind = of_second.unwrap_or(&types[..x.len()]);
            x.iter_mut().zip(kind).for_each(|(x, kind)| *x += kind);
        }
        if let Some(positions) = positions {
            let mut at = vec![0.0; x.len()];
            quant::dequantize(positions.0.format(), positions.0.row(position), &mut at)?;
            x.iter_mut().zip(at).for_each(|(x, at)| *x += at);
        }
        if let Some(norm) = norm {
            let whole = x.to_vec();
            self.isa.run(NormRow { norm, x: &whole, out: x });
        }
        Ok(())
    }

    /// Final norm and output matrix, for the wanted rows only.
    ///
    /// # Errors
    /// [`Error::Misuse`] for logits of a model without an output matrix.
    fn head(&self, team: &Team<'_>, state: &mut State, wanted: &WantedRows) -> Result<()> {
        let (dim, n_vocab, head) = (self.plan.dim(), self.plan.n_vocab(), &self.plan.head);
        let State { x, input, logits, hidden, .. } = state;
        let row = |&row: &usize| &x[row * dim..][..dim];
        hidden.resize(wanted.hidden.len() * dim, 0.0);
        if !wanted.hidden.is_empty() {
            let rows = wanted.hidden.iter().map(row);
            norm_rows(team, self.isa, head.norm.as_ref(), rows, hidden);
        }
        logits.resize(wanted.logits.len() * n_vocab, 0.0);
        if !wanted.logits.is_empty() {
            let Some(output) = &head.output else {
                return Err(Error::misuse("this model is an encoder; it has no logits"));
            };
            input.reset(wanted.logits.len(), dim);
            let rows = wanted.logits.iter().map(row);
            norm_rows(team, self.isa, head.norm.as_ref(), rows, &mut input.values);
            multiply_one(team, self.isa, input, &mut [Product::Store(output, logits)]);
            if head.scale != 1.0 || head.soft_cap.is_some() {
                let mut rows: Vec<&mut [f32]> = logits.chunks_exact_mut(n_vocab).collect();
                let (scale, soft_cap) = (head.scale, head.soft_cap);
                team.for_each(&mut rows, |_, logits| {
                    self.isa.run(FinishLogits { scale, soft_cap, logits });
                });
            }
        }
        Ok(())
    }
}

/// What the logits of a row go through.
struct FinishLogits<'a> {
    scale: f32,
    soft_cap: Option<f32>,
    logits: &'a mut [f32],
}

impl Task for FinishLogits<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let scale = simd.splat(self.scale);
        map(simd, self.logits, |x| {
            let x = simd.mul(x, scale);
            self.soft_cap.map_or(x, |cap| soft_cap(simd, cap, x))
        });
    }
}

/// One layer: its branches, and what comes behind them.
fn run_layer<'p>(pass: &mut Pass<'p, '_>, layer: &'p LayerPlan) {
    run_branches(pass, layer);
    if let Some(input) = &layer.input {
        pass.end = BranchEnd { norm: Some(&input.norm), scale: 1.0 };
        input.run(pass);
    }
    if layer.output_scale != 1.0 {
        pass.scale(layer.output_scale);
    }
}

/// norm → mixer → residual → norm → feed-forward network → residual
fn run_branches<'p>(pass: &mut Pass<'p, '_>, layer: &'p LayerPlan) {
    let LayerPlan { norms, mixer, ffn, branch_scale: scale, parallel, .. } = layer;
    if let Some(mixer) = mixer {
        pass.norm(norms.before_mixer.as_ref());
        if *parallel {
            pass.state.same.clone_from(&pass.state.input.values);
        }
        if norms.second_sum.is_some() {
            pass.state.before.clone_from(&pass.state.x);
        }
        pass.end = BranchEnd { norm: norms.after_mixer.as_ref(), scale: *scale };
        match mixer {
            Mixer::Attention(attention) => attention.run(pass),
            Mixer::Latent(latent) => latent.run(pass),
            Mixer::ShortConv(short_conv) => short_conv.run(pass),
            Mixer::DeltaNet(delta_net) => delta_net.run(pass),
            Mixer::Mamba2(mamba2) => mamba2.run(pass),
        }
    }
    let Some(ffn) = ffn else { return };
    if *parallel {
        let State { same, input, .. } = &mut *pass.state;
        let dim = same.len() / pass.spans.last().map_or(1, |span| span.end);
        input.replace(same, dim);
    } else if let Some(norm) = &norms.mixer_sum {
        pass.norm_residual(norm);
        if let Some(norm) = &norms.second_sum {
            pass.norm_sum(norm);
        }
    } else {
        pass.norm(norms.before_ffn.as_ref());
    }
    pass.end = BranchEnd { norm: norms.after_ffn.as_ref(), scale: *scale };
    match ffn {
        Ffn::Dense(dense) => dense.run(pass),
        Ffn::Experts(experts) => experts.run(pass),
        Ffn::Beside(both) => both.run(pass),
    }
    if let Some(norm) = &norms.ffn_sum {
        pass.norm_residual(norm);
    }
}

impl WantedRows {
    /// Notes what is wanted of the rows of a feed.
    fn add(&mut self, wanted: Wanted, rows: Range<usize>) {
        match wanted {
            Wanted::None => {}
            Wanted::Last => self.logits.extend(rows.last()),
            Wanted::All => self.logits.extend(rows),
            Wanted::Hidden | Wanted::HiddenOfPair(_) => self.hidden.extend(rows),
        }
    }
}

impl State {
    /// Makes room for the rows at `places`, and computes their rotary tables.
    fn prepare(&mut self, model: &Transformer, places: &[Place]) {
        self.x.resize(places.len() * model.plan.dim(), 0.0);
        // A vector is all that a text is searched by: what rounding takes of it cannot be
        // made good later.
        self.input.twice = model.plan.is_encoder();
        self.rotary.resize_with(model.plan.ropes.len(), RotaryTable::default);
        for (rope, table) in model.plan.ropes.iter().zip(&mut self.rotary) {
            rope.table(places, table);
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

    use super::*;
    use crate::kernel::matmul::Input;
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

        let (dim, n_vocab) = (transformer.plan.dim(), transformer.plan.n_vocab());
        let (first, second) = state.hidden.split_at(tokens.len() * dim);
        assert_eq!(first, second);
        let mut input = Input::default();
        input.reset(tokens.len(), dim);
        input.values.copy_from_slice(first);
        let mut logits = vec![0.0; tokens.len() * n_vocab];
        let output = transformer.plan.head.output.as_ref().unwrap();
        transformer.pool.region(|team| {
            let products = &mut [Product::Store(output, &mut logits)];
            multiply_one(team, transformer.isa, &mut input, products);
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
