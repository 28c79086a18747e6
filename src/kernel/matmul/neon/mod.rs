//! NEON: few rows of activations in place, more with a panel.

mod in_place;
mod panel;

use super::row_panel::{Packed, QuantMatmul, RowPanel, Scratch};
use crate::kernel::pool::Team;
use crate::quant::Format;
use crate::simd::neon::{Bytes, Neon};

/// Batches from here on are worth rearranging the weights for.
const PANEL_BATCH: usize = 4;

impl<B: Bytes> QuantMatmul for Neon<B> {
    /// Rows are multiplied as they are.
    fn pack(&self, _: &Team<'_>, _: &mut Packed, _: &[Format]) {}

    fn multiply(&self, weights: &RowPanel<'_>, packed: &Packed, _: &mut Scratch, out: &mut [f32]) {
        let rows = packed.rows();
        weights.each(rows.rows(), out, |weights, out| {
            if rows.rows() < PANEL_BATCH {
                in_place::multiply(*self, weights, rows, out);
            } else {
                panel::multiply(*self, weights, rows, out);
            }
        });
    }
}
