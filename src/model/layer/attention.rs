//! Attention: queries, keys and values; keys and values to the caches; what each row
//! sees of them; output matrix.

use crate::kernel::act::multiply_by_sigmoid;
use crate::kernel::attention::{self as kernel, Prepare};
use crate::kernel::matmul::Product;
use crate::kernel::norm::RmsNormInPlace;
use crate::kernel::pool::Team;
use crate::model::plan::{Attention, HeadNorm, Norm};
use crate::model::state::State;
use crate::simd::{Isa, Simd, Task};

use super::{NormInPlace, Pass, multiply_one};

impl Attention {
    /// `x += attention(input)`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        let rows = pass.rows();
        let Pass { team, isa, state, feeds, spans, .. } = &mut *pass;
        let State { input, q, k, v, gated_q, gates, rotary, .. } = &mut **state;
        let to = if self.gated { &mut *gated_q } else { &mut *q };
        to.resize(rows * self.q.rows(), 0.0);
        let mut products = vec![Product::Store(&self.q, to)];
        for (matrix, out) in [(&self.k, &mut *k), (&self.v, &mut *v)] {
            let Some(matrix) = matrix else { continue };
            out.resize(rows * matrix.rows(), 0.0);
            products.push(Product::Store(matrix, out));
        }
        multiply_one(team, *isa, input, &mut products);
        if self.gated {
            self.part(gated_q, q, gates);
        }

        if let Some([q_norm, k_norm]) = &self.row_norms {
            norm_whole_rows(team, *isa, q_norm, q);
            norm_whole_rows(team, *isa, k_norm, k);
        }
        let rotary = self.rope.map(|index| &rotary[index]);
        let [q_norm, k_norm, v_norm] = [&self.q_norm, &self.k_norm, &self.v_norm]
            .map(|norm| norm.as_ref().map(HeadNorm::for_kernel));
        let norm_last = self.norm_last;
        let attention = kernel::Attention {
            isa: *isa,
            layer: self.cache,
            sight: self.sight,
            queries: Prepare { norm: q_norm, norm_last, rotary, query: true },
            keys: Prepare { norm: k_norm, norm_last, rotary, query: false },
            values: Prepare { norm: v_norm, ..Prepare::default() },
            divisor: self.divisor,
            soft_cap: self.soft_cap,
            slopes: self.slopes.as_deref(),
            sinks: self.sinks.as_deref(),
        };
        if self.k.is_some() {
            let values = if self.v.is_some() { v } else { &*k };
            let caches = feeds.iter_mut().map(|feed| &mut *feed.cache).zip(spans.iter().cloned());
            attention.append(team, caches.collect(), k, values);
        }
        let caches: Vec<_> =
            feeds.iter().map(|feed| &*feed.cache).zip(spans.iter().cloned()).collect();
        input.reset(rows, self.output.cols());
        attention.attend(team, &caches, q, &mut input.values);
        if self.gated {
            let width = self.output.cols();
            let mut rows: Vec<_> =
                input.values.chunks_exact_mut(width).zip(gates.chunks_exact(width)).collect();
            team.for_each(&mut rows, |_, (out, gates)| isa.run(ApplyGates { out, gates }));
        }
        pass.add_to_residual(&self.output);
    }

    /// Parts each head's query from its gate.
    fn part(&self, both: &[f32], q: &mut Vec<f32>, gates: &mut Vec<f32>) {
        q.resize(both.len() / 2, 0.0);
        gates.resize(both.len() / 2, 0.0);
        let heads = q.chunks_exact_mut(self.head_dim).zip(gates.chunks_exact_mut(self.head_dim));
        for ((q, gate), both) in heads.zip(both.chunks_exact(2 * self.head_dim)) {
            q.copy_from_slice(&both[..self.head_dim]);
            gate.copy_from_slice(&both[self.head_dim..]);
        }
    }
}

impl HeadNorm {
    fn for_kernel(&self) -> kernel::HeadNorm<'_> {
        kernel::HeadNorm { weight: &self.weight, epsilon: self.epsilon }
    }

    /// Normalizes whole rows in place.
    pub(super) fn rows(&self, team: &Team<'_>, isa: Isa, values: &mut [f32]) {
        let HeadNorm { weight, epsilon } = self;
        let mut rows: Vec<&mut [f32]> = values.chunks_exact_mut(weight.len()).collect();
        team.for_each(&mut rows, |_, x| {
            isa.run(RmsNormInPlace { x, weight, epsilon: *epsilon });
        });
    }
}

/// Normalizes rows as wide as the norm in place.
fn norm_whole_rows(team: &Team<'_>, isa: Isa, norm: &Norm, values: &mut [f32]) {
    let mut rows: Vec<&mut [f32]> = values.chunks_exact_mut(norm.width()).collect();
    team.for_each(&mut rows, |_, x| isa.run(NormInPlace { norm, x }));
}

/// `out *= sigmoid(gates)`
struct ApplyGates<'a> {
    out: &'a mut [f32],
    gates: &'a [f32],
}

impl Task for ApplyGates<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        multiply_by_sigmoid(simd, self.gates, self.out);
    }
}
