//! Any CPU: a block is unpacked once and multiplied with every row of activations.

mod in_place;

use super::row_panel::{Packed, QuantMatmul, RowPanel, Scratch};
use crate::kernel::pool::Team;
use crate::quant::{Format, with_kernel_format};
use crate::simd::Portable;

impl QuantMatmul for Portable {
    /// Rows are multiplied as they are.
    fn pack(&self, _: &Team<'_>, _: &mut Packed, _: &[Format]) {}

    fn multiply(
        &self,
        weights: &RowPanel<'_>,
        packed: &Packed,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let (rows, sums) = (packed.rows(), scratch.of());
        with_kernel_format!(
            weights.format,
            F => weights.each(rows.rows(), out, |weights, out| {
                in_place::multiply::<F>(weights, rows, sums, out);
            }),
            else => debug_assert!(false, "{} has no blocks", weights.format)
        )
    }
}
