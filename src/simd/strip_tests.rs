//! Every set's strips against the scalar reference, where sums are largest and
//! tiles are not full.

use super::{Isa, Scratch, Simd, Strip, Task};
use crate::quant::{ActivationRows, Format, dot_row};

struct Products<'a>(Strip<'a>, &'a mut [f32]);

impl Task for Products<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        simd.strip(&self.0, &mut Scratch::default(), self.1);
    }
}

fn formats() -> impl Iterator<Item = Format> {
    Format::ALL.into_iter().filter(|format| format.activation_block_len().is_some())
}

/// Activations whose codes are `code(row, column)`, each at its extreme where the
/// magnitude is 127.
fn activations(
    batch: usize,
    cols: usize,
    block: usize,
    code: impl Fn(usize, usize) -> f32,
) -> ActivationRows {
    let mut rows = ActivationRows::new(batch, cols, block);
    for (m, mut row) in rows.rows_mut().enumerate() {
        let values: Vec<f32> = (0..cols).map(|k| code(m, k)).collect();
        row.quantize(&values);
    }
    rows
}

fn check(format: Format, cols: usize, rows: usize, bytes: &[u8], activations: &ActivationRows) {
    let batch = activations.rows();
    for isa in Isa::available() {
        let strip = Strip { format, cols, rows, bytes, activations };
        let expected: Vec<Vec<f32>> = (0..batch)
            .map(|m| (0..rows).map(|n| dot_row(format, strip.row(n), activations.row(m))).collect())
            .collect();
        let mut out = vec![f32::NAN; batch * Strip::ROWS];
        isa.run(Products(strip, &mut out));
        for (m, expected) in expected.iter().enumerate() {
            for (n, expected) in expected.iter().enumerate() {
                let found = out[m * Strip::ROWS + n];
                let same =
                    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                let context = format!("{format} {isa}, {cols} × {rows} × {batch}, [{m}, {n}]");
                assert!(same, "{context}: {found} != {expected}");
            }
        }
    }
}

/// Weight bytes all at one of five patterns, or one half each; activations all at
/// ±127, with equal and with alternating signs. Scales of some of these blocks
/// are NaN: then so is the product.
#[test]
fn extreme_codes_do_not_overflow() {
    const PAINTS: [u8; 5] = [0x00, 0x3b, 0x7f, 0x80, 0xff];
    for format in formats() {
        let (block, len) = (format.block_len(), format.block_bytes());
        let signs = |m: usize, k: usize| match m % 4 {
            0 => 1.0,
            1 => -1.0,
            2 => [1.0, -1.0][k % 2],
            _ => [1.0, -1.0][k / 16 % 2],
        };
        let mut bytes = Vec::new();
        for first in PAINTS {
            for second in PAINTS {
                let mut row = vec![first; len];
                row[len / 2..].fill(second);
                // The scales of the formats stand at one of the ends.
                for at in [0, 2, len - 2] {
                    row[at..at + 2].copy_from_slice(&0x3555_u16.to_le_bytes());
                }
                bytes.extend([row.clone(), row].concat());
            }
        }
        for batch in [1, 3, 4, 6] {
            let rows = PAINTS.len() * PAINTS.len();
            check(format, 2 * block, rows, &bytes, &activations(batch, 2 * block, block, signs));
        }
    }
}

/// All numbers of rows up to a whole strip, all batches over two tiles.
#[test]
fn every_edge_of_a_tile() {
    for format in formats() {
        let (block, cols) = (format.block_len(), 3 * format.block_len());
        let row = format.row_bytes(cols).unwrap();
        let bytes: Vec<u8> =
            (0..Strip::ROWS * row).map(|i| (i * i * 7 + i / 5) as u8 & 0xbb).collect();
        let value = |m: usize, k: usize| ((m * 7919 + k * k) as f32 * 0.37).sin();
        for rows in [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32] {
            check(format, cols, rows, &bytes[..rows * row], &activations(5, cols, block, value));
        }
        for batch in 1..=13 {
            check(format, cols, 5, &bytes[..5 * row], &activations(batch, cols, block, value));
        }
    }
}
