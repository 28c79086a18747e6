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
//! Threads go through the weight rows in strips of 32, as [`Shares`] hands them out.
//! What becomes of a product (bias, residual sum, gate) is done strip by strip, or by the
//! few strips that a set multiplies together, while it is in a near cache.

use std::cell::RefCell;
use std::ops::Range;

use super::act::SiluMul;
use super::float_panel::{FloatPanel, FloatRows};
use super::float_strip::FloatStrip;
use super::pool::{Disjoint, Team};
use super::quantize::Quantize;
use super::shares::Shares;
use crate::quant::activation::{ActivationRowMut, ActivationRows};
use crate::quant::aligned::Aligned;
use crate::simd::sixteens::{self, SixteenScales, Sixteens, SixteensOf};
use crate::simd::threes::{self, Threes};
use crate::simd::{Isa, Order, Scratch, Simd, Strip, Target, Task};
use crate::tensor::Tensor;

/// The input rows of one or more matrix products, in each form that the
/// matrices' formats need; every form is computed once.
#[derive(Debug, Default)]
pub(crate) struct Input {
    rows: usize,
    cols: usize,
    /// `[rows, cols]`
    pub values: Vec<f32>,
    blocks_of_32: ActivationRows,
    blocks_of_256: ActivationRows,
    threes: Threes,
    sixteens: Sixteens,
    tiles: FloatRows,
}

impl Input {
    /// Makes room for `rows` rows; their [`values`](Input::values) are
    /// unspecified until written.
    pub fn reset(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.values.resize(rows * cols, 0.0);
    }

    /// Takes over `values` = `[rows, cols]` and leaves the old ones in their place.
    pub fn replace(&mut self, values: &mut Vec<f32>, cols: usize) {
        std::mem::swap(&mut self.values, values);
        (self.rows, self.cols) = (self.values.len() / cols, cols);
    }

    /// Quantizes the values for products with `weights`; many rows for float weights
    /// are laid out in tiles.
    pub fn quantize<'a>(
        &mut self,
        team: &Team<'_>,
        isa: Isa,
        weights: impl IntoIterator<Item = &'a Tensor>,
    ) {
        let (mut any_32, mut any_256, mut any_float) = (false, false, false);
        for weight in weights {
            match weight.format().activation_block_len() {
                Some(32) => any_32 = true,
                Some(_) => any_256 = true,
                None => any_float = true,
            }
        }
        if any_float && self.rows >= TILED {
            self.tiles.set(team, &self.values, self.cols);
        }
        for (needed, len, form) in
            [(any_32, 32, &mut self.blocks_of_32), (any_256, 256, &mut self.blocks_of_256)]
        {
            if needed {
                form.reset(self.rows, self.cols, len);
                let (values, cols) = (&self.values, self.cols);
                let mut rows: Vec<ActivationRowMut<'_>> = form.rows_mut().collect();
                team.for_each(&mut rows, |m, row| {
                    isa.run(Quantize { x: &values[m * cols..(m + 1) * cols], row });
                });
            }
        }
        match isa.order(self.rows) {
            Some(Order::Threes) if any_256 => {
                let activations = &self.blocks_of_256;
                let mut steps: Vec<_> = self.threes.steps_mut(activations).collect();
                team.for_each(&mut steps, |step, blocks| {
                    isa.run(threes::Fill { activations, step, blocks });
                });
            }
            Some(Order::Sixteens) => {
                if any_256 {
                    side_by_side(team, isa, &mut self.sixteens.of_256, &self.blocks_of_256);
                }
                if any_32 {
                    side_by_side(team, isa, &mut self.sixteens.of_32, &self.blocks_of_32);
                }
            }
            _ => {}
        }
    }
}

/// Lays `activations` out as `sixteens`.
fn side_by_side<S: SixteenScales>(
    team: &Team<'_>,
    isa: Isa,
    sixteens: &mut SixteensOf<S>,
    activations: &ActivationRows,
) {
    let mut columns: Vec<_> = sixteens.columns_mut(activations).collect();
    team.for_each(&mut columns, |at, tiles| {
        isa.run(sixteens::Fill { activations, at, tiles });
    });
}

/// A weight matrix `[rows, cols]` and its bias `[rows]`, if it has one.
#[derive(Clone, Copy)]
pub(crate) struct Weight<'a> {
    pub tensor: &'a Tensor,
    pub bias: Option<&'a [f32]>,
}

