//! Attention: queries, keys and values; keys and values to the caches; what each row
//! sees of them; output matrix.

use crate::kernel::attention::{self as kernel, Prepare};
use crate::kernel::matmul::Product;
use crate::kernel::norm::RmsNormInPlace;
use crate::kernel::pool::Team;
use crate::model::plan::{Attention, HeadNorm};
use crate::model::state::State;
use crate::simd::Isa;

use super::{Pass, multiply_one};

impl Attention {
    /// `x += attention(input)`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        let rows = pass.rows();
        let Pass { team, isa, state, feeds, spans, .. } = &mut *pass;
        let State { input, q, k, v, rotary, .. } = &mut **state;
        q.resize(rows * self.q.rows(), 0.0);
        k.resize(rows * self.k.rows(), 0.0);
        v.resize(rows * self.v.rows(), 0.0);
        let products = &mut [
            Product::Store(&self.q, q),
            Product::Store(&self.k, k),
            Product::Store(&self.v, v),
        ];
        multiply_one(team, *isa, input, products);

        if let Some([q_norm, k_norm]) = &self.row_norms {
            q_norm.rows(team, *isa, q);
            k_norm.rows(team, *isa, k);
        }
        let rotary = self.rope.map(|index| &rotary[index]);
        let norms =
            [&self.q_norm, &self.k_norm].map(|norm| norm.as_ref().map(HeadNorm::for_kernel));
        let attention = kernel::Attention {
            isa: *isa,
            layer: self.cache,
            queries: Prepare { norm: norms[0], norm_last: self.norm_last, rotary, query: true },
            keys: Prepare { norm: norms[1], norm_last: self.norm_last, rotary, query: false },
            divisor: self.divisor,
            soft_cap: self.soft_cap,
        };
        let caches = feeds.iter_mut().map(|feed| &mut *feed.cache).zip(spans.iter().cloned());
        attention.append(team, caches.collect(), k, v);
        let caches: Vec<_> =
            feeds.iter().map(|feed| &*feed.cache).zip(spans.iter().cloned()).collect();
        input.reset(rows, self.output.cols());
        attention.attend(team, &caches, q, &mut input.values);
        pass.add_to_residual(&self.output);
    }
}

impl HeadNorm {
    fn for_kernel(&self) -> kernel::HeadNorm<'_> {
        kernel::HeadNorm { weight: &self.weight, epsilon: self.epsilon }
    }

    /// Normalizes whole rows in place.
    fn rows(&self, team: &Team<'_>, isa: Isa, values: &mut [f32]) {
        let HeadNorm { weight, epsilon } = self;
        let mut rows: Vec<&mut [f32]> = values.chunks_exact_mut(weight.len()).collect();
        team.for_each(&mut rows, |_, x| {
            isa.run(RmsNormInPlace { x, weight, epsilon: *epsilon });
        });
    }
}
