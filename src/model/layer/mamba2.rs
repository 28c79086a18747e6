//! Mamba-2: a convolution, and a matrix per head that decays with each row
//! (`kernel/recurrence.rs`); then a gate, and a norm of groups of heads.

use crate::kernel::act::{Activation, Gate};
use crate::kernel::math::{add_scaled, exp, map, softplus};
use crate::kernel::matmul::Product;
use crate::kernel::norm::rms_norm;
use crate::model::plan::{self, Mamba2};
use crate::model::state::{RecurrentBuffers, State};
use crate::simd::{Simd, Task};

use super::recurrent::{Offsets, gather};
use super::{Pass, multiply_one};

impl Mamba2 {
    /// `x += output · norm((recurrence(x, B, C) + d ∘ x) ∘ silu(gate · input))`
    pub(in crate::model) fn run(&self, pass: &mut Pass<'_, '_>) {
        self.multiply(pass);
        self.conv.run(pass, self.state);
        self.recur(pass);
        self.gate(pass);
        pass.add_to_residual(&self.output);
    }

    /// All products of the input, and the decays that come of them.
    fn multiply(&self, pass: &mut Pass<'_, '_>) {
        let (rows, heads) = (pass.rows(), self.heads.value_heads);
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, recurrent, .. } = &mut **state;
        let RecurrentBuffers { before, gate, decay, factor, .. } = recurrent;
        before.resize(rows * self.xbc.rows(), 0.0);
        gate.resize(rows * self.gate.rows(), 0.0);
        decay.resize(rows * heads, 0.0);
        factor.resize(rows * heads, 0.0);
        let products = &mut [
            Product::Store(&self.gate, gate),
            Product::Store(&self.xbc, before),
            Product::Store(&self.dt, factor),
        ];
        multiply_one(team, *isa, input, products);
        let mut of_rows: Vec<_> =
            decay.chunks_exact_mut(heads).zip(factor.chunks_exact_mut(heads)).collect();
        let isa = *isa;
        team.for_each(&mut of_rows, |_, (decay, dt)| isa.run(Decays { layer: self, decay, dt }));
    }

    fn recur(&self, pass: &mut Pass<'_, '_>) {
        let plan::Heads { key_heads, key_dim, value_heads, value_dim, .. } = self.heads;
        let inner = value_heads * value_dim;
        let offsets = Offsets { q: inner + key_heads * key_dim, k: inner, v: 0 };
        self.heads.run(pass, (&self.conv, self.state), false, offsets);
    }

    /// `input ← norm((out + d ∘ x) ∘ silu(gate))`
    fn gate(&self, pass: &mut Pass<'_, '_>) {
        let rows = pass.rows();
        let Pass { team, isa, state, .. } = &mut *pass;
        let State { input, recurrent, .. } = &mut **state;
        let RecurrentBuffers { behind, gate, out, .. } = recurrent;
        let width = self.output.cols();
        input.reset(rows, width);
        let of_rows = gate.chunks_exact_mut(width).zip(behind.chunks_exact(self.xbc.rows()));
        let mut of_rows: Vec<_> = input.values.chunks_exact_mut(width).zip(of_rows).collect();
        let isa = *isa;
        team.for_each(&mut of_rows, |row, (y, (gate, xbc))| {
            gather(out, self.heads.value_dim, rows, row, y);
            isa.run(GateAndNorm { layer: self, x: &xbc[..width], gate, y });
        });
    }
}

/// `dt ← softplus(dt + bias)`, `decay ← exp(a · dt)` of a row.
struct Decays<'a> {
    layer: &'a Mamba2,
    decay: &'a mut [f32],
    dt: &'a mut [f32],
}

impl Task for Decays<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Decays { layer, decay, dt } = self;
        for (dt, bias) in dt.iter_mut().zip(&*layer.dt_bias) {
            *dt += bias;
        }
        map(simd, dt, |x| softplus(simd, x));
        for ((decay, dt), a) in decay.iter_mut().zip(&*dt).zip(&*layer.a) {
            *decay = dt * a;
        }
        map(simd, decay, |x| exp(simd, x));
    }
}

/// `y ← norm((y + d ∘ x) ∘ silu(gate))` of a row; the norm is of each group of heads. `gate`
/// is overwritten.
struct GateAndNorm<'a> {
    layer: &'a Mamba2,
    x: &'a [f32],
    gate: &'a mut [f32],
    y: &'a mut [f32],
}

impl Task for GateAndNorm<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let GateAndNorm { layer, x, gate, y } = self;
        let plan::Heads { value_dim, key_heads, .. } = layer.heads;
        let heads = y.chunks_exact_mut(value_dim).zip(x.chunks_exact(value_dim));
        for ((y, x), d) in heads.zip(&*layer.d) {
            add_scaled(simd, *d, x, y);
        }
        Gate { activation: Activation::Silu, gate, up: y }.run(simd);
        y.copy_from_slice(gate);
        let group = y.len() / key_heads;
        for (y, weight) in y.chunks_exact_mut(group).zip(layer.norm.weight.chunks_exact(group)) {
            rms_norm(simd, y, weight, layer.norm.epsilon);
        }
    }
}