impl<'a> From<&'a Tensor> for Weight<'a> {
    fn from(tensor: &'a Tensor) -> Self {
        Weight { tensor, bias: None }
    }
}

/// One product of a group and what becomes of it. `out` is `[input rows, weight rows]`.
pub(crate) enum Product<'a> {
    /// `out = W · x`
    Store(Weight<'a>, &'a mut [f32]),
    /// `out += W · x`: the residual stream.
    Add(Weight<'a>, &'a mut [f32]),
    /// `out = silu(G · x) · (U · x)`: the gate of the feed-forward network.
    Gate { gate: Weight<'a>, up: Weight<'a>, out: &'a mut [f32] },
}

impl<'a> Product<'a> {
    /// The matrices that it multiplies.
    pub fn weights(&self) -> impl Iterator<Item = &'a Tensor> + use<'a> {
        let (first, second) = match self {
            Product::Store(weight, _) | Product::Add(weight, _) => (weight.tensor, None),
            Product::Gate { gate, up, .. } => (gate.tensor, Some(up.tensor)),
        };
        std::iter::once(first).chain(second)
    }
}

/// Computes all `products` of `input` in one phase; of no rows, nothing.
pub(crate) fn multiply(team: &Team<'_>, isa: Isa, input: &Input, products: &mut [Product<'_>]) {
    if input.rows == 0 {
        return;
    }
    let threads = team.threads();
    let job = |product| Job::new(product, input, threads, isa);
    let jobs: Vec<Job<'_>> = products.iter_mut().map(job).collect();
    team.run(&|worker| {
        STRIPS.with_borrow_mut(|strips| {
            for worker in [Some(worker), None] {
                for job in &jobs {
                    isa.run(Part { job, worker, input, strips });
                }
            }
        });
    });
}

/// From this many input rows on float weights are unpacked into a panel.
/// With fewer the weights' way to memory and back costs more than it saves (8 rows of
/// F16: 70 tok/s instead of 83).
const TILED: usize = 16;

/// Strips of a matrix at a stretch, times rows of activations: 4 KiB of products.
const STRETCH: usize = 32;

/// A product whose shapes were checked.
struct Job<'a> {
    weight: Weight<'a>,
    then: Then<'a>,
    /// `[input rows, weight rows]`; a thread writes the columns of its strips.
    out: Disjoint<f32>,
    shares: Shares,
    /// Strips that are multiplied, finished and written together.
    stretch: usize,
    /// Whether the weights' pages may not be mapped yet.
    first_use: bool,
}

#[derive(Clone, Copy)]
enum Then<'a> {
    Store,
    Add,
    /// Multiply the other matrix' product by silu of this one.
    Gate(Weight<'a>),
}

impl<'a> Job<'a> {
    /// The loader checked every shape; a mismatch would be our bug, and must not
    /// become a write out of bounds.
    fn new(product: &'a mut Product<'_>, input: &Input, threads: usize, isa: Isa) -> Self {
        let (weight, then, out) = match product {
            Product::Store(weight, out) => (*weight, Then::Store, out),
            Product::Add(weight, out) => (*weight, Then::Add, out),
            Product::Gate { gate, up, out } => (*gate, Then::Gate(*up), out),
        };
        let rows = weight.tensor.rows();
        for weight in [Some(weight), then.other()].into_iter().flatten() {
            let (tensor, name) = (weight.tensor, weight.tensor.name());
            assert_eq!(tensor.cols(), input.cols, "columns of {name}");
            assert_eq!(tensor.rows(), rows, "rows of {name}");
            assert!(weight.bias.is_none_or(|bias| bias.len() == rows), "bias of {name}");
        }
        assert_eq!(out.len(), input.rows * rows, "output of {}", weight.tensor.name());
        let weights = [Some(weight), then.other()].into_iter().flatten();
        let at_once = weights.map(|w| isa.strips_at_once(w.tensor.format(), input.rows)).max();
        let at_once = at_once.unwrap_or(1);
        let stretch = then.stretch(input.rows).max(at_once);
        let shares = Shares::new(rows.div_ceil(Strip::ROWS), threads, at_once);
        let mut first_use = weight.tensor.first_use();
        if let Some(other) = then.other() {
            first_use |= other.tensor.first_use();
        }
        Job { weight, then, out: Disjoint(out.as_mut_ptr()), shares, stretch, first_use }
    }
}

