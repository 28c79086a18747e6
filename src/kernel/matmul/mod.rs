//! Weight matrices times rows of activations.
//!
//! ```text
//! out[m, n] = Σ_k weight[n, k] · input[m, k]
//! ```
//! Quantized weights meet int8 activations. Per block of the format, in order
//! of k: `t = fma(isum, d, −(msum · dmin))`, `acc = fma(t, d8, acc)`; the integer
//! sums are exact. Float weights meet f32 activations in the order of
//! [`dot`](super::math::dot). So a value depends on its row alone.
//!
//! Threads go through the weight rows in panels of 32, as [`Shares`] hands them out.
//! What becomes of a product (scale, bias, residual sum, gate) is done panel by panel, or by the
//! few panels that a tier multiplies together, while it is in a near cache.
//!
//! | file | what |
//! |---|---|
//! | `input.rs`, `quantize.rs` | input rows in every form that products need |
//! | `row_panel.rs` | the interface of a tier: row panels, packed activations |
//! | `tiers.rs` | which tier multiplies |
//! | `rewrite.rs` | panels of formats without kernels of their own |
//! | `portable/`, `avx2/`, `avx512/`, `amx/`, `neon/` | the tiers |
//! | `float/` | float weights, on every tier |
//! | `shares.rs` | which thread multiplies what |
//!
//! A tier has up to five parts: `in_place` (few rows of activations: weights are decoded
//! where they lie), `pack` (the layout of activations), `panel` (a row panel unpacked),
//! `tile` (the products of an unpacked panel) and `decode` (what each format supplies).

#[cfg(target_arch = "x86_64")]
mod amx;
#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod float;
mod input;
#[cfg(target_arch = "aarch64")]
mod neon;
mod portable;
mod quantize;
mod rewrite;
mod row_panel;
mod shares;
mod tiers;

use std::cell::RefCell;
use std::ops::Range;

use super::act::{Activate, Activation, Gate};
use super::matrix::Matrix;
use super::pool::{Disjoint, Team};
use crate::quant::Format;
use crate::quant::aligned::Aligned;
use crate::simd::{Isa, Simd, Task};
use float::{FloatPanel, FloatRowPanel};
pub(crate) use input::Input;
use row_panel::{QuantMatmul, RowPanel, Scratch, Target};
use shares::Shares;

/// One product of a group and what becomes of it. `out` is `[input rows, matrix rows]`.
pub(crate) enum Product<'a> {
    /// `out = W · x`
    Store(&'a Matrix, &'a mut [f32]),
    /// `out += W · x`: the residual stream.
    Add(&'a Matrix, &'a mut [f32]),
    /// `out = activation(W · x)`
    Activate(Activation, &'a Matrix, &'a mut [f32]),
    /// `out = activation(G · x) · (U · x)`: the gate of the feed-forward network.
    Gate { activation: Activation, gate: &'a Matrix, up: &'a Matrix, out: &'a mut [f32] },
}

impl Product<'_> {
    /// The formats of the matrices that it multiplies.
    fn formats(&self) -> impl Iterator<Item = Format> + use<> {
        let (first, second) = match self {
            Product::Store(matrix, _)
            | Product::Add(matrix, _)
            | Product::Activate(_, matrix, _) => (matrix.format(), None),
            Product::Gate { gate, up, .. } => (gate.format(), Some(up.format())),
        };
        std::iter::once(first).chain(second)
    }
}

/// Rows of activations and the products that they are multiplied in.
pub(crate) struct Group<'a> {
    /// The rows, `[rows, cols]`.
    pub input: &'a mut Input,
    pub products: &'a mut [Product<'a>],
}

/// Computes the products of all `groups`: the rows of each are quantized for the
/// formats of its matrices, then everything is multiplied in one phase.
pub(crate) fn multiply(team: &Team<'_>, isa: Isa, groups: &mut [Group<'_>]) {
    for Group { input, products } in &mut *groups {
        input.quantize(team, isa, products.iter().flat_map(Product::formats));
    }
    multiply_quantized(team, isa, groups);
}

