//! What each kind of layer computes: one file, one screen each.
//!
//! A kind finds its normalized rows in `pass.state.input` and ends with
//! [`Pass::add_to_residual`].

pub(super) mod attention;
pub(super) mod beside;
pub(super) mod delta_net;
pub(super) mod dense;
pub(super) mod experts;
pub(super) mod input;
pub(super) mod latent;
pub(super) mod mamba2;
mod recurrent;
pub(super) mod short_conv;

use std::ops::Range;

use crate::kernel::math::add_scaled;
use crate::kernel::matmul::{Group, Input, Product, multiply};
use crate::kernel::matrix::Matrix;
use crate::kernel::norm::{LayerNorm, RmsNorm, rms_norm};
use crate::kernel::pool::Team;
use crate::kv_cache::StatePass;
use crate::simd::{Isa, Simd, Task};

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
    /// How the branch that runs is added to the residual stream.
    pub end: BranchEnd<'p>,
}

/// `x += scale · norm(branch)`
#[derive(Clone, Copy)]
pub(super) struct BranchEnd<'p> {
    pub norm: Option<&'p Norm>,
    pub scale: f32,
}

impl Pass<'_, '_> {
    /// Rows of all feeds.
    pub fn rows(&self) -> usize {
        self.spans.last().map_or(0, |span| span.end)
    }

    /// `input ← norm(x)`
    pub fn norm(&mut self, norm: Option<&Norm>) {
        let rows = self.rows();
        let State { x, input, .. } = &mut *self.state;
        let dim = x.len() / rows.max(1);
        input.reset(rows, dim);
        norm_rows(self.team, self.isa, norm, x.chunks_exact(dim), &mut input.values);
    }

    /// `x ← norm(x)`, and the same for the branch that reads it next.
    pub fn norm_residual(&mut self, norm: &Norm) {
        self.norm(Some(norm));
        let State { x, input, .. } = &mut *self.state;
        x.copy_from_slice(&input.values);
    }

    /// `x ← norm(x + before)`, and the same for the branch that reads it next.
    pub fn norm_sum(&mut self, norm: &Norm) {
        let State { x, before, .. } = &mut *self.state;
        x.iter_mut().zip(&*before).for_each(|(x, before)| *x += before);
        self.norm_residual(norm);
    }

    /// `x += matrix · input`: how a branch ends. What [`BranchEnd`] says is done before.
    pub fn add_to_residual(&mut self, matrix: &Matrix) {
        let BranchEnd { norm, scale } = self.end;
        let (team, isa, rows) = (self.team, self.isa, self.rows());
        let State { x, input, branch, .. } = &mut *self.state;
        if norm.is_none() && scale == 1.0 {
            return multiply_one(team, isa, input, &mut [Product::Add(matrix, x)]);
        }
        let dim = matrix.rows();
        branch.resize(rows * dim, 0.0);
        multiply_one(team, isa, input, &mut [Product::Store(matrix, branch)]);
        self.end_branch();
    }

    /// `x += branch`, after what [`BranchEnd`] says.
    pub fn end_branch(&mut self) {
        let BranchEnd { norm, scale } = self.end;
        let (team, isa, rows) = (self.team, self.isa, self.rows());
        let State { x, branch, .. } = &mut *self.state;
        let dim = x.len() / rows.max(1);
        add_branch(team, isa, (norm, scale), (branch, x), dim);
    }

    /// `x ← scale · x`
    pub fn scale(&mut self, scale: f32) {
        let dim = self.state.x.len() / self.rows().max(1);
        let mut rows: Vec<_> = self.state.x.chunks_exact_mut(dim).collect();
        self.team.for_each(&mut rows, |_, x| x.iter_mut().for_each(|x| *x *= scale));
    }
}

/// `x += scale · norm(branch)`, rows of `dim` each. `branch` is overwritten.
pub(super) fn add_branch(
    team: &Team<'_>,
    isa: Isa,
    (norm, scale): (Option<&Norm>, f32),
    (branch, x): (&mut [f32], &mut [f32]),
    dim: usize,
) {
    let mut rows: Vec<_> = x.chunks_exact_mut(dim).zip(branch.chunks_exact_mut(dim)).collect();
    team.for_each(&mut rows, |_, (x, branch)| {
        isa.run(EndBranch { norm, scale, branch, x });
    });
}

/// Of every text in a pass: a part of its state of layer `layer`, and its rows.
pub(super) fn states<'a>(
    feeds: &'a mut [Feed<'_>],
    spans: &[Range<usize>],
    layer: usize,
    part: Range<usize>,
) -> Vec<(StatePass<'a>, Range<usize>)> {
    let texts = feeds.iter_mut().zip(spans);
    let states = texts.filter_map(|(feed, rows)| {
        let StatePass { before, after, mark } = feed.cache.state(layer)?;
        let state = StatePass {
            before: before.map(|before| &before[part.clone()]),
            after: &mut after[part.clone()],
            mark: mark.map(|(rows, mark)| (rows, &mut mark[part.clone()])),
        };
        Some((state, rows.clone()))
    });
    states.collect()
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

/// `out ← norm(x)`, or x without a norm; `out`: the rows of `x` one behind the other.
pub(super) fn norm_rows<'x>(
    team: &Team<'_>,
    isa: Isa,
    norm: Option<&Norm>,
    x: impl Iterator<Item = &'x [f32]>,
    out: &mut [f32],
) {
    let mut rest = out;
    let mut rows = Vec::new();
    for x in x {
        let (own, behind) = rest.split_at_mut(x.len());
        rest = behind;
        rows.push((x, own));
    }
    let Some(norm) = norm else {
        return rows.iter_mut().for_each(|(x, out)| out.copy_from_slice(x));
    };
    team.for_each(&mut rows, |_, (x, out)| isa.run(NormRow { norm, x, out }));
}

/// `out ← norm(x)`
pub(super) struct NormRow<'a> {
    pub norm: &'a Norm,
    pub x: &'a [f32],
    pub out: &'a mut [f32],
}

impl Task for NormRow<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let NormRow { norm, x, out } = self;
        match norm {
            Norm::Rms { weight, epsilon } => {
                RmsNorm { x, weight, epsilon: *epsilon, out }.run(simd);
            }
            Norm::Layer { weight, bias, epsilon } => {
                let bias = bias.as_deref();
                LayerNorm { x, weight, bias, epsilon: *epsilon, out }.run(simd);
            }
        }
    }
}

/// `x ← norm(x)`
pub(super) struct NormInPlace<'a> {
    pub norm: &'a Norm,
    pub x: &'a mut [f32],
}

impl Task for NormInPlace<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let NormInPlace { norm, x } = self;
        if let Norm::Rms { weight, epsilon } = norm {
            return rms_norm(simd, x, weight, *epsilon);
        }
        let whole = x.to_vec();
        NormRow { norm, x: &whole, out: x }.run(simd);
    }
}

/// `x += scale · norm(branch)` for one row. `branch` is overwritten.
struct EndBranch<'a> {
    norm: Option<&'a Norm>,
    scale: f32,
    branch: &'a mut [f32],
    x: &'a mut [f32],
}

impl Task for EndBranch<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let EndBranch { norm, scale, branch, x } = self;
        if let Some(norm) = norm {
            NormInPlace { norm, x: &mut *branch }.run(simd);
        }
        add_scaled(simd, scale, branch, x);
    }
}