impl Job<'_> {
    /// The weight rows of `strips`.
    fn rows(&self, strips: Range<usize>) -> Range<usize> {
        let rows = self.weight.tensor.rows();
        rows.min(strips.start * Strip::ROWS)..rows.min(strips.end * Strip::ROWS)
    }

    /// Maps the weights of `strips` into the process.
    fn populate(&self, strips: Range<usize>) {
        let rows = self.rows(strips);
        self.weight.tensor.populate(rows.clone());
        if let Some(other) = self.then.other() {
            other.tensor.populate(rows);
        }
    }
}

impl<'a> Then<'a> {
    /// Strips of one matrix before the same of the other. Two streams that alternate strip
    /// by strip are read at 0.9 of the speed of one, so with few rows each is read for a
    /// while; with many the products of a strip should stay in the nearest cache, unless
    /// the set likes [more](Isa::strips_at_once).
    fn stretch(&self, rows: usize) -> usize {
        match self {
            Then::Gate(_) => (STRETCH / rows).max(1),
            Then::Store | Then::Add => 1,
        }
    }

    fn other(self) -> Option<Weight<'a>> {
        match self {
            Then::Gate(up) => Some(up),
            Then::Store | Then::Add => None,
        }
    }
}

/// A thread's working memory.
#[derive(Default)]
struct Strips {
    memory: Memory,
    /// `[strips, batch, Strip::ROWS]`: the products of a stretch.
    out: Aligned<f32>,
    /// The same of the other matrix.
    other: Aligned<f32>,
}

/// What the kernels need between the lines: of quantized and of float weights.
#[derive(Default)]
struct Memory {
    scratch: Scratch,
    panel: FloatPanel,
}

thread_local! {
    static STRIPS: RefCell<Strips> = RefCell::default();
}

/// One thread's part of one product.
struct Part<'a> {
    job: &'a Job<'a>,
    /// Whose part; none for what others have left.
    worker: Option<usize>,
    input: &'a Input,
    strips: &'a mut Strips,
}

impl Task for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Part { job, worker, input, strips } = self;
        let size = input.rows * Strip::ROWS;
        let next = || worker.map_or_else(|| job.shares.others(), |worker| job.shares.own(worker));
        while let Some(mut left) = next() {
            if job.first_use {
                job.populate(left.clone());
            }
            while !left.is_empty() {
                let end = left.end.min(left.start + job.stretch);
                let stretch = std::mem::replace(&mut left.start, end)..end;
                let Strips { memory, out, other } = &mut *strips;
                out.resize(stretch.len() * size);
                product(simd, job, job.weight, stretch.clone(), input, memory, out);
                if let Then::Gate(up) = job.then {
                    other.resize(stretch.len() * size);
                    product(simd, job, up, stretch.clone(), input, memory, other);
                    SiluMul { gate: out, up: other }.run(simd);
                }
                put(job, job.rows(stretch), out, input.rows);
            }
        }
    }
}

/// `out[i, m, n] = W[32 · (strips.start + i) + n] · x[m] + bias`, rows [`Strip::ROWS`]
/// apart. `weight`: one of the job's.
#[inline(always)]
fn product<S: Simd>(
    simd: S,
    job: &Job<'_>,
    weight: Weight<'_>,
    strips: Range<usize>,
    input: &Input,
    memory: &mut Memory,
    out: &mut [f32],
) {
    let (format, cols) = (weight.tensor.format(), input.cols);
    let rows = job.rows(strips.clone());
    let bytes = weight.tensor.rows_bytes(rows.clone());
    let activations = match format.activation_block_len() {
        None => None,
        Some(32) => Some(&input.blocks_of_32),
        Some(_) => Some(&input.blocks_of_256),
    };
    let size = input.rows * Strip::ROWS;
    match activations {
        Some(activations) => {
            // SAFETY: the strips start within the first row of the output.
            let start = unsafe { job.out.at(rows.start) };
            let target = Target { start, width: job.weight.tensor.rows() };
            let (rows, threes, sixteens) = (rows.len(), &input.threes, &input.sixteens);
            let strips = Strip { format, cols, rows, bytes, activations, threes, sixteens, target };
            simd.strips(&strips, &mut memory.scratch, out);
        }
        None => {
            let tiles = (input.rows >= TILED).then_some(&input.tiles);
            let x = &input.values;
            for (strip, out) in strips.clone().zip(out.chunks_exact_mut(size)) {
                let rows = job.rows(strip..strip + 1);
                let (rows, bytes) = (rows.len(), weight.tensor.rows_bytes(rows));
                let strip = FloatStrip { format, cols, rows, bytes, x, tiles };
                strip.multiply(simd, &mut memory.panel, out);
            }
        }
    }
    if let Some(bias) = weight.bias {
        for (bias, out) in bias[rows].chunks(Strip::ROWS).zip(out.chunks_exact_mut(size)) {
            for out in out.chunks_exact_mut(Strip::ROWS) {
                out.iter_mut().zip(bias).for_each(|(out, bias)| *out += bias);
            }
        }
    }
}