/// As [`multiply`], of inputs that are quantized for these products already.
pub(crate) fn multiply_quantized(team: &Team<'_>, isa: Isa, groups: &mut [Group<'_>]) {
    let (threads, tier) = (team.threads(), tiers::of(&isa));
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for Group { input, products } in groups {
        if input.rows > 0 {
            jobs.extend(products.iter_mut().map(|product| Job::new(product, input, threads, tier)));
        }
    }
    if jobs.is_empty() {
        return;
    }
    team.run(&|worker| {
        MEMORY.with_borrow_mut(|memory| {
            for worker in [Some(worker), None] {
                for job in &jobs {
                    Part { job, worker, isa }.run(memory);
                }
            }
        });
    });
}

/// Panels of a matrix at a stretch, times rows of activations: 4 KiB of products.
const STRETCH: usize = 32;

/// A product whose shapes were checked.
struct Job<'a> {
    input: &'a Input,
    weight: &'a Matrix,
    then: Then<'a>,
    /// `[input rows, weight rows]`; a thread writes the columns of its panels.
    out: Disjoint<f32>,
    shares: Shares,
    /// Panels that are multiplied, finished and written together.
    stretch: usize,
    /// Whether the weights' pages may not be mapped yet.
    first_use: bool,
}

#[derive(Clone, Copy)]
enum Then<'a> {
    Store,
    Add,
    Activate(Activation),
    /// Multiply the other matrix' product by the activation of this one.
    Gate(Activation, &'a Matrix),
}

impl<'a> Job<'a> {
    /// The loader checked every shape; a mismatch would be our bug, and must not
    /// become a write out of bounds.
    fn new(
        product: &'a mut Product<'_>,
        input: &'a Input,
        threads: usize,
        tier: &dyn QuantMatmul,
    ) -> Self {
        let (weight, then, out) = match product {
            Product::Store(weight, out) => (&**weight, Then::Store, out),
            Product::Add(weight, out) => (&**weight, Then::Add, out),
            Product::Activate(activation, weight, out) => {
                (&**weight, Then::Activate(*activation), out)
            }
            Product::Gate { activation, gate, up, out } => {
                (&**gate, Then::Gate(*activation, up), out)
            }
        };
        let matrices = || [Some(weight), then.other()].into_iter().flatten();
        let rows = weight.rows();
        for matrix in matrices() {
            let name = matrix.name();
            assert_eq!(matrix.cols(), input.cols, "columns of {name}");
            assert_eq!(matrix.rows(), rows, "rows of {name}");
        }
        assert_eq!(out.len(), input.rows * rows, "output of {}", weight.name());
        let at_once = matrices()
            .map(|m| tier.panels_at_once(m.format(), input.product_rows(m.format())))
            .max();
        let at_once = at_once.unwrap_or(1);
        let stretch = then.stretch(input.rows).max(at_once);
        let shares = Shares::new(rows.div_ceil(RowPanel::ROWS), threads, at_once);
        // Each matrix notes its use.
        let first_use = matrices().fold(false, |any, matrix| any | matrix.first_use());
        Job { input, weight, then, out: Disjoint(out.as_mut_ptr()), shares, stretch, first_use }
    }
}

impl Job<'_> {
    /// The weight rows of `panels`.
    fn rows(&self, panels: Range<usize>) -> Range<usize> {
        let rows = self.weight.rows();
        rows.min(panels.start * RowPanel::ROWS)..rows.min(panels.end * RowPanel::ROWS)
    }

    /// Maps the weights of `panels` into the process.
    fn populate(&self, panels: Range<usize>) {
        let rows = self.rows(panels);
        self.weight.populate(rows.clone());
        if let Some(other) = self.then.other() {
            other.populate(rows);
        }
    }
}

