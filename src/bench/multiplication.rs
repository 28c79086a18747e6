//! A matrix product, to be measured.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::kernel::matmul::{Group, Input, Product, multiply_quantized};
use crate::kernel::matrix::Matrix;
use crate::kernel::pool::Pool;
use crate::quant::Format;
use crate::simd::Isa;
use crate::tensor::{Storage, Tensor, TensorRecord};

/// A matrix and its inputs, to be multiplied again and again.
#[derive(Debug)]
pub struct Multiplication {
    pool: Pool,
    isa: Isa,
    weight: Matrix,
    input: Input,
    /// `[batch, rows]`
    out: Vec<f32>,
}

impl Multiplication {
    /// `weights` = rows of `cols` weights stored as `format`, taken over
    /// without a copy; `inputs` = `[batch, cols]`.
    ///
    /// # Errors
    /// [`Error::Misuse`] for lengths that do not fit, or no threads.
    pub fn new(
        format: Format,
        isa: Isa,
        threads: usize,
        cols: usize,
        weights: Arc<[u8]>,
        inputs: &[f32],
    ) -> Result<Self> {
        let len = weights.len();
        let rows = match format.row_bytes(cols) {
            Some(row) if row > 0 && len.is_multiple_of(row) => len / row,
            _ => return Err(Error::misuse(format!("{len} bytes are no rows of {cols} {format}"))),
        };
        if !inputs.len().is_multiple_of(cols) {
            return Err(Error::misuse(format!("{} inputs of {cols}", inputs.len())));
        }
        let dims = [cols as u64, rows as u64, 1, 1];
        let record = TensorRecord { name: "bench".into(), dims, n_dims: 2, format, start: 0, len };
        let weight = Matrix::from(Tensor::new(record, Arc::new(Storage::Shared(weights))));
        let (pool, batch) = (Pool::new(threads)?, inputs.len() / cols);
        let mut input = Input::default();
        input.reset(batch, cols);
        input.values.copy_from_slice(inputs);
        pool.region(|team| input.quantize(team, isa, std::iter::once(format)));
        Ok(Multiplication { pool, isa, weight, input, out: vec![0.0; batch * rows] })
    }

    /// Multiplies once; the inputs were quantized before.
    pub fn run(&mut self) -> &[f32] {
        let Multiplication { pool, isa, weight, input, out } = self;
        let products = &mut [Product::Store(weight, out)];
        pool.region(|team| multiply_quantized(team, *isa, &mut [Group { input, products }]));
        out
    }
}
