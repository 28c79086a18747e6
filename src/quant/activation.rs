//! Activations as int8: what quantized weights are multiplied with.
//!
//! A row of `cols` values becomes codes `q`, one scale `d` per block of 32 or
//! 256 values, and the sums of each 16 and each 32 codes, which formats with a
//! minimum need:
//!
//! ```text
//! x[k] ≈ d[k / block_len] · q[k],   −127 ≤ q[k] ≤ 127
//! ```
//!
//! Blocks of 256 follow ggml's Q8_K, where the value of largest magnitude gets
//! code −127 (so `d` has the opposite sign). Blocks of 32 follow Q8_0 with `d`
//! kept in `f32`. Codes are rounded to nearest, ties to even.
//!
//! Non-finite values do not panic and are not lost: they count as the largest
//! magnitude of their block (NaN above infinity), which makes all codes of the
//! block 0 and `d` NaN or infinite, so every product with it is NaN.
//! A block whose largest magnitude is so small that the reciprocal of its scale
//! overflows (about 4e-37) counts as all zeros.

use super::aligned::Aligned;

/// A batch of quantized rows; reusable, see [`reset`](Self::reset).
#[derive(Debug, Clone, Default)]
pub struct ActivationRows {
    rows: usize,
    cols: usize,
    block_len: usize,
    q: Aligned<i8>,       // [rows, cols]
    d: Vec<f32>,          // [rows, cols / block_len]
    sums: Aligned<i16>,   // [rows, cols / 16]
    sums32: Aligned<i16>, // [rows, cols / 32]
}

/// Values behind the last row that kernels may read (and multiply by zero): they
/// decode four super-blocks or 16 small blocks at a time.
const SLACK: usize = 1024;

/// One quantized row.
#[derive(Debug, Clone, Copy)]
pub struct ActivationRow<'a> {
    /// `[cols]`: codes.
    pub q: &'a [i8],
    /// `[cols / block_len]`: scales.
    pub d: &'a [f32],
    /// `[cols / 16]`: sum of each 16 codes.
    pub sums: &'a [i16],
    /// `[cols / 32]`: sum of each 32 codes.
    pub sums32: &'a [i16],
}

/// One row to be filled.
#[derive(Debug)]
pub struct ActivationRowMut<'a> {
    /// `[cols]`: codes.
    pub q: &'a mut [i8],
    /// `[cols / block_len]`: scales.
    pub d: &'a mut [f32],
    /// `[cols / 16]`: sum of each 16 codes.
    pub sums: &'a mut [i16],
    /// `[cols / 32]`: sum of each 32 codes.
    pub sums32: &'a mut [i16],
}

impl ActivationRows {
    /// `rows` rows of `cols` zeros, in blocks of 32 or 256.
    ///
    /// # Panics
    ///
    /// As [`reset`](Self::reset).
    pub fn new(rows: usize, cols: usize, block_len: usize) -> Self {
        let mut batch = Self::default();
        batch.reset(rows, cols, block_len);
        batch
    }

    /// Changes the shape, keeping the memory where it suffices. Contents are
    /// unspecified until written.
    ///
    /// # Panics
    ///
    /// If `block_len` is neither 32 nor 256, or `cols` is no positive multiple
    /// of it.
    pub fn reset(&mut self, rows: usize, cols: usize, block_len: usize) {
        assert!(matches!(block_len, 32 | 256), "activation blocks of {block_len}");
        assert!(cols > 0 && cols.is_multiple_of(block_len), "{cols} columns in {block_len}s");
        (self.rows, self.cols, self.block_len) = (rows, cols, block_len);
        self.q.resize(rows * cols + SLACK);
        self.d.resize(rows * (cols / block_len), 0.0);
        self.sums.resize(rows * (cols / 16) + SLACK / 16);
        self.sums32.resize(rows * (cols / 32) + SLACK / 32);
    }

    /// Rows in the batch.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Values per row.
    pub fn cols(&self) -> usize {
        self.cols
    }

    /// Values per scale: 32 or 256.
    pub fn block_len(&self) -> usize {
        self.block_len
    }

