//! Many rows of activations in blocks of 256, six rows side by side: the order in
//! which the AVX-512 tile of super-blocks reads them.
//!
//! What a tile needs of a block lies in one piece; m is the row:
//! ```text
//! codes   [64 groups][6 m]  4 bytes
//! sums16  [8 pairs][6 m]    pairs of i16
//! sums32  [4 pairs][6 m]    pairs of i16
//! d       [6 m]             f32
//! ```
//! Blocks are ordered `[step][tile][block of the step]`, a step being [`STEP`] columns:
//! while a step of the weights stays in the nearest cache, all rows pass by in one stream.

use std::ops::Range;

use crate::quant::ActivationRows;

/// Rows of a tile.
pub(crate) const ROWS: usize = 6;

/// Columns of a step: of 32 weight rows they fill 18 KiB.
pub(crate) const STEP: usize = 512;

/// Blocks of a step.
const BLOCKS: usize = STEP / 256;

/// A block of up to [`ROWS`] rows; what the places of other rows hold does not matter.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(crate) struct Six {
    pub codes: [[[i8; 4]; ROWS]; 64],
    pub sums16: [[[i16; 2]; ROWS]; 8],
    pub sums32: [[[i16; 2]; ROWS]; 4],
    pub d: [f32; ROWS],
}

impl Six {
    const EMPTY: Six = Six {
        codes: [[[0; 4]; ROWS]; 64],
        sums16: [[[0; 2]; ROWS]; 8],
        sums32: [[[0; 2]; ROWS]; 4],
        d: [0.0; ROWS],
    };
}

/// A batch of rows.
#[derive(Debug, Default)]
pub(crate) struct Sixes {
    /// Which activations these are: [`ActivationRows::version`].
    version: u64,
    blocks: Vec<Six>,
}

/// The rows of tile `i` of `batch` rows: all tiles are of about one size.
pub(crate) fn rows_of_tile(batch: usize, i: usize) -> Range<usize> {
    let tiles = batch.div_ceil(ROWS);
    batch * i / tiles..batch * (i + 1) / tiles
}

impl Sixes {
    /// Takes the shape of `activations`, which have blocks of 256. The caller then
    /// [fills](Sixes::fill) every step: threads may share them out.
    pub fn steps_mut(
        &mut self,
        activations: &ActivationRows,
    ) -> impl Iterator<Item = &mut [Six]> + use<'_> {
        let tiles = activations.rows().div_ceil(ROWS);
        self.version = activations.version();
        self.blocks.resize(tiles * (activations.cols() / 256), Six::EMPTY);
        self.blocks.chunks_mut((tiles * BLOCKS).max(1))
    }

    /// Writes step number `step` of `activations`.
    pub fn fill(activations: &ActivationRows, step: usize, blocks: &mut [Six]) {
        let batch = activations.rows();
        let tiles = batch.div_ceil(ROWS).max(1);
        let of_tile = (blocks.len() / tiles).max(1);
        for (i, tile) in blocks.chunks_exact_mut(of_tile).enumerate() {
            for (m, r) in rows_of_tile(batch, i).enumerate() {
                let row = activations.row(r);
                let first = step * BLOCKS;
                let codes = row.q.as_chunks::<4>().0.as_chunks::<64>().0[first..].iter();
                let sums16 = row.sums.as_chunks::<2>().0.as_chunks::<8>().0[first..].iter();
                let sums32 = row.sums32.as_chunks::<2>().0.as_chunks::<4>().0[first..].iter();
                let sums = sums16.zip(sums32).zip(&row.d[first..]);
                for ((six, codes), ((sums16, sums32), d)) in tile.iter_mut().zip(codes).zip(sums) {
                    six.codes.iter_mut().zip(codes).for_each(|(to, from)| to[m] = *from);
                    six.sums16.iter_mut().zip(sums16).for_each(|(to, from)| to[m] = *from);
                    six.sums32.iter_mut().zip(sums32).for_each(|(to, from)| to[m] = *from);
                    six.d[m] = *d;
                }
            }
        }
    }

    /// The blocks.
    ///
    /// # Panics
    /// If they were not made of these `activations`, which would be our bug.
    #[cfg_attr(not(target_arch = "x86_64"), allow(dead_code, reason = "AVX-512 reads them"))]
    pub fn of(&self, activations: &ActivationRows) -> &[Six] {
        assert_eq!(self.version, activations.version(), "sixes of other activations");
        &self.blocks
    }
}
