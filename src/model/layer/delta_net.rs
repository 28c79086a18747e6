//! Gated delta rule: queries, keys and values through a short convolution, a matrix per
//! head that forgets and learns with each row (`kernel/recurrence.rs`), a gated norm.

use crate::kernel::act::{Activation, Gate};
use crate::kernel::math::{dot, exp, map, sigmoid, softplus};
use crate::kernel::matmul::Product;
use crate::kernel::norm::rms_norm;
use crate::model::plan::{self, DeltaNet, HeadNorm};
use crate::model::state::{RecurrentBuffers, State};
use crate::simd::{Simd, Task};

use super::recurrent::{Offsets, gather};
use super::{Pass, multiply_one};

impl DeltaNet {
    /// `x += output · norm(recurrence(conv(qkv · input))) ∘ silu(gate · input)`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        self.multiply(pass);
        self.convolve(pass);
        self.recur(pass);
        self.gate(pass);
        pass.add_to_residual(&self.output);
    }

    /// All products of the input.
    fn multiply(&self, pass: &mut Pass<'_, '_>) {
        let rows = pass.rows();
        let State { input, recurrent, .. } = &mut *pass.state;
        let RecurrentBuffers { before, gate, scalars, .. } = recurrent;
        before.resize(rows * self.qkv.rows(), 0.0);
        gate.resize(rows * self.gate.rows(), 0.0);
        scalars.resize_with(self.scalars.len(), Vec::new);
        let mut products =
            vec![Product::Store(&self.qkv, before), Product::Store(&self.gate, gate)];
        for (matrix, out) in self.scalars.iter().zip(scalars) {
            out.resize(rows * matrix.rows(), 0.0);
            products.push(Product::Store(matrix, out));
        }
        multiply_one(pass.team, pass.isa, input, &mut products);
    }

    /// Convolution of queries, keys and values; then what the recurrence takes of each row.
    fn convolve(&self, pass: &mut Pass<'_, '_>) {
        self.conv.run(pass, self.state);
        let (rows, width, heads) = (pass.rows(), self.qkv.rows(), self.heads.value_heads);
        let Pass { team, isa, state, .. } = &mut *pass;
        let RecurrentBuffers { behind, scalars, decay, factor, .. } = &mut state.recurrent;
        decay.resize(rows * heads, 0.0);
        factor.resize(rows * heads, 0.0);
        let of_rows = behind.chunks_exact_mut(width);
        let numbers = decay.chunks_exact_mut(heads).zip(factor.chunks_exact_mut(heads));
        let mut of_rows: Vec<_> = of_rows.zip(numbers).collect();
        let isa = *isa;
        team.for_each(&mut of_rows, |row, (qkv, (decay, factor))| {
            isa.run(PrepareRow { layer: self, scalars, row, qkv, decay, factor });
        });
    }

    fn recur(&self, pass: &mut Pass<'_, '_>) {
        let keys = self.heads.key_heads * self.heads.key_dim;
        let offsets = Offsets { q: 0, k: keys, v: 2 * keys };
        self.heads.run(pass, (&self.conv, self.state), true, offsets);
    }

    /// `input ← norm(out) ∘ silu(gate)`
    fn gate(&self, pass: &mut Pass<'_, '_>) {
        let rows = pass.rows();
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, recurrent, .. } = &mut **state;
        let RecurrentBuffers { gate, out, .. } = recurrent;
        let width = self.output.cols();
        input.reset(rows, width);
        let mut of_rows: Vec<_> =
            input.values.chunks_exact_mut(width).zip(gate.chunks_exact_mut(width)).collect();
        let isa = *isa;
        team.for_each(&mut of_rows, |row, (y, gate)| {
            gather(out, self.heads.value_dim, rows, row, y);
            isa.run(NormAndGate { norm: &self.norm, gate, y });
        });
    }
}

/// Queries and keys of a row get length 1 (queries 1/√dim); decays and factors of its heads.
struct PrepareRow<'a> {
    layer: &'a DeltaNet,
    scalars: &'a [Vec<f32>],
    row: usize,
    qkv: &'a mut [f32],
    decay: &'a mut [f32],
    factor: &'a mut [f32],
}

impl Task for PrepareRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let PrepareRow { layer, scalars, row, qkv, decay, factor } = self;
        let plan::Heads { key_heads, key_dim, .. } = layer.heads;
        for (index, head) in qkv.chunks_exact_mut(key_dim).take(2 * key_heads).enumerate() {
            let mut scale = 1.0 / (dot(simd, head, head) + layer.epsilon).sqrt();
            if index < key_heads {
                scale /= (key_dim as f32).sqrt();
            }
            head.iter_mut().for_each(|x| *x *= scale);
        }
        let scalar =
            |[matrix, at]: [usize; 2]| scalars[matrix][row * layer.scalars[matrix].rows() + at];
        for ((decay, &alpha), dt) in decay.iter_mut().zip(&layer.alpha).zip(&*layer.dt) {
            *decay = scalar(alpha) + dt;
        }
        map(simd, decay, |x| softplus(simd, x));
        for (decay, a) in decay.iter_mut().zip(&*layer.a) {
            *decay *= a;
        }
        map(simd, decay, |x| exp(simd, x));
        for (factor, &beta) in factor.iter_mut().zip(&layer.beta) {
            *factor = scalar(beta);
        }
        map(simd, factor, |x| sigmoid(simd, x));
    }
}

/// `y ← norm(y) ∘ silu(gate)`; the norm is of each head. `gate` is overwritten.
struct NormAndGate<'a> {
    norm: &'a HeadNorm,
    gate: &'a mut [f32],
    y: &'a mut [f32],
}

impl Task for NormAndGate<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let NormAndGate { norm: HeadNorm { weight, epsilon }, gate, y } = self;
        for head in y.chunks_exact_mut(weight.len()) {
            rms_norm(simd, head, weight, *epsilon);
        }
        Gate { activation: Activation::Silu, gate, up: y }.run(simd);
        y.copy_from_slice(gate);
    }
}
