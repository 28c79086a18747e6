//! Many rows of activations, sixteen rows side by side: the order in which the tile
//! multiplier of AMX reads them.
//!
//! What a tile needs of 256 columns lies in one piece; m is the row:
//! ```text
//! codes   [4 chunks][16 fours][16 m]  4 bytes   columns 64c + 4i ..
//!         activations in blocks of 256
//! sums32  [8][16 m]   2 bf16                    the sum of columns 32i .. in two parts
//! sums16  [16][16 m]  2 bf16                    of columns 16i ..
//! d       [16 m]      f32
//!         in blocks of 32
//! sums    [8][16 m]   f32                       the sum of columns 32i ..
//! d       [8][16 m]   f32
//! ```
//! A part has at most seven bits, so bf16 holds it exactly ([`halves`]). A tile that is
//! loaded from `sums32` has half of `sums16` in it; the weights are 0 there, and whatever
//! stands in these places is finite, since only [`halves`] writes them.
//!
//! They are ordered `[256 columns][tile]`: while these columns of a row panel stay in
//! the nearest cache, all rows pass by in one stream.

use crate::kernel::pool::Team;
use crate::quant::{ActivationRow, ActivationRows};

/// Columns of a [`Sixteen`].
pub(crate) const COLS: usize = 256;

/// Rows of a tile.
pub(crate) const ROWS: usize = 16;

/// [`COLS`] columns of up to [`ROWS`] rows; what the places of other rows, and of columns
/// behind the last, hold does not matter.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Sixteen<S> {
    pub codes: [[[[i8; 4]; ROWS]; 16]; 4],
    pub scales: S,
}

/// What goes with the codes of [`COLS`] columns.
pub(crate) trait SixteenScales:
    std::fmt::Debug + Copy + Default + Send + Sync + 'static
{
    /// Sets those of row `m`: of the columns `COLS · at ..` of `row`.
    fn set(&mut self, m: usize, row: ActivationRow<'_>, at: usize);
}

/// Of activations in blocks of 256.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Of256 {
    pub sums32: [[[u16; 2]; ROWS]; 8],
    pub sums16: [[[u16; 2]; ROWS]; 16],
    pub d: [f32; ROWS],
}

impl SixteenScales for Of256 {
    #[inline(always)]
    fn set(&mut self, m: usize, row: ActivationRow<'_>, at: usize) {
        let sums32 = &row.sums32.as_chunks::<8>().0[at];
        for (place, sum) in self.sums32.iter_mut().zip(sums32) {
            place[m] = halves(*sum);
        }
        let sums16 = &row.sums.as_chunks::<16>().0[at];
        for (place, sum) in self.sums16.iter_mut().zip(sums16) {
            place[m] = halves(*sum);
        }
        self.d[m] = row.d[at];
    }
}

/// Of activations in blocks of 32.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Of32 {
    pub sums: [[f32; ROWS]; 8],
    pub d: [[f32; ROWS]; 8],
}

impl SixteenScales for Of32 {
    #[inline(always)]
    fn set(&mut self, m: usize, row: ActivationRow<'_>, at: usize) {
        for (place, &sum) in self.sums.iter_mut().zip(&row.sums32[8 * at..]) {
            place[m] = f32::from(sum);
        }
        for (place, &d) in self.d.iter_mut().zip(&row.d[8 * at..]) {
            place[m] = d;
        }
    }
}

/// A batch of rows in blocks of one kind.
#[derive(Debug, Default)]
pub(crate) struct Sixteens<S> {
    /// `[COLS columns][tile]`
    all: Vec<Sixteen<S>>,
}

impl<S: SixteenScales> Sixteens<S> {
    /// All of `activations`.
    pub fn fill(&mut self, team: &Team<'_>, activations: &ActivationRows) {
        let tiles = activations.rows().div_ceil(ROWS);
        self.all.resize(tiles * activations.cols().div_ceil(COLS), Sixteen::default());
        let mut columns: Vec<_> = self.all.chunks_mut(tiles.max(1)).collect();
        team.for_each(&mut columns, |at, tiles| fill_columns(activations, at, tiles));
    }

