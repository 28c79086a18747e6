//! Many rows of activations in blocks of 256, sixteen rows side by side: the order in
//! which the tile multiplier of AMX reads them.
//!
//! What a tile needs of a block lies in one piece; m is the row:
//! ```text
//! codes   [4 chunks][16 fours][16 m]  4 bytes   columns 64c + 4i ..
//! sums32  [8][16 m]   2 bf16                    the sum of columns 32i .. in two parts
//! sums16  [16][16 m]  2 bf16                    of columns 16i ..
//! d       [16 m]      f32
//! ```
//! A part has at most seven bits, so bf16 holds it exactly ([`halves`]). A tile that is
//! loaded from `sums32` has half of `sums16` in it; the weights are 0 there, and whatever
//! stands in these places is finite, since only [`halves`] writes them.
//!
//! Blocks are ordered `[block][tile]`: while a block of a strip of weights stays in the
//! nearest cache, all rows pass by in one stream.

use super::{Simd, Task};
use crate::quant::ActivationRows;

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;

/// With fewer rows the vector instructions are as fast: unpacking takes longer than
/// multiplying.
#[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AMX asks for it"))]
pub(crate) const FEWEST: usize = 48;

/// Strips of weights that pass by a block of activations together: 512 rows of a block are
/// 180 KiB, and the sums of the strips 64 KiB each. All blocks of 512 rows do not fit the L2
/// cache, and without company each strip would read them from the L3 cache: 2.5 times the
/// time of its multiplications.
pub(crate) const STRIPS: usize = 8;

/// A block of up to [`ROWS`] rows; what the places of other rows hold does not matter.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Sixteen {
    pub codes: [[[[i8; 4]; ROWS]; 16]; 4],
    pub sums32: [[[u16; 2]; ROWS]; 8],
    pub sums16: [[[u16; 2]; ROWS]; 16],
    pub d: [f32; ROWS],
}

/// A batch of rows.
#[derive(Debug, Default)]
pub(crate) struct Sixteens {
    /// Which activations these are: [`ActivationRows::version`].
    version: u64,
    blocks: Vec<Sixteen>,
}

impl Sixteens {
    /// Takes the shape of `activations`, which have blocks of 256, and returns the places
    /// of every block of columns. The caller then [fills](Fill) them: threads may share
    /// them out.
    pub fn blocks_mut(
        &mut self,
        activations: &ActivationRows,
    ) -> impl Iterator<Item = &mut [Sixteen]> + use<'_> {
        let tiles = activations.rows().div_ceil(ROWS);
        self.version = activations.version();
        self.blocks.resize(tiles * (activations.cols() / 256), Sixteen::default());
        self.blocks.chunks_mut(tiles.max(1))
    }

    /// The blocks.
    ///
    /// # Panics
    /// If they were not made of these `activations`, which would be our bug.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AMX reads them"))]
    pub fn of(&self, activations: &ActivationRows) -> &[Sixteen] {
        assert_eq!(self.version, activations.version(), "sixteens of other activations");
        &self.blocks
    }
}

/// The bits of two bf16 whose sum is `sum`, the sum of up to 32 codes: a multiple of 64
/// from −64 · 64 to 63 · 64, and a number below 64.
#[inline(always)]
fn halves(sum: i16) -> [u16; 2] {
    let bf16 = |x: i16| (f32::from(x).to_bits() >> 16) as u16;
    [bf16(sum & !63), bf16(sum & 63)]
}

/// Writes block number `block` of all rows of `activations` to `tiles`.
pub(crate) struct Fill<'a> {
    pub activations: &'a ActivationRows,
    pub block: usize,
    pub tiles: &'a mut [Sixteen],
}

impl Task for Fill<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        let Fill { activations, block, tiles } = self;
        for (i, tile) in tiles.iter_mut().enumerate() {
            for m in 0..ROWS.min(activations.rows().saturating_sub(i * ROWS)) {
                let row = activations.row(i * ROWS + m);
                let codes = &row.q.as_chunks::<256>().0[block];
                let fours = codes.as_chunks::<4>().0;
                for (place, four) in tile.codes.as_flattened_mut().iter_mut().zip(fours) {
                    place[m] = *four;
                }
                let sums32 = &row.sums32.as_chunks::<8>().0[block];
                for (place, sum) in tile.sums32.iter_mut().zip(sums32) {
                    place[m] = halves(*sum);
                }
                let sums16 = &row.sums.as_chunks::<16>().0[block];
                for (place, sum) in tile.sums16.iter_mut().zip(sums16) {
                    place[m] = halves(*sum);
                }
                tile.d[m] = row.d[block];
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    #[test]
    fn halves_of_every_sum_add_up_to_it() {
        for sum in -32 * 127..=32 * 127 {
            let value = |bits: u16| f32::from_bits(u32::from(bits) << 16);
            let [high, low] = halves(sum).map(value);
            assert_eq!(high + low, f32::from(sum));
        }
    }

    #[test]
    fn every_number_has_its_place() {
        let (rows, cols) = (21, 512);
        let mut activations = ActivationRows::new(rows, cols, 256);
        for (m, mut row) in activations.rows_mut().enumerate() {
            let value = |k: usize| ((k * k * (m + 3)) as f32 * 0.37).sin();
            row.quantize(&(0..cols).map(value).collect::<Vec<_>>());
        }
        let mut sixteens = Sixteens::default();
        for (block, tiles) in sixteens.blocks_mut(&activations).enumerate() {
            Isa::detect().run(Fill { activations: &activations, block, tiles });
        }
        let tiles = rows.div_ceil(ROWS);
        let blocks = sixteens.of(&activations);
        assert_eq!(blocks.len(), tiles * 2);
        for r in 0..rows {
            let (row, m) = (activations.row(r), r % ROWS);
            for k in 0..cols {
                let tile = &blocks[k / 256 * tiles + r / ROWS];
                let at = k % 256;
                assert_eq!(tile.codes[at / 64][at / 4 % 16][m][at % 4], row.q[k]);
                assert_eq!(tile.sums16[at / 16][m], halves(row.sums[k / 16]));
                assert_eq!(tile.sums32[at / 32][m], halves(row.sums32[k / 32]));
                assert_eq!(tile.d[m].to_bits(), row.d[k / 256].to_bits());
            }
        }
    }
}
