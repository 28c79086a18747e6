//! Activations to int8, vectorized: the same bits as
//! [`quantize_block`](crate::quant::quantize_block), which stays the reference.

use crate::kernel::pool::Team;
use crate::quant::{ActivationRowMut, ActivationRows, quantize_block};
use crate::simd::{Isa, Simd, Task};

/// Quantizes `values` = `[batch, cols]` into `rows`, in blocks of `block_len`.
pub(super) fn rows(
    team: &Team<'_>,
    isa: Isa,
    (values, cols): (&[f32], usize),
    block_len: usize,
    rows: &mut ActivationRows,
) {
    rows.reset(values.len() / cols, cols, block_len);
    let mut rows: Vec<ActivationRowMut<'_>> = rows.rows_mut().collect();
    team.for_each(&mut rows, |m, row| {
        isa.run(Quantize { x: &values[m * cols..(m + 1) * cols], row });
    });
}

/// Quantizes `values` = `[batch, cols]` into the first half of `rows`, and what is lost by
/// that into the second: `x − d · q`, row by row. `rests`: working memory.
pub(super) fn rows_and_rests(
    team: &Team<'_>,
    isa: Isa,
    (values, cols): (&[f32], usize),
    block_len: usize,
    rows: &mut ActivationRows,
    rests: &mut Vec<f32>,
) {
    let batch = values.len() / cols;
    rows.reset(2 * batch, cols, block_len);
    rests.resize(values.len(), 0.0);
    let mut first: Vec<ActivationRowMut<'_>> = rows.rows_mut().collect();
    let second = first.split_off(batch);
    let rests = rests.chunks_exact_mut(cols);
    let mut rows: Vec<_> = first.into_iter().zip(second).zip(rests).collect();
    team.for_each(&mut rows, |m, ((row, of_rest), rest)| {
        isa.run(QuantizeTwice { x: &values[m * cols..(m + 1) * cols], row, rest, of_rest });
    });
}

/// Quantizes one row, and its rest.
struct QuantizeTwice<'a, 'r> {
    /// `[cols]`
    x: &'a [f32],
    row: &'a mut ActivationRowMut<'r>,
    /// `[cols]`
    rest: &'a mut [f32],
    of_rest: &'a mut ActivationRowMut<'r>,
}

impl Task for QuantizeTwice<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let QuantizeTwice { x, row, rest, of_rest } = self;
        Quantize { x, row: &mut *row }.run(simd);
        let len = row.q.len() / row.d.len().max(1);
        let blocks = x.chunks_exact(len).zip(row.q.chunks_exact(len)).zip(row.d.iter());
        for (((x, q), &d), rest) in blocks.zip(rest.chunks_exact_mut(len)) {
            for ((rest, &x), &q) in rest.iter_mut().zip(x).zip(q) {
                *rest = x - d * f32::from(q);
            }
        }
        Quantize { x: rest, row: of_rest }.run(simd);
    }
}

/// Quantizes one row.
pub(crate) struct Quantize<'a, 'r> {
    /// `[cols]`
    pub x: &'a [f32],
    pub row: &'a mut ActivationRowMut<'r>,
}

impl Task for Quantize<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Quantize { x, row } = self;
        let len = row.q.len() / row.d.len().max(1);
        if len == 256 {
            let blocks = x.as_chunks::<256>().0.iter().zip(row.q.as_chunks_mut::<256>().0);
            let blocks = blocks.zip(row.sums.as_chunks_mut::<16>().0);
            for (((x, q), sums), d) in blocks.zip(row.d.iter_mut()) {
                *d = block::<S, 256, 16>(simd, x, q, sums);
            }
        } else {
            let blocks = x.as_chunks::<32>().0.iter().zip(row.q.as_chunks_mut::<32>().0);
            let blocks = blocks.zip(row.sums.as_chunks_mut::<2>().0);
            for (((x, q), sums), d) in blocks.zip(row.d.iter_mut()) {
                *d = block::<S, 32, 2>(simd, x, q, sums);
            }
        }
        for (sum, [a, b]) in row.sums32.iter_mut().zip(row.sums.as_chunks().0) {
            *sum = a + b;
        }
    }
}