impl<'a> Then<'a> {
    /// Panels of one matrix before the same of the other. Two streams that alternate panel
    /// by panel are read at 0.9 of the speed of one, so with few rows each is read for a
    /// while; with many the products of a panel should stay in the nearest cache, unless
    /// the tier likes [more](QuantMatmul::panels_at_once).
    fn stretch(&self, rows: usize) -> usize {
        match self {
            Then::Gate(..) => (STRETCH / rows).max(1),
            Then::Store | Then::Add | Then::Activate(_) => 1,
        }
    }

    fn other(self) -> Option<&'a Matrix> {
        match self {
            Then::Gate(_, up) => Some(up),
            Then::Store | Then::Add | Then::Activate(_) => None,
        }
    }
}

/// A thread's working memory.
#[derive(Default)]
struct Memory {
    scratch: Scratch,
    floats: FloatPanel,
    /// `[panels, batch, RowPanel::ROWS]`: the products of a stretch.
    out: Aligned<f32>,
    /// The same of the other matrix.
    other: Aligned<f32>,
}

thread_local! {
    static MEMORY: RefCell<Memory> = RefCell::default();
}

/// One thread's part of one product.
struct Part<'a> {
    job: &'a Job<'a>,
    /// Whose part; none for what others have left.
    worker: Option<usize>,
    isa: Isa,
}

impl Part<'_> {
    fn run(&self, memory: &mut Memory) {
        let Part { job, worker, isa, .. } = *self;
        let input = job.input;
        let size = input.rows * RowPanel::ROWS;
        let next = || worker.map_or_else(|| job.shares.others(), |worker| job.shares.own(worker));
        while let Some(mut left) = next() {
            if job.first_use {
                job.populate(left.clone());
            }
            while !left.is_empty() {
                let end = left.end.min(left.start + job.stretch);
                let stretch = std::mem::replace(&mut left.start, end)..end;
                let Memory { scratch, floats, out, other } = &mut *memory;
                let of = |matrix: &Matrix| {
                    let rows = input.product_rows(matrix.format());
                    (stretch.len() * rows * RowPanel::ROWS, rows > input.rows)
                };
                let (len, twice) = of(job.weight);
                out.resize(len);
                self.product(job.weight, &stretch, (scratch, floats), out);
                if twice {
                    add_rests(out, size);
                }
                if let Some(up) = job.then.other() {
                    let (len, twice) = of(up);
                    other.resize(len);
                    self.product(up, &stretch, (scratch, floats), other);
                    if twice {
                        add_rests(other, size);
                    }
                }
                let whole = ..stretch.len() * size;
                let (out, other) = match job.then.other() {
                    Some(_) => (&mut out[whole], &mut other[whole]),
                    None => (&mut out[whole], &mut other[..0]),
                };
                let rows = job.rows(stretch);
                isa.run(Finish { job, rows, out, other, batch: input.rows });
            }
        }
    }

    /// `out[i, m, n] = W[32 · (panels.start + i) + n] · x[m]`, rows [`RowPanel::ROWS`]
    /// apart. `weight`: one of the job's.
    fn product(
        &self,
        weight: &Matrix,
        panels: &Range<usize>,
        (scratch, floats): (&mut Scratch, &mut FloatPanel),
        out: &mut [f32],
    ) {
        let Part { job, isa, .. } = *self;
        let input = job.input;
        let (format, cols) = (weight.format(), input.cols);
        if let Some(packed) = input.packed(format) {
            let rows = job.rows(panels.clone());
            let bytes = weight.rows_bytes(rows.clone());
            // SAFETY: the panels start within the first row of the output.
            let start = unsafe { job.out.at(rows.start) };
            // Products of rests go nowhere by themselves.
            let width = if input.twice { 0 } else { job.weight.rows() };
            let target = Target { start, width };
            let weights = RowPanel { format, cols, rows: rows.len(), bytes, target };
            tiers::multiply(&isa, &weights, packed, scratch, out);
            return;
        }
        let x = (&input.values[..], input.float_tiles());
        for (panel, out) in panels.clone().zip(out.chunks_exact_mut(input.rows * RowPanel::ROWS)) {
            let rows = job.rows(panel..panel + 1);
            let (rows, bytes) = (rows.len(), weight.rows_bytes(rows));
            let weights = FloatRowPanel { format, cols, rows, bytes };
            float::multiply(isa, &weights, x, floats, out);
        }
    }
}

