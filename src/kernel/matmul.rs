//! Weight matrices times rows of activations.
//!
//! ```text
//! out[m, n] = Σ_k weight[n, k] · input[m, k]
//! ```
//! Quantized weights meet int8 activations. Per block of the format, in order
//! of k: `t = fma(isum, d, −(msum · dmin))`, `acc = fma(t, d8, acc)`; the integer
//! sums are exact. Float weights meet
//! f32 activations in [`dot`]'s order. So a value depends on its row alone.
//!
//! Threads take contiguous parts of the weight rows, the same from call to call.
//! A block is unpacked once and multiplied with every row of the batch.

use std::cell::RefCell;
use std::ops::Range;

use super::math::dot;
use super::pool::{Disjoint, Team, part};
use crate::quant::activation::{ActivationRowMut, ActivationRows};
use crate::quant::float;
use crate::simd::{Isa, Scratch, Simd, Strip, Task};
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
}

impl Input {
    /// Makes room for `rows` rows; their [`values`](Input::values) are
    /// unspecified until written.
    pub fn reset(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.values.resize(rows * cols, 0.0);
    }

    /// Quantizes the values for products with `weights`.
    pub fn quantize<'a>(&mut self, team: &Team<'_>, weights: impl IntoIterator<Item = &'a Tensor>) {
        let (mut any_32, mut any_256) = (false, false);
        for weight in weights {
            match weight.format().activation_block_len() {
                Some(32) => any_32 = true,
                Some(_) => any_256 = true,
                None => {}
            }
        }
        for (needed, len, form) in
            [(any_32, 32, &mut self.blocks_of_32), (any_256, 256, &mut self.blocks_of_256)]
        {
            if needed {
                form.reset(self.rows, self.cols, len);
                let (values, cols) = (&self.values, self.cols);
                let mut rows: Vec<ActivationRowMut<'_>> = form.rows_mut().collect();
                team.for_each(&mut rows, |m, row| row.quantize(&values[m * cols..(m + 1) * cols]));
            }
        }
    }
}

/// One product of a group: a weight matrix and where its result goes.
pub(crate) struct Product<'a> {
    pub weight: &'a Tensor,
    /// `[input rows, weight rows]`
    pub out: &'a mut [f32],
}

/// Computes all `products` of `input` in one phase.
pub(crate) fn multiply(team: &Team<'_>, isa: Isa, input: &Input, products: &mut [Product<'_>]) {
    let jobs: Vec<Job<'_>> = products
        .iter_mut()
        .map(|product| {
            let weight = product.weight;
            // The loader checked every shape; a mismatch would be our bug, and
            // must not become a write out of bounds.
            assert_eq!(weight.cols(), input.cols, "columns of {}", weight.name());
            assert_eq!(
                product.out.len(),
                input.rows * weight.rows(),
                "output of {}",
                weight.name()
            );
            Job { weight, out: Disjoint(product.out.as_mut_ptr()) }
        })
        .collect();
    let threads = team.threads();
    team.run(&|worker| {
        for job in &jobs {
            let rows = part(job.weight.rows(), threads, worker);
            isa.run(Part { job, rows, input });
        }
    });
}

struct Job<'a> {
    weight: &'a Tensor,
    /// `[input rows, weight rows]`; a thread writes the columns of its part.
    out: Disjoint<f32>,
}

/// One thread's part of one product.
struct Part<'a> {
    job: &'a Job<'a>,
    rows: Range<usize>,
    input: &'a Input,
}

thread_local! {
    /// Working memory of the strips of this thread.
    static STRIPS: RefCell<(Scratch, Vec<f32>)> = RefCell::default();
}

impl Task for Part<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        match self.job.weight.format().activation_block_len() {
            None => self.float(simd),
            Some(len) => STRIPS.with_borrow_mut(|(scratch, out)| {
                let activations = match len {
                    32 => &self.input.blocks_of_32,
                    _ => &self.input.blocks_of_256,
                };
                self.quantized(simd, activations, scratch, out);
            }),
        }
    }
}

impl Part<'_> {
    /// Writes `value` as the product of input row `m` with weight row `n`.
    #[inline(always)]
    fn put(&self, m: usize, n: usize, value: f32) {
        debug_assert!(m < self.input.rows && self.rows.contains(&n));
        // SAFETY: `multiply` checked that the output has input.rows · weight.rows
        // values; m is below the one, n in this thread's part of the other, and
        // parts of threads do not overlap.
        unsafe { *self.job.out.at(m * self.job.weight.rows() + n) = value }
    }

    #[inline(always)]
    fn quantized<S: Simd>(
        &self,
        simd: S,
        activations: &ActivationRows,
        scratch: &mut Scratch,
        out: &mut Vec<f32>,
    ) {
        let (format, cols) = (self.job.weight.format(), self.input.cols);
        out.resize(self.input.rows * Strip::ROWS, 0.0);
        let mut first = self.rows.start;
        while first < self.rows.end {
            let rows = Strip::ROWS.min(self.rows.end - first);
            let bytes = self.job.weight.rows_bytes(first..first + rows);
            simd.strip(&Strip { format, cols, rows, bytes, activations }, scratch, out);
            for (m, out) in out.chunks_exact(Strip::ROWS).enumerate() {
                for (n, &value) in out[..rows].iter().enumerate() {
                    self.put(m, first + n, value);
                }
            }
            first += rows;
        }
    }

    #[inline(always)]
    fn float<S: Simd>(&self, simd: S) {
        let (weight, cols) = (self.job.weight, self.input.cols);
        let mut row = vec![0.0; cols];
        for n in self.rows.clone() {
            float::to_f32(weight.format(), weight.row(n), &mut row);
            for (m, values) in self.input.values.chunks_exact(cols).enumerate() {
                self.put(m, n, dot(simd, &row, values));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::kernel::pool::Pool;
    use crate::quant::{Format, dot_row};
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
            for (cols, rows, batch) in
                [(block, 1, 1), (2 * block, 3, 2), (7 * block, 13, 5), (block * 3, 2, 9)]
            {
                check(format, cols, rows, batch);
            }
        }
        // Float rows need no whole vectors.
        for cols in [1, 15, 17, 172] {
            check(Format::F32, cols, 3, 2);
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
                    input.quantize(team, [&weight]);
                    multiply(team, isa, &input, &mut [Product { weight: &weight, out: &mut out }]);
                });
                let context =
                    format!("{format} {isa} {threads} threads, {cols} × {rows} × {batch}");
                for (m, out) in out.chunks(rows).enumerate() {
                    for (n, &out) in out.iter().enumerate() {
                        let expected = reference(&weight, n, &input, m);
                        assert!(expected.is_finite(), "{context}");
                        match format.activation_block_len() {
                            Some(_) => assert_eq!(out.to_bits(), expected.to_bits(), "{context}"),
                            None => assert!((out - expected).abs() <= 1e-4, "{context}: {out}"),
                        }
                    }
                }
                let bits: Vec<u32> = out.iter().map(|x| x.to_bits()).collect();
                assert_eq!(*first.get_or_insert_with(|| bits.clone()), bits, "{context}");
            }
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
                let sum: f64 =
                    row.iter().zip(values).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum();
                sum as f32
            }
        }
    }
}
