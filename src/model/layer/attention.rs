//! Attention: queries, keys and values; keys and values to the caches; what each row
//! sees of them; output matrix.

use crate::kernel::attention::{self as kernel, Prepare};
use crate::kernel::matmul::Product;
use crate::model::plan::{Attention, HeadNorm};
use crate::model::state::State;

use super::{Pass, multiply_one};

impl Attention {
    /// `x += attention(input)`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        let rows = pass.rows();
        let Pass { team, isa, state, feeds, spans } = &mut *pass;
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

        let rotary = self.rope.map(|index| &rotary[index]);
        let norms =
            [&self.q_norm, &self.k_norm].map(|norm| norm.as_ref().map(HeadNorm::for_kernel));
        let attention = kernel::Attention {
            isa: *isa,
            layer: self.cache,
            queries: Prepare { norm: norms[0], rotary, query: true },
            keys: Prepare { norm: norms[1], rotary, query: false },
            divisor: self.divisor,
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
}