/// `[panels, 2, size]` → `[panels, size]`, in place: the products of rows, and of what
/// rounding has taken from the rows, become one.
fn add_rests(out: &mut [f32], size: usize) {
    for panel in 0..out.len() / (2 * size).max(1) {
        for i in 0..size {
            let at = 2 * panel * size + i;
            out[panel * size + i] = out[at] + out[at + size];
        }
    }
}

/// What becomes of the products of `rows`: scale, bias, gate, and their way to the output.
struct Finish<'a> {
    job: &'a Job<'a>,
    rows: Range<usize>,
    /// `[panels, batch, RowPanel::ROWS]`
    out: &'a mut [f32],
    /// The same of the other matrix, if there is one.
    other: &'a mut [f32],
    batch: usize,
}

impl Task for Finish<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Finish { job, rows, out, other, batch } = self;
        scale(job.weight, out);
        add_bias(job.weight, &rows, batch, out);
        match job.then {
            Then::Store | Then::Add => {}
            Then::Activate(activation) => Activate { activation, values: out }.run(simd),
            Then::Gate(activation, up) => {
                scale(up, other);
                add_bias(up, &rows, batch, other);
                Gate { activation, gate: out, up: other }.run(simd);
            }
        }
        put(job, rows, out, batch);
    }
}

/// Multiplies the products of the matrix by its scale, if it has one.
#[inline(always)]
fn scale(weight: &Matrix, out: &mut [f32]) {
    if let Some(scale) = weight.scale() {
        out.iter_mut().for_each(|out| *out *= scale);
    }
}

/// Adds the bias of `rows` of the matrix to their products, if it has one.
#[inline(always)]
fn add_bias(weight: &Matrix, rows: &Range<usize>, batch: usize, out: &mut [f32]) {
    let Some(bias) = weight.bias() else { return };
    let panels = out.chunks_exact_mut(batch * RowPanel::ROWS);
    for (bias, out) in bias[rows.clone()].chunks(RowPanel::ROWS).zip(panels) {
        for out in out.chunks_exact_mut(RowPanel::ROWS) {
            add(out, bias);
        }
    }
}

/// Writes the products `values` = `[panels, batch, RowPanel::ROWS]` of weight rows `rows`
/// where they belong: row by row of the output, whose rows may be pages apart.
#[inline(always)]
fn put(job: &Job<'_>, rows: Range<usize>, values: &[f32], batch: usize) {
    let width = job.weight.rows();
    assert!(rows.start <= rows.end && rows.end <= width);
    let values = values.as_chunks::<{ RowPanel::ROWS }>().0;
    for m in 0..batch {
        // SAFETY: `Job::new` checked that the output has batch · width values; m <
        // batch, and the rows lie in the matrix, as the assertion says. [`Shares`] gives
        // every panel to one thread.
        let place = unsafe {
            std::slice::from_raw_parts_mut(job.out.at(m * width + rows.start), rows.len())
        };
        let of_row = values.iter().skip(m).step_by(batch);
        for (place, values) in place.chunks_mut(RowPanel::ROWS).zip(of_row) {
            match (job.then, place.as_chunks_mut::<{ RowPanel::ROWS }>().0) {
                // A whole panel: a constant length, so no calls and no loops.
                (Then::Add, [place]) => add(place, values),
                (Then::Add, _) => add(place, values),
                (_, [place]) => *place = *values,
                (..) => place.copy_from_slice(&values[..place.len()]),
            }
        }
    }
}

#[inline(always)]
fn add(out: &mut [f32], values: &[f32]) {
    out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
}

#[cfg(test)]
mod tests;