/// One block of `N` values. What is rare (values that are not finite, no largest
/// value, one whose sign is not clear) goes the way of the reference.
#[inline(always)]
fn block<S: Simd, const N: usize, const SUMS: usize>(
    simd: S,
    x: &[f32; N],
    q: &mut [i8; N],
    sums: &mut [i16; SUMS],
) -> f32 {
    let (zero, minus_one) = (simd.splat(0.0), simd.splat(-1.0));
    let (mut highest, mut lowest, mut nan) = (zero, zero, zero);
    for x in x.as_chunks::<16>().0 {
        let x = simd.load(x);
        highest = simd.max(x, highest);
        lowest = simd.max(simd.mul(x, minus_one), lowest);
        nan = simd.fma(x, zero, nan);
    }
    let (highest, lowest) = (simd.max_lane(highest), simd.max_lane(lowest));
    let largest = if highest > lowest { highest } else { -lowest };
    let (inverse, d) = if N == 256 {
        let inverse = -127.0 / largest;
        (inverse, 1.0 / inverse)
    } else {
        let d = largest.abs() / 127.0;
        (1.0 / d, d)
    };
    let unclear = N == 256 && highest == lowest;
    if unclear || inverse.is_infinite() || simd.sum(nan) != 0.0 {
        return quantize_block(x, q, sums);
    }
    let factor = simd.splat(inverse);
    let halves = x.as_chunks::<32>().0.iter().zip(q.as_chunks_mut::<32>().0);
    for ((x, q), sums) in halves.zip(sums.as_chunks_mut::<2>().0) {
        let (Some(low), Some(high)) = (x.first_chunk(), x.last_chunk()) else { continue };
        let (low, high) = (simd.mul(simd.load(low), factor), simd.mul(simd.load(high), factor));
        let mut codes = [0i16; 32];
        simd.store_i16(simd.round_i16(low, high), &mut codes);
        for (q, &code) in q.iter_mut().zip(&codes) {
            *q = code as i8; // |inverse · x| ≤ 127 but for rounding
        }
        for (sum, codes) in sums.iter_mut().zip(codes.as_chunks::<16>().0) {
            *sum = codes.iter().sum();
        }
    }
    d
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn check(x: &[f32], len: usize) {
        let mut expected = ActivationRows::new(1, x.len(), len);
        expected.rows_mut().for_each(|mut row| row.quantize(x));
        let expected = expected.row(0);
        for isa in Isa::available() {
            let mut found = ActivationRows::new(1, x.len(), len);
            found.rows_mut().for_each(|mut row| isa.run(Quantize { x, row: &mut row }));
            let found = found.row(0);
            let bits = |d: &[f32]| d.iter().map(|d| d.to_bits()).collect::<Vec<_>>();
            assert_eq!(found.q, expected.q, "{isa}");
            assert_eq!(found.sums, expected.sums, "{isa}");
            assert_eq!(found.sums32, expected.sums32, "{isa}");
            let nan = expected.d.iter().any(|d| d.is_nan());
            assert!(nan || bits(found.d) == bits(expected.d), "{isa}");
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]
        #[test]
        fn any_numbers(
            mut x in proptest::collection::vec(-1e3f32..1e3, 512),
            special in proptest::option::of((0usize..512, any::<f32>())),
            scale in -130i32..100,
        ) {
            x.iter_mut().for_each(|x| *x *= 2f32.powi(scale));
            if let Some((at, value)) = special {
                x[at] = value;
            }
            check(&x, 256);
            check(&x, 32);
        }
    }

    /// The two together are the values to 16 bits of the largest of a block.
    #[test]
    fn rows_and_rests_are_the_values() {
        let pool = crate::kernel::pool::Pool::new(2).unwrap();
        let x: Vec<f32> = (0..3 * 512).map(|i| ((i * i) as f32 * 0.37).sin() * 5.0).collect();
        for len in [32, 256] {
            let mut first: Option<Vec<f32>> = None;
            for isa in Isa::available() {
                let (mut rows, mut rests) = (ActivationRows::default(), Vec::new());
                pool.region(|team| {
                    rows_and_rests(team, isa, (&x, 512), len, &mut rows, &mut rests);
                });
                let value = |m: usize, k: usize| {
                    let row = rows.row(m);
                    row.d[k / len] * f32::from(row.q[k])
                };
                let all: Vec<f32> = (0..3 * 512)
                    .map(|i| value(i / 512, i % 512) + value(3 + i / 512, i % 512))
                    .collect();
                for (x, sum) in x.iter().zip(&all) {
                    assert!(
                        (x - sum).abs() <= 5.0 / 127.0 / 254.0 * 1.01,
                        "{len} {isa}: {x} {sum}"
                    );
                }
                assert_eq!(*first.get_or_insert_with(|| all.clone()), all, "{isa}");
            }
        }
    }

    #[test]
    fn ties_signs_and_zeros() {
        for len in [32, 256] {
            check(&vec![0.0; 256], len);
            check(&vec![-0.0; 256], len);
            for first in [1.0, -1.0] {
                let mut x: Vec<f32> = (0..256).map(|i| (i % 255) as f32 / 254.0 - 0.5).collect();
                (x[100], x[101]) = (first, -first);
                check(&x, len);
            }
            let halves: Vec<f32> = (0..256).map(|i| (i as f32 - 127.0) / 2.0).collect();
            check(&halves, len);
        }
    }
}
