//! AVX2, and AVX-VNNI, which differs in the products of a panel.
//!
//! ```text
//! format: decode/ (what a format supplies)
//! a few rows of activations:  in_place.rs, on the weights where they lie
//! more:                       panel.rs unpacks a row panel once, tile.rs multiplies
//! ```

mod decode;
mod in_place;
mod lanes;
mod panel;
mod products;
mod tile;

use super::row_panel::{Packed, QuantMatmul, RowPanel, Scratch};
use crate::kernel::pool::Team;
use crate::quant::{ActivationRows, Format, with_kernel_format};
use crate::simd::avx2::Avx2;
use decode::Decode;
use products::Products;

/// What a thread keeps from panel to panel.
#[derive(Debug, Default)]
struct Memory {
    values: in_place::Values,
    panel: panel::Panel,
}

impl QuantMatmul for Avx2 {
    /// Rows are multiplied as they are.
    fn pack(&self, _: &Team<'_>, _: &mut Packed, _: &[Format]) {}

    fn multiply(
        &self,
        weights: &RowPanel<'_>,
        packed: &Packed,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let (rows, memory) = (packed.rows(), scratch.of());
        with_kernel_format!(
            weights.format,
            F => weights.each(rows.rows(), out, |weights, out| {
                multiply::<F>(*self, weights, rows, memory, out);
            }),
            else => debug_assert!(false, "{} has no blocks", weights.format)
        )
    }
}

/// The products of one panel.
fn multiply<F: Decode>(
    simd: Avx2,
    weights: &RowPanel<'_>,
    rows: &ActivationRows,
    memory: &mut Memory,
    out: &mut [f32],
) {
    debug_assert!(out.len() >= rows.rows() * RowPanel::ROWS);
    let Memory { values, panel } = memory;
    let products = Products::plain(simd);
    if rows.rows() <= in_place::MAX_BATCH {
        in_place::multiply::<F>(products, weights, rows, values, out);
        return;
    }
    panel::fill::<F>(products, weights, simd.has_vnni(), panel);
    match Products::vnni(simd) {
        Some(products) => tile::vnni(products, rows, panel, out),
        None => tile::plain(products, rows, panel, out),
    }
}
