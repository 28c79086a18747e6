//! The input rows of products, in each form that weights need.

use super::float::FloatRows;
use super::row_panel::Packed;
use super::tiers;
use crate::kernel::pool::Team;
use crate::quant::Format;
use crate::simd::Isa;

/// From this many input rows on float weights are unpacked into a panel.
/// With fewer the weights' way to memory and back costs more than it saves (8 rows of
/// F16: 70 tok/s instead of 83).
const TILED: usize = 16;

/// The input rows of one or more matrix products, in each form that the
/// matrices' formats need; every form is computed once.
#[derive(Debug, Default)]
pub(crate) struct Input {
    pub(super) rows: usize,
    pub(super) cols: usize,
    /// `[rows, cols]`
    pub values: Vec<f32>,
    /// Whether quantized weights are multiplied also by what rounding to 8 bits takes from
    /// the values: twice the work, for values that count with 16 bits. Each row is two rows
    /// of a product then, and the product of a row is the sum of both.
    pub twice: bool,
    /// For formats with blocks of 32.
    packed_32: Packed,
    /// For formats with super-blocks of 256.
    packed_256: Packed,
    /// For float formats, where a panel pays.
    tiles: FloatRows,
}

impl Input {
    /// Makes room for `rows` rows; their [`values`](Input::values) are
    /// unspecified until written.
    pub fn reset(&mut self, rows: usize, cols: usize) {
        (self.rows, self.cols) = (rows, cols);
        self.values.resize(rows * cols, 0.0);
    }

    /// Takes over `values` = `[rows, cols]` and leaves the old ones in their place.
    pub fn replace(&mut self, values: &mut Vec<f32>, cols: usize) {
        std::mem::swap(&mut self.values, values);
        (self.rows, self.cols) = (self.values.len() / cols, cols);
    }

    /// Quantizes and packs the values for products with weights of `formats`; many rows for
    /// float weights are laid out in tiles.
    pub fn quantize(&mut self, team: &Team<'_>, isa: Isa, formats: impl Iterator<Item = Format>) {
        let formats: Vec<Format> = formats.collect();
        let with_blocks_of = |len: Option<usize>| -> Vec<Format> {
            let formats = formats.iter().copied();
            formats.filter(|format| format.activation_block_len() == len).collect()
        };
        if self.rows >= TILED && !with_blocks_of(None).is_empty() {
            self.tiles.set(team, &self.values, self.cols);
        }
        let tier = (isa, tiers::of(&isa));
        let values = (&self.values[..], self.cols);
        for (len, packed) in [(32, &mut self.packed_32), (256, &mut self.packed_256)] {
            let formats = with_blocks_of(Some(len));
            if !formats.is_empty() {
                packed.pack(team, tier, values, len, &formats, self.twice);
            }
        }
    }

    /// The packed rows for weights of `format`; none for float formats.
    pub(super) fn packed(&self, format: Format) -> Option<&Packed> {
        match format.activation_block_len()? {
            32 => Some(&self.packed_32),
            _ => Some(&self.packed_256),
        }
    }

    /// Rows of a product with weights of `format`.
    pub(super) fn product_rows(&self, format: Format) -> usize {
        match format.activation_block_len() {
            Some(_) if self.twice => 2 * self.rows,
            _ => self.rows,
        }
    }

    /// The values in tiles, if there are enough rows for a panel of float weights.
    pub(super) fn float_tiles(&self) -> Option<&FloatRows> {
        (self.rows >= TILED).then_some(&self.tiles)
    }
}