    /// `[COLS columns][tile]`
    pub fn columns(&self) -> &[Sixteen<S>] {
        &self.all
    }
}

/// The bits of two bf16 whose sum is `sum`, the sum of up to 32 codes: a multiple of 64
/// from −64 · 64 to 63 · 64, and a number below 64.
#[inline(always)]
fn halves(sum: i16) -> [u16; 2] {
    let bf16 = |x: i16| (f32::from(x).to_bits() >> 16) as u16;
    [bf16(sum & !63), bf16(sum & 63)]
}

/// Writes the columns `COLS · at ..` of all rows of `activations` to `tiles`.
fn fill_columns<S: SixteenScales>(
    activations: &ActivationRows,
    at: usize,
    tiles: &mut [Sixteen<S>],
) {
    for (i, tile) in tiles.iter_mut().enumerate() {
        for m in 0..ROWS.min(activations.rows().saturating_sub(i * ROWS)) {
            let row = activations.row(i * ROWS + m);
            let fours = row.q[COLS * at..].as_chunks::<4>().0;
            for (place, four) in tile.codes.as_flattened_mut().iter_mut().zip(fours) {
                place[m] = *four;
            }
            tile.scales.set(m, row, at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::pool::Pool;

    #[test]
    fn halves_of_every_sum_add_up_to_it() {
        for sum in -32 * 127..=32 * 127 {
            let value = |bits: u16| f32::from_bits(u32::from(bits) << 16);
            let [high, low] = halves(sum).map(value);
            assert_eq!(high + low, f32::from(sum));
        }
    }

    fn rows(cols: usize, block_len: usize) -> ActivationRows {
        let mut activations = ActivationRows::new(21, cols, block_len);
        for (m, mut row) in activations.rows_mut().enumerate() {
            let value = |k: usize| ((k * k * (m + 3)) as f32 * 0.37).sin();
            row.quantize(&(0..cols).map(value).collect::<Vec<_>>());
        }
        activations
    }

    /// The place of column `k` of row `r`, after its codes were compared.
    fn places<S: SixteenScales>(
        activations: &ActivationRows,
        mut check: impl FnMut(ActivationRow<'_>, usize, &S, usize),
    ) {
        let mut sixteens = Sixteens::<S>::default();
        Pool::new(2).unwrap().region(|team| sixteens.fill(team, activations));
        let tiles = activations.rows().div_ceil(ROWS);
        let all = sixteens.columns();
        assert_eq!(all.len(), tiles * activations.cols().div_ceil(COLS));
        for r in 0..activations.rows() {
            let (row, m) = (activations.row(r), r % ROWS);
            for k in 0..activations.cols() {
                let tile = &all[k / COLS * tiles + r / ROWS];
                let at = k % COLS;
                assert_eq!(tile.codes[at / 64][at / 4 % 16][m][at % 4], row.q[k]);
                check(row, k, &tile.scales, m);
            }
        }
    }

    #[test]
    fn every_number_has_its_place() {
        places(&rows(512, 256), |row, k, tile: &Of256, m| {
            let at = k % COLS;
            assert_eq!(tile.sums16[at / 16][m], halves(row.sums[k / 16]));
            assert_eq!(tile.sums32[at / 32][m], halves(row.sums32[k / 32]));
            assert_eq!(tile.d[m].to_bits(), row.d[k / 256].to_bits());
        });
        // Not whole 256 columns.
        places(&rows(352, 32), |row, k, tile: &Of32, m| {
            let at = k % COLS;
            assert_eq!(tile.sums[at / 32][m], f32::from(row.sums32[k / 32]));
            assert_eq!(tile.d[at / 32][m].to_bits(), row.d[k / 32].to_bits());
        });
    }
}
