//! A gated feed-forward network.

use crate::kernel::matmul::Product;
use crate::model::plan::Dense;
use crate::model::state::State;

use super::{Pass, multiply_one};

impl Dense {
    /// `x += down · (activation(gate · input) · (up · input))`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        let (rows, width, dim) = (pass.rows(), self.gate.rows(), self.gate.cols());
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, gated, .. } = &mut **state;
        gated.resize(rows * width, 0.0);
        let Dense { activation, gate, up, .. } = self;
        let product = Product::Gate { activation: *activation, gate, up, out: &mut *gated };
        multiply_one(team, *isa, input, &mut [product]);
        input.replace(gated, width);
        pass.add_to_residual(&self.down);
        let State { input, gated, .. } = &mut *pass.state;
        input.replace(gated, dim); // each keeps its own memory
    }
}
