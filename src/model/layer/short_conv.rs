//! Gated short convolution: `output · (C ∘ conv(B ∘ x))`.

use crate::kernel::matmul::Product;
use crate::model::plan::ShortConv;
use crate::model::state::{RecurrentBuffers, State};

use super::{Pass, multiply_one, states};

impl ShortConv {
    /// `x += output · (C ∘ conv(B ∘ input))`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        let (rows, channels) = (pass.rows(), self.conv.channels);
        let Pass { team, isa, state, feeds, spans, .. } = &mut *pass;
        let State { input, recurrent, .. } = &mut **state;
        let RecurrentBuffers { before, behind, gate, out, .. } = recurrent;
        for buffer in [&mut *before, &mut *behind, &mut *gate, &mut *out] {
            buffer.resize(rows * channels, 0.0);
        }
        let [b, c, x] = &self.inputs;
        let products =
            &mut [Product::Store(b, before), Product::Store(c, gate), Product::Store(x, out)];
        multiply_one(team, *isa, input, products);
        for (before, x) in before.iter_mut().zip(&*out) {
            *before *= x;
        }
        let texts = states(feeds, spans, self.state, 0..self.conv.state_len());
        self.conv.for_kernel().run(team, *isa, texts, before, behind);
        input.reset(rows, channels);
        for ((out, c), behind) in input.values.iter_mut().zip(&*gate).zip(&*behind) {
            *out = c * behind;
        }
        pass.add_to_residual(&self.output);
    }
}
