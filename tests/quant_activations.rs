//! Activations as int8: shapes, rounding, and what is no number.

use proptest::prelude::*;
use tramontane::internal::quant::{ActivationRows, quantize_block};

#[test]
fn activations_are_reshaped_without_stale_lengths() {
    let mut batch = ActivationRows::default();
    assert_eq!(batch.rows_mut().len(), 0);
    for (rows, cols, block_len) in [(3, 512, 256), (5, 64, 32), (0, 256, 256), (2, 256, 32)] {
        batch.reset(rows, cols, block_len);
        assert_eq!((batch.rows(), batch.cols(), batch.block_len()), (rows, cols, block_len));
        assert_eq!(batch.rows_mut().len(), rows);
        for (r, mut row) in batch.rows_mut().enumerate() {
            row.quantize(&vec![-(r as f32) - 1.0; cols]);
        }
        for r in 0..rows {
            let row = batch.row(r);
            assert_eq!(row.block_len(), block_len);
            assert_eq!((row.q.len(), row.sums.len()), (cols, cols / 16));
            assert!(row.q.iter().all(|&q| q == -127), "row {r}");
            assert!(row.sums.iter().all(|&sum| sum == -127 * 16));
            assert!(row.d.iter().all(|&d| (d * 127.0 - r as f32 - 1.0).abs() < 1e-5));
        }
    }
}

fn quantized(x: &[f32]) -> (Vec<i8>, Vec<i16>, f32) {
    let (mut q, mut sums) = (vec![-128; x.len()], vec![i16::MIN; x.len() / 16]);
    let d = quantize_block(x, &mut q, &mut sums);
    (q, sums, d)
}

#[test]
fn quantized_blocks_by_hand() {
    // Q8_K: the largest value, 2, gets −127; 1 becomes −63.5, a tie, to −64.
    let mut x = vec![0.0; 256];
    x[..5].copy_from_slice(&[2.0, 1.0, -2.0, -1.0, 3.0 / 127.0]);
    let (q, sums, d) = quantized(&x);
    assert_eq!(q[..6], [-127, -64, 127, 64, -2, 0]);
    assert_eq!((sums[0], sums[1], d), (-2, 0, -2.0 / 127.0));
    // With −2 first it is the other way round.
    x.swap(0, 2);
    assert_eq!(quantized(&x).0[..5], [-127, 64, 127, -64, 2]);
    // Q8_0: d = 1, ties to even both ways.
    let mut x = vec![0.0; 32];
    x[15..22].copy_from_slice(&[127.0, -127.0, 0.5, 1.5, 2.5, -0.5, -1.5]);
    let (q, sums, d) = quantized(&x);
    assert_eq!(q[15..22], [127, -127, 0, 2, 2, 0, -2]);
    assert_eq!((sums, d), (vec![127, -125], 1.0));
}

#[test]
fn blocks_of_nothing_and_of_no_numbers() {
    for len in [32, 256] {
        for tiny in [0.0, -0.0, 1e-45, 1e-40, -1e-38] {
            // The reciprocal of the scale overflows or would: all zeros.
            assert_eq!(quantized(&vec![tiny; len]), (vec![0; len], vec![0; len / 16], 0.0));
        }
        for bad in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            for at in [0, 17, len - 1] {
                let mut x = vec![1.0; len];
                x[at] = bad;
                let (q, sums, d) = quantized(&x);
                assert_eq!((&q, &sums), (&vec![0; len], &vec![0; len / 16]));
                assert!(d.is_nan() == bad.is_nan() && !d.is_finite(), "{bad} gave {d}");
            }
        }
        let (q, _, d) = quantized(&vec![f32::MAX; len]);
        assert!(q.iter().all(|q| q.abs() == 127) && d.is_finite());
    }
}

proptest! {
    // A failing case belongs in a test of its own, not in a regressions file.
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..Default::default() })]

    #[test]
    fn quantized_activations_are_near(
        long in any::<bool>(),
        magnitude in -30_i32..=37,
        mut x in prop::collection::vec(-1.0_f32..=1.0, 256),
        zeros in prop::collection::vec(0_usize..256, 0..64),
    ) {
        zeros.into_iter().for_each(|k| x[k] = 0.0);
        x.iter_mut().for_each(|x| *x *= 10_f32.powi(magnitude));
        x.truncate(if long { 256 } else { 32 });
        let (q, sums, d) = quantized(&x);
        for (k, (&x, &q)) in x.iter().zip(&q).enumerate() {
            prop_assert!(q != -128);
            let error = (f64::from(x) - f64::from(d) * f64::from(q)).abs();
            let bound = f64::from(d.abs()) / 2.0 * (1.0 + 1e-3);
            prop_assert!(error <= bound, "{k}: {x} -> {d} * {q}");
        }
        prop_assert!(x.iter().all(|&x| x == 0.0) || q.iter().any(|q| q.abs() == 127));
        for (sum, q) in sums.iter().zip(q.as_chunks::<16>().0) {
            prop_assert_eq!(i32::from(*sum), q.iter().map(|&q| i32::from(q)).sum::<i32>());
        }
    }
}
