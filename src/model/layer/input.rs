//! What layers read of each token beside the residual stream: a part of a row for each.

use std::f32::consts::FRAC_1_SQRT_2;

use crate::error::Result;
use crate::kernel::matmul::Product;
use crate::kernel::norm::rms_norm;
use crate::model::plan::{LayerInput, LayerInputs};
use crate::model::state::State;
use crate::quant;
use crate::simd::{Simd, Task};

use super::{Pass, multiply_one};

impl LayerInputs {
    /// The parts of all layers, from the embeddings in `x`. The table is read row by row: it
    /// may be half of the file.
    pub(in crate::model) fn fill(&self, pass: &mut Pass<'_, '_>) -> Result<()> {
        pass.norm(None);
        let (rows, width) = (pass.rows(), self.projection.rows());
        let Pass { team, isa, state, feeds, .. } = &mut *pass;
        let State { input, layer_inputs, .. } = &mut **state;
        layer_inputs.resize(rows * width, 0.0);
        multiply_one(team, *isa, input, &mut [Product::Store(&self.projection, layer_inputs)]);
        let tokens = feeds.iter().flat_map(|feed| feed.tokens);
        let rows = layer_inputs.chunks_exact_mut(width).zip(tokens);
        let mut rows: Vec<_> = rows.map(|(row, &token)| (row, token, Ok(()))).collect();
        let (table, isa) = (&self.table.0, *isa);
        team.for_each(&mut rows, |_, (projected, token, result)| {
            let mut own = vec![0.0; width];
            *result = quant::dequantize(table.format(), table.row(*token as usize), &mut own);
            isa.run(Join { inputs: self, projected, own: &own });
        });
        rows.into_iter().try_for_each(|(_, _, result)| result)
    }
}

/// The parts of one row.
struct Join<'a> {
    inputs: &'a LayerInputs,
    /// Overwritten with the result.
    projected: &'a mut [f32],
    /// The row of the table.
    own: &'a [f32],
}

impl Task for Join<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Join { inputs, projected, own } = self;
        let LayerInputs { scale, projection_scale, norm, .. } = inputs;
        let width = norm.weight.len();
        for (part, own) in projected.chunks_exact_mut(width).zip(own.chunks_exact(width)) {
            part.iter_mut().for_each(|x| *x *= projection_scale);
            rms_norm(simd, part, &norm.weight, norm.epsilon);
            for (x, own) in part.iter_mut().zip(own) {
                *x = (*x + own * scale) * FRAC_1_SQRT_2;
            }
        }
    }
}

impl LayerInput {
    /// `x += projection · (activation(gate · x) · part)`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        pass.norm(None);
        let (rows, width, dim) = (pass.rows(), self.gate.rows(), self.gate.cols());
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, gated, layer_inputs, .. } = &mut **state;
        gated.resize(rows * width, 0.0);
        let gate = Product::Activate(self.activation, &self.gate, gated);
        multiply_one(team, *isa, input, &mut [gate]);
        let all = layer_inputs.len() / rows.max(1);
        let parts = layer_inputs.chunks_exact(all.max(1));
        for (gated, parts) in gated.chunks_exact_mut(width).zip(parts) {
            let part = &parts[self.index * width..][..width];
            gated.iter_mut().zip(part).for_each(|(gated, part)| *gated *= part);
        }
        input.replace(gated, width);
        pass.add_to_residual(&self.projection);
        let State { input, gated, .. } = &mut *pass.state;
        input.replace(gated, dim); // each keeps its own memory
    }
}
