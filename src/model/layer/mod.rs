//! What each kind of layer computes: one file, one screen each.
//!
//! A kind finds its normalized rows in `pass.state.input` and ends with
//! [`Pass::add_to_residual`].

pub(super) mod attention;
pub(super) mod dense;

use std::ops::Range;

use crate::kernel::matmul::{Group, Input, Product, multiply};
use crate::kernel::matrix::Matrix;
use crate::kernel::norm::RmsNorm;
use crate::kernel::pool::Team;
use crate::simd::Isa;

use super::plan::Norm;
use super::state::{Feed, State};

/// A forward pass on its way through the layers.
pub(super) struct Pass<'p, 'f> {
    pub team: &'p Team<'p>,
    pub isa: Isa,
    pub state: &'p mut State,
    pub feeds: &'p mut [Feed<'f>],
    /// The rows of each feed.
    pub spans: Vec<Range<usize>>,
}

impl Pass<'_, '_> {
    /// Rows of all feeds.
    pub fn rows(&self) -> usize {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// `input ← norm(x)`
    pub fn norm(&mut self, norm: &Norm) {
        let State { x, input, .. } = &mut *self.state;
        let dim = norm.width();
        input.reset(x.len() / dim, dim);
        norm_rows(self.team, self.isa, norm, x.chunks_exact(dim), &mut input.values);
    }

    /// `x += matrix · input`: how a branch ends.
    pub fn add_to_residual(&mut self, matrix: &Matrix) {
        let State { x, input, .. } = &mut *self.state;
        multiply_one(self.team, self.isa, input, &mut [Product::Add(matrix, x)]);
    }
}

/// Computes `products` of one input.
pub(super) fn multiply_one<'a>(
    team: &Team<'_>,
    isa: Isa,
    input: &'a mut Input,
    products: &'a mut [Product<'a>],
) {
    multiply(team, isa, &mut [Group { input, products }]);
}

/// `out ← norm(x)`, `out`: as many rows as `x`.
pub(super) fn norm_rows<'x>(
    team: &Team<'_>,
    isa: Isa,
    norm: &Norm,
    x: impl Iterator<Item = &'x [f32]>,
    out: &mut [f32],
) {
    let Norm::Rms { weight, epsilon } = norm;
    let mut rows: Vec<_> = x.zip(out.chunks_exact_mut(weight.len())).collect();
    team.for_each(&mut rows, |_, (x, out)| {
        isa.run(RmsNorm { x, weight, epsilon: *epsilon, out });
    });
}

impl Norm {
    /// Values per row.
    fn width(&self) -> usize {
        let Norm::Rms { weight, .. } = self;
        weight.len()
    }
}
