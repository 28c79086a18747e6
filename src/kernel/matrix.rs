//! A weight matrix as products take it: some rows of a tensor, a scale and a bias.

use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::quant::Format;
use crate::tensor::Tensor;

/// A matrix `[rows, cols]` that lies in a tensor, and its scale and its bias `[rows]`, if it
/// has them: the product is `scale · W · x + bias`.
///
/// Tensors that hold several matrices one after the other (queries, keys and values;
/// gate and up; the experts of a layer) are several of these: nothing is copied.
pub(crate) struct Matrix {
    tensor: Tensor,
    /// The rows of the tensor that are the matrix.
    rows: Range<usize>,
    scale: Option<f32>,
    bias: Option<Vec<f32>>,
    /// Whether it was multiplied before.
    used: AtomicBool,
}

impl From<Tensor> for Matrix {
    /// All rows of `tensor`, without a bias.
    fn from(tensor: Tensor) -> Self {
        let rows = 0..tensor.rows();
        Matrix { tensor, rows, scale: None, bias: None, used: AtomicBool::new(false) }
    }
}

impl Matrix {
    /// The rows `rows` of `tensor`. The loader has checked sizes; a mismatch is a bug here.
    pub fn new(tensor: Tensor, rows: Range<usize>, bias: Option<Vec<f32>>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= tensor.rows(), "rows of {}", tensor.name());
        assert!(bias.as_ref().is_none_or(|bias| bias.len() == rows.len()), "bias");
        Matrix { tensor, rows, scale: None, bias, used: AtomicBool::new(false) }
    }

    /// The same matrix, whose products are multiplied by `scale`.
    pub fn with_scale(self, scale: Option<f32>) -> Self {
        Matrix { scale, ..self }
    }

    /// The tensor's name.
    pub fn name(&self) -> &str {
        self.tensor.name()
    }

    pub fn format(&self) -> Format {
        self.tensor.format()
    }

    /// Number of rows: the width of the output.
    pub fn rows(&self) -> usize {
        self.rows.len()
    }

    /// Values per row: the width of the input.
    pub fn cols(&self) -> usize {
        self.tensor.cols()
    }

    pub fn scale(&self) -> Option<f32> {
        self.scale
    }

    /// `[rows]`
    pub fn bias(&self) -> Option<&[f32]> {
        self.bias.as_deref()
    }

    /// Bytes of the rows `rows`; empty if there are no such rows.
    pub fn rows_bytes(&self, rows: Range<usize>) -> &[u8] {
        if rows.end > self.rows() {
            return &[];
        }
        self.tensor.rows_bytes(self.in_tensor(rows))
    }

    /// Whether this is the first use: its pages may have to be [mapped](Matrix::populate).
    pub fn first_use(&self) -> bool {
        // Seldom written: all threads read the line.
        !self.used.load(Ordering::Relaxed) && !self.used.swap(true, Ordering::Relaxed)
    }

    /// Maps the pages of the rows `rows` into the process.
    pub fn populate(&self, rows: Range<usize>) {
        self.tensor.populate(self.in_tensor(rows));
    }

    fn in_tensor(&self, rows: Range<usize>) -> Range<usize> {
        self.rows.start + rows.start..self.rows.start + rows.end
    }
}

/// What it is, without its numbers.
impl std::fmt::Debug for Matrix {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let bias = if self.bias.is_some() { " + bias" } else { "" };
        write!(f, "{}[{:?}]{bias}", self.name(), self.rows)
    }
}