/// Writes the products `values` = `[strips, batch, Strip::ROWS]` of weight rows `rows`
/// where they belong: row by row of the output, whose rows may be pages apart.
#[inline(always)]
fn put(job: &Job<'_>, rows: Range<usize>, values: &[f32], batch: usize) {
    let width = job.weight.tensor.rows();
    assert!(rows.start <= rows.end && rows.end <= width);
    let values = values.as_chunks::<{ Strip::ROWS }>().0;
    for m in 0..batch {
        // SAFETY: `Job::new` checked that the output has batch · width values; m <
        // batch, and the rows lie in the matrix, as the assertion says. [`Shares`] gives
        // every strip to one thread.
        let place = unsafe {
            std::slice::from_raw_parts_mut(job.out.at(m * width + rows.start), rows.len())
        };
        let of_row = values.iter().skip(m).step_by(batch);
        for (place, values) in place.chunks_mut(Strip::ROWS).zip(of_row) {
            match (job.then, place.as_chunks_mut::<{ Strip::ROWS }>().0) {
                // A whole strip: a constant length, so no calls and no loops.
                (Then::Store | Then::Gate(_), [place]) => *place = *values,
                (Then::Add, [place]) => add(place, values),
                (Then::Store | Then::Gate(_), _) => place.copy_from_slice(&values[..place.len()]),
                (Then::Add, _) => add(place, values),
            }
        }
    }
}

