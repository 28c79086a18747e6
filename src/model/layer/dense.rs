//! A feed-forward network, with a gate or without.

use crate::kernel::matmul::Product;
use crate::model::plan::Dense;
use crate::model::state::State;

use super::{Pass, multiply_one};

impl Dense {
    /// `x += down · (activation(gate · input) · (up · input))`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        let (rows, width, dim) = (pass.rows(), self.up.rows(), self.up.cols());
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, gated, .. } = &mut **state;
        gated.resize(rows * width, 0.0);
        multiply_one(team, *isa, input, &mut [self.inner(gated)]);
        input.replace(gated, width);
        pass.add_to_residual(&self.down);
        let State { input, gated, .. } = &mut *pass.state;
        input.replace(gated, dim); // each keeps its own memory
    }

    /// `out ← activation(gate · input) · (up · input)`
    pub(super) fn inner<'a>(&'a self, out: &'a mut [f32]) -> Product<'a> {
        let Dense { activation, gate, up, .. } = self;
        match gate {
            Some(gate) => Product::Gate { activation: *activation, gate, up, out },
            None => Product::Activate(*activation, up, out),
        }
    }
}
