//! Whole products: every format, tier and number of threads.

use std::sync::Arc;

use crate::kernel::act::Activation;
use crate::kernel::math::dot;
use crate::kernel::matmul::row_panel::RowPanel;
use crate::kernel::matmul::{Group, Input, Product, multiply};
use crate::kernel::matrix::Matrix;
use crate::kernel::pool::Pool;
use crate::quant::{self, Format, dot_row, float};
use crate::simd::{Isa, Simd, Task};
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

/// Every format, tier and number of threads against the scalar
/// reference, bit for bit. Columns: one block, a few, an odd number; rows and
/// batch: one, fewer than threads, odd. Outputs start as NaN.
#[test]
fn every_product_equals_the_scalar_reference() {
    for format in Format::ALL {
        let block = format.block_len().max(16);
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
    // several, and a rest; rows of more than a panel.
    for format in [Format::F32, Format::F16, Format::BF16] {
        for (cols, rows, batch) in
            [(1, 33, 16), (1024, 5, 17), (1041, 7, 18), (2047, 34, 20), (33, 6, 21), (40, 3, 61)]
        {
            check(format, cols, rows, batch);
        }
    }
}

fn check(format: Format, cols: usize, rows: usize, batch: usize) {
    let weight = Matrix::from(weights(format, rows, cols));
    let values: Vec<f32> = (0..batch * cols).map(|i| ((i * i) as f32 * 0.37).sin() * 3.0).collect();
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
            let context = format!("{format} {isa} {threads} threads, {cols} × {rows} × {batch}");
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

/// Bias, residual sum and gate of many rows and panels, on every tier those of the
/// portable one, whose sums the test above compares.
#[test]
fn what_becomes_of_many_panels_is_the_same_on_every_tier() {
    let (cols, rows) = (512, 20 * RowPanel::ROWS + 7);
    let formats = [(Format::Q4_K, Format::Q6_K), (Format::Q8_0, Format::F16)];
    let cases = formats
        .into_iter()
        .flat_map(|formats| [(formats, false, 50), (formats, true, 50), (formats, true, 1)]);
    for ((first, second), twice, batch) in cases {
        let bias: Vec<f32> = (0..rows).map(|n| n as f32 - 300.0).collect();
        let biased = |format| Matrix::new(weights(format, rows, cols), 0..rows, Some(bias.clone()));
        let (gate, up) = (&biased(first), &biased(second));
        let mut expected: Option<[Vec<u32>; 3]> = None;
        for isa in Isa::available() {
            let mut outs = [(); 3].map(|()| vec![0.25f32; batch * rows]);
            Pool::new(2).unwrap().region(|team| {
                let mut input = Input::default();
                input.reset(batch, cols);
                input.twice = twice;
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
            let expected = expected.get_or_insert_with(|| bits.clone());
            assert!(*expected == bits, "{first} {isa} {twice} {batch}");
        }
    }
}

/// Rows of a tensor are a matrix of their own, and groups of rows with matrices of
/// their own go into one call: on every tier, the bits of the parts alone.
#[test]
fn row_ranges_and_groups_are_the_same_as_their_parts() {
    let (cols, rows) = (512, 5 * RowPanel::ROWS);
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
        Some(_) => {
            let rows = input.packed(weight.format()).unwrap().rows();
            dot_row(weight.format(), weight.rows_bytes(n..n + 1), rows.row(m))
        }
        None => {
            let mut row = vec![0.0; input.cols];
            float::to_f32(weight.format(), weight.rows_bytes(n..n + 1), &mut row);
            let values = &input.values[m * input.cols..(m + 1) * input.cols];
            Isa::detect().run(Dot(&row, values))
        }
    }
}

/// With the rests of 8 bits products are those of the values, but for the last of 16 bits.
#[test]
fn twice_is_the_product_of_the_values() {
    let (cols, rows, batch) = (512, 70, 9);
    for format in [Format::Q8_0, Format::Q4_K, Format::Q6_K, Format::F16] {
        let matrix = Matrix::from(weights(format, rows, cols));
        let mut exact = vec![0.0; cols];
        let mut errors = [0f64; 2];
        for (error, twice) in errors.iter_mut().zip([false, true]) {
            let mut out = vec![0.0; batch * rows];
            let mut input = Input::default();
            input.reset(batch, cols);
            input.twice = twice;
            for (i, x) in input.values.iter_mut().enumerate() {
                *x = ((i * i) as f32 * 0.37).sin();
            }
            let values = input.values.clone();
            Pool::new(2).unwrap().region(|team| {
                let products = &mut [Product::Store(&matrix, &mut out)];
                multiply(team, Isa::detect(), &mut [Group { input: &mut input, products }]);
            });
            for n in 0..rows {
                quant::dequantize(format, matrix.rows_bytes(n..n + 1), &mut exact).unwrap();
                for m in 0..batch {
                    let pairs = exact.iter().zip(&values[m * cols..]);
                    let sum: f64 = pairs.map(|(&w, &x)| f64::from(w) * f64::from(x)).sum();
                    *error += (sum - f64::from(out[m * rows + n])).abs();
                }
            }
        }
        let [once, twice] = errors;
        assert!(format == Format::F16 || twice < once / 50.0, "{format}: {once} {twice}");
        assert!(format != Format::F16 || once == twice, "{format}: {once} {twice}");
    }
}
