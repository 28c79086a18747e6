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

use super::act::{Activation, Gate};
use super::float_panel::{FloatPanel, FloatRows};
use super::float_strip::FloatStrip;
use super::matrix::Matrix;
use super::pool::{Disjoint, Team};
use super::quantize::Quantize;
use super::shares::Shares;
use crate::quant::Format;
use crate::quant::activation::{ActivationRowMut, ActivationRows};
use crate::quant::aligned::Aligned;
use crate::simd::sixteens::{self, SixteenScales, Sixteens, SixteensOf};
use crate::simd::threes::{self, Threes};
use crate::simd::{Isa, Order, Scratch, Simd, Strip, Target, Task};

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

    /// Quantizes the values for products with weights of `formats`; many rows for float
    /// weights are laid out in tiles.
    pub fn quantize(&mut self, team: &Team<'_>, isa: Isa, formats: impl Iterator<Item = Format>) {
        let (mut any_32, mut any_256, mut any_float) = (false, false, false);
        for format in formats {
            match format.activation_block_len() {
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

/// One product of a group and what becomes of it. `out` is `[input rows, matrix rows]`.
pub(crate) enum Product<'a> {
    /// `out = W · x`
    Store(&'a Matrix, &'a mut [f32]),
    /// `out += W · x`: the residual stream.
    Add(&'a Matrix, &'a mut [f32]),
    /// `out = activation(G · x) · (U · x)`: the gate of the feed-forward network.
    Gate { activation: Activation, gate: &'a Matrix, up: &'a Matrix, out: &'a mut [f32] },
}

impl Product<'_> {
    /// The formats of the matrices that it multiplies.
    fn formats(&self) -> impl Iterator<Item = Format> + use<> {
        let (first, second) = match self {
            Product::Store(matrix, _) | Product::Add(matrix, _) => (matrix.format(), None),
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
    let threads = team.threads();
    let mut jobs: Vec<Job<'_>> = Vec::new();
    for Group { input, products } in groups {
        if input.rows > 0 {
            jobs.extend(products.iter_mut().map(|product| Job::new(product, input, threads, isa)));
        }
    }
    if jobs.is_empty() {
        return;
    }
    team.run(&|worker| {
        STRIPS.with_borrow_mut(|strips| {
            for worker in [Some(worker), None] {
                for job in &jobs {
                    isa.run(Part { job, worker, strips });
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
    input: &'a Input,
    weight: &'a Matrix,
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
    /// Multiply the other matrix' product by the activation of this one.
    Gate(Activation, &'a Matrix),
}

impl<'a> Job<'a> {
    /// The loader checked every shape; a mismatch would be our bug, and must not
    /// become a write out of bounds.
    fn new(product: &'a mut Product<'_>, input: &'a Input, threads: usize, isa: Isa) -> Self {
        let (weight, then, out) = match product {
            Product::Store(weight, out) => (&**weight, Then::Store, out),
            Product::Add(weight, out) => (&**weight, Then::Add, out),
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
        let at_once = matrices().map(|m| isa.strips_at_once(m.format(), input.rows)).max();
        let at_once = at_once.unwrap_or(1);
        let stretch = then.stretch(input.rows).max(at_once);
        let shares = Shares::new(rows.div_ceil(Strip::ROWS), threads, at_once);
        // Each matrix notes its use.
        let first_use = matrices().fold(false, |any, matrix| any | matrix.first_use());
        Job { input, weight, then, out: Disjoint(out.as_mut_ptr()), shares, stretch, first_use }
    }
}

impl Job<'_> {
    /// The weight rows of `strips`.
    fn rows(&self, strips: Range<usize>) -> Range<usize> {
        let rows = self.weight.rows();
        rows.min(strips.start * Strip::ROWS)..rows.min(strips.end * Strip::ROWS)
    }

    /// Maps the weights of `strips` into the process.
    fn populate(&self, strips: Range<usize>) {
        let rows = self.rows(strips);
        self.weight.populate(rows.clone());
        if let Some(other) = self.then.other() {
            other.populate(rows);
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
            Then::Gate(..) => (STRETCH / rows).max(1),
            Then::Store | Then::Add => 1,
        }
    }

    fn other(self) -> Option<&'a Matrix> {
        match self {
            Then::Gate(_, up) => Some(up),
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
    strips: &'a mut Strips,
}

impl Task for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Part { job, worker, strips } = self;
        let input = job.input;
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
                product(simd, job, job.weight, stretch.clone(), memory, out);
                if let Then::Gate(activation, up) = job.then {
                    other.resize(stretch.len() * size);
                    product(simd, job, up, stretch.clone(), memory, other);
                    Gate { activation, gate: out, up: other }.run(simd);
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
    weight: &Matrix,
    strips: Range<usize>,
    memory: &mut Memory,
    out: &mut [f32],
) {
    let input = job.input;
    let (format, cols) = (weight.format(), input.cols);
    let rows = job.rows(strips.clone());
    let bytes = weight.rows_bytes(rows.clone());
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
            let target = Target { start, width: job.weight.rows() };
            let (rows, threes, sixteens) = (rows.len(), &input.threes, &input.sixteens);
            let strips = Strip { format, cols, rows, bytes, activations, threes, sixteens, target };
            simd.strips(&strips, &mut memory.scratch, out);
        }
        None => {
            let tiles = (input.rows >= TILED).then_some(&input.tiles);
            let x = &input.values;
            for (strip, out) in strips.clone().zip(out.chunks_exact_mut(size)) {
                let rows = job.rows(strip..strip + 1);
                let (rows, bytes) = (rows.len(), weight.rows_bytes(rows));
                let strip = FloatStrip { format, cols, rows, bytes, x, tiles };
                strip.multiply(simd, &mut memory.panel, out);
            }
        }
    }
    if let Some(bias) = weight.bias() {
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
    let width = job.weight.rows();
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
                (Then::Store | Then::Gate(..), [place]) => *place = *values,
                (Then::Add, [place]) => add(place, values),
                (Then::Store | Then::Gate(..), _) => place.copy_from_slice(&values[..place.len()]),
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
    use crate::quant::{dot_row, float};
    use crate::tensor::{Storage, Tensor, TensorRecord};

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
        let weight = Matrix::from(weights(format, rows, cols));
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
                    let products = &mut [Product::Store(&weight, &mut out)];
                    multiply(team, isa, &mut [Group { input: &mut input, products }]);
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
            let bias: Vec<f32> = (0..rows).map(|n| n as f32 - 300.0).collect();
            let biased =
                |format| Matrix::new(weights(format, rows, cols), 0..rows, Some(bias.clone()));
            let (gate, up) = (&biased(first), &biased(second));
            let mut expected: Option<[Vec<u32>; 3]> = None;
            for isa in Isa::available() {
                let mut outs = [(); 3].map(|()| vec![0.25f32; batch * rows]);
                Pool::new(2).unwrap().region(|team| {
                    let mut input = Input::default();
                    input.reset(batch, cols);
                    for (i, x) in input.values.iter_mut().enumerate() {
                        *x = ((i * i) as f32 * 0.37).sin();
                    }
                    let [a, b, out] = &mut outs;
                    let products = &mut [
                        Product::Store(up, a),
                        Product::Add(gate, b),
                        Product::Gate { activation: Activation::Silu, gate, up, out },
                    ];
                    multiply(team, isa, &mut [Group { input: &mut input, products }]);
                });
                let bits = outs.map(|out| out.iter().map(|x| x.to_bits()).collect::<Vec<_>>());
                assert!(*expected.get_or_insert_with(|| bits.clone()) == bits, "{first} {isa}");
            }
        }
    }

    /// Rows of a tensor are a matrix of their own, and groups of rows with matrices of
    /// their own go into one call: on every set, the bits of the parts alone.
    #[test]
    fn row_ranges_and_groups_are_the_same_as_their_parts() {
        let (cols, rows) = (512, 5 * Strip::ROWS);
        let values = |batch: usize| (0..batch * cols).map(|i| ((i * i) as f32 * 0.37).sin());
        for format in [Format::Q4_K, Format::Q8_0, Format::F32] {
            let tensor = weights(format, rows, cols);
            let matrix = |range| Matrix::new(tensor.clone(), range, None);
            let (whole, ranges) = (matrix(0..rows), [3..77, 77..78, 100..rows]);
            let parts = ranges.clone().map(matrix);
            for isa in Isa::available() {
                let batches = [2, 17];
                let mut inputs = batches.map(|batch| {
                    let mut input = Input::default();
                    input.reset(batch, cols);
                    input.values.iter_mut().zip(values(batch)).for_each(|(x, value)| *x = value);
                    input
                });
                let mut all = batches.map(|batch| vec![f32::NAN; batch * rows]);
                let mut outs =
                    batches.map(|batch| ranges.clone().map(|r| vec![f32::NAN; batch * r.len()]));
                Pool::new(2).unwrap().region(|team| {
                    for (input, out) in inputs.iter_mut().zip(&mut all) {
                        let products = &mut [Product::Store(&whole, out)];
                        multiply(team, isa, &mut [Group { input, products }]);
                    }
                    let mut products = outs.each_mut().map(|outs| {
                        let outs = outs.iter_mut().zip(&parts);
                        outs.map(|(out, part)| Product::Store(part, out)).collect::<Vec<_>>()
                    });
                    let groups = inputs.iter_mut().zip(&mut products);
                    let mut groups: Vec<_> =
                        groups.map(|(input, products)| Group { input, products }).collect();
                    multiply(team, isa, &mut groups);
                });
                for (all, outs) in all.iter().zip(&outs) {
                    for (range, out) in ranges.iter().zip(outs) {
                        for (row, out) in all.chunks(rows).zip(out.chunks(range.len())) {
                            let same = row[range.clone()].iter().zip(out);
                            assert!(
                                same.fold(true, |same, (a, b)| same & (a.to_bits() == b.to_bits())),
                                "{format} {isa} {range:?}"
                            );
                        }
                    }
                }
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

    fn reference(weight: &Matrix, n: usize, input: &Input, m: usize) -> f32 {
        match weight.format().activation_block_len() {
            Some(32) => {
                dot_row(weight.format(), weight.rows_bytes(n..n + 1), input.blocks_of_32.row(m))
            }
            Some(_) => {
                dot_row(weight.format(), weight.rows_bytes(n..n + 1), input.blocks_of_256.row(m))
            }
            None => {
                let mut row = vec![0.0; input.cols];
                float::to_f32(weight.format(), weight.rows_bytes(n..n + 1), &mut row);
                let values = &input.values[m * input.cols..(m + 1) * input.cols];
                Isa::detect().run(Dot(&row, values))
            }
        }
    }
}