    /// Row `r`.
    ///
    /// # Panics
    ///
    /// If there are not that many.
    pub fn row(&self, r: usize) -> ActivationRow<'_> {
        let (scales, sums) = (self.cols / self.block_len, self.cols / 16);
        ActivationRow {
            q: &self.q[r * self.cols..][..self.cols],
            d: &self.d[r * scales..][..scales],
            sums: &self.sums[r * sums..][..sums],
            sums32: &self.sums32[r * sums / 2..][..sums / 2],
        }
    }

    /// Codes, sums of 16 and sums of 32 from row `r` on, at least `SLACK` codes
    /// more than the row has. `None` if there are not that many rows.
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn row_and_beyond(&self, r: usize) -> Option<(&[i8], &[i16], &[i16])> {
        let cols = self.cols;
        let (q, sums) = (self.q.get(r * cols..)?, self.sums.get(r * (cols / 16)..)?);
        Some((q, sums, self.sums32.get(r * (cols / 32)..)?))
    }

    /// The rows to be filled, in order; they are independent, so threads may
    /// share them out.
    pub fn rows_mut(&mut self) -> impl ExactSizeIterator<Item = ActivationRowMut<'_>> {
        // A batch that was never `reset` has no rows, and chunks need a length.
        let cols = self.cols.max(1);
        let q = self.q.chunks_exact_mut(cols).take(self.rows);
        let d = self.d.chunks_exact_mut((cols / self.block_len.max(1)).max(1));
        let sums = self.sums.chunks_exact_mut((cols / 16).max(1));
        let sums32 = self.sums32.chunks_exact_mut((cols / 32).max(1));
        q.zip(d).zip(sums.zip(sums32)).map(|((q, d), (sums, sums32))| ActivationRowMut {
            q,
            d,
            sums,
            sums32,
        })
    }
}

impl ActivationRow<'_> {
    /// Values per scale: 32 or 256.
    pub fn block_len(&self) -> usize {
        self.q.len() / self.d.len()
    }
}

impl ActivationRowMut<'_> {
    /// Quantizes `x` into the row, block by block with [`quantize_block`].
    ///
    /// # Panics
    ///
    /// If `x` has not as many values as the row.
    pub fn quantize(&mut self, x: &[f32]) {
        assert_eq!(x.len(), self.q.len(), "values for the activation row");
        let len = self.q.len() / self.d.len();
        let blocks = x.chunks_exact(len).zip(self.q.chunks_exact_mut(len));
        let blocks = blocks.zip(self.sums.chunks_exact_mut(len / 16));
        for (((x, q), sums), d) in blocks.zip(self.d.iter_mut()) {
            *d = quantize_block(x, q, sums);
        }
        for (sum, [a, b]) in self.sums32.iter_mut().zip(self.sums.as_chunks().0) {
            *sum = a + b;
        }
    }
}

/// Quantizes one block of 32 or 256 values: writes its codes and the sum of each
/// 16 of them, and returns its scale. The reference for vectorized versions,
/// which must give the same bits; the rules are in the module's documentation.
///
/// # Panics
///
/// If `x` has neither 32 nor 256 values, or the outputs do not fit it.
pub fn quantize_block(x: &[f32], q: &mut [i8], sums: &mut [i16]) -> f32 {
    assert!(matches!(x.len(), 32 | 256), "activation block of {}", x.len());
    assert_eq!((q.len(), sums.len()), (x.len(), x.len() / 16), "outputs of the block");
    let largest = largest_magnitude(x);
    let (inverse, d) = if x.len() == 256 {
        let inverse = -127.0 / largest;
        (inverse, 1.0 / inverse)
    } else {
        let d = largest.abs() / 127.0;
        (1.0 / d, d)
    };
    if inverse.is_infinite() {
        q.fill(0);
        sums.fill(0);
        return 0.0;
    }
    for (q, x) in q.iter_mut().zip(x) {
        // The product may exceed 127 by rounding, never by a half. NaN casts to 0.
        *q = (inverse * x).round_ties_even().clamp(-127.0, 127.0) as i8;
    }
    for (sum, q) in sums.iter_mut().zip(q.as_chunks::<16>().0) {
        *sum = q.iter().map(|&q| i16::from(q)).sum();
    }
    d
}

/// The first of the values with the largest magnitude. Magnitudes are compared
/// as bit patterns: the same order for numbers, and NaN above infinity.
fn largest_magnitude(x: &[f32]) -> f32 {
    let magnitude = |x: f32| x.to_bits() & 0x7fff_ffff;
    x.iter().fold(0.0, |best, &x| if magnitude(x) > magnitude(best) { x } else { best })
}