#[inline(always)]
fn add(out: &mut [f32], values: &[f32]) {
    out.iter_mut().zip(values).for_each(|(out, value)| *out += value);
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::math::dot;
    use crate::kernel::pool::Pool;
    use crate::quant::{Format, dot_row, float};
    use crate::tensor::{Storage, TensorRecord};

    /// Bytes that differ everywhere, with scales that stay finite: the exponents
    /// of any two bytes read as f16 are kept below 2⁰.
    fn weights(format: Format, rows: usize, cols: usize) -> Tensor {
        let len = format.row_bytes(cols).unwrap() * rows;
        let mut state = 0x9e37_79b9_7f4a_7c15u64 ^ len as u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 32) as u8
        };
        let bytes: Vec<u8> = match format {
            Format::F32 => {
                (0..len / 4).flat_map(|_| (f32::from(next()) / 99.0 - 1.3).to_le_bytes()).collect()
            }
            _ => (0..len).map(|_| next() & 0xbb).collect(),
        };
        let dims = [cols as u64, rows as u64, 1, 1];
        let record =
            TensorRecord { name: format.name().into(), dims, n_dims: 2, format, start: 0, len };
        Tensor::new(record, Arc::new(Storage::Owned(bytes)))
    }

    /// Every format, instruction set and number of threads against the scalar
    /// reference, bit for bit. Columns: one block, a few, an odd number; rows and
    /// batch: one, fewer than threads, odd. Outputs start as NaN.
    #[test]
    fn every_product_equals_the_scalar_reference() {
        for format in Format::ALL {
            let block = format.activation_block_len().unwrap_or(16);
            for (cols, rows, batch) in [
                (block, 1, 1),
                (2 * block, 3, 2),
                (5 * block, 5, 3),
                (7 * block, 13, 5),
                (block * 3, 2, 9),
            ] {
                check(format, cols, rows, batch);
            }
        }
        // Float rows need no whole vectors.
        for cols in [1, 15, 17, 172] {
            for batch in 1..=5 {
                check(Format::F32, cols, 3, batch);
            }
        }
        // Tiles of activations with every rest, more than a group; columns of a block,
        // several, and a rest; rows of more than a strip.
        for format in [Format::F32, Format::F16, Format::BF16] {
            for (cols, rows, batch) in [
                (1, 33, 16),
                (1024, 5, 17),
                (1041, 7, 18),
                (2047, 34, 20),
                (33, 6, 21),
                (40, 3, 61),
            ] {
                check(format, cols, rows, batch);
            }
        }
    }

    fn check(format: Format, cols: usize, rows: usize, batch: usize) {
        let weight = weights(format, rows, cols);
        let values: Vec<f32> =
            (0..batch * cols).map(|i| ((i * i) as f32 * 0.37).sin() * 3.0).collect();
        let mut first: Option<Vec<u32>> = None;
        for isa in Isa::available() {
            for threads in [1, 3] {
                let mut out = vec![f32::NAN; batch * rows];
                let mut input = Input::default();
                Pool::new(threads).unwrap().region(|team| {
                    input.reset(batch, cols);
                    input.values.copy_from_slice(&values);
                    input.quantize(team, isa, [&weight]);
                    multiply(team, isa, &input, &mut [Product::Store((&weight).into(), &mut out)]);
                });
                let context =
                    format!("{format} {isa} {threads} threads, {cols} × {rows} × {batch}");
                for (m, out) in out.chunks(rows).enumerate() {
                    for (n, &out) in out.iter().enumerate() {
                        let expected = reference(&weight, n, &input, m);
                        assert!(expected.is_finite(), "{context}");
                        assert_eq!(out.to_bits(), expected.to_bits(), "{context}");
                    }
                }
                let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                assert_eq!(*first.get_or_insert_with(|| bits.clone()), bits, "{context}");
            }
        }
    }

    /// Bias, residual sum and gate of many rows and strips, on every set those of the
    /// portable one, whose sums the test above compares.
    #[test]
    fn what_becomes_of_many_strips_is_the_same_on_every_set() {
        let (cols, rows, batch) = (512, 20 * Strip::ROWS + 7, 50);
        for (first, second) in [(Format::Q4_K, Format::Q6_K), (Format::Q8_0, Format::F16)] {
            let (gate, up) = (weights(first, rows, cols), weights(second, rows, cols));
            let bias: Vec<f32> = (0..rows).map(|n| n as f32 - 300.0).collect();
            let (gate, up) = (
                Weight { tensor: &gate, bias: Some(&bias) },
                Weight { tensor: &up, bias: Some(&bias) },
            );
            let mut expected: Option<[Vec<u32>; 3]> = None;
            for isa in Isa::available() {
                let mut outs = [(); 3].map(|()| vec![0.25f32; batch * rows]);
                Pool::new(2).unwrap().region(|team| {
                    let mut input = Input::default();
                    input.reset(batch, cols);
                    for (i, x) in input.values.iter_mut().enumerate() {
                        *x = ((i * i) as f32 * 0.37).sin();
                    }
                    input.quantize(team, isa, [gate.tensor, up.tensor]);
                    let [a, b, out] = &mut outs;
                    let products = &mut [
                        Product::Store(up, a),
                        Product::Add(gate, b),
                        Product::Gate { gate, up, out },
                    ];
                    multiply(team, isa, &input, products);
                });
                let bits = outs.map(|out| out.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
                assert!(*expected.get_or_insert_with(|| bits.clone()) == bits, "{first} {isa}");
            }
        }
    }

    struct Dot<'a>(&'a [f32], &'a [f32]);

    impl Task for Dot<'_> {
        type Output = f32;
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) -> f32 {
            dot(simd, self.0, self.1)
        }
    }

    fn reference(weight: &Tensor, n: usize, input: &Input, m: usize) -> f32 {
        match weight.format().activation_block_len() {
            Some(32) => dot_row(weight.format(), weight.row(n), input.blocks_of_32.row(m)),
            Some(_) => dot_row(weight.format(), weight.row(n), input.blocks_of_256.row(m)),
            None => {
                let mut row = vec![0.0; input.cols];
                float::to_f32(weight.format(), weight.row(n), &mut row);
                let values = &input.values[m * input.cols..(m + 1) * input.cols];
                Isa::detect().run(Dot(&row, values))
            }
        }
    }
}
