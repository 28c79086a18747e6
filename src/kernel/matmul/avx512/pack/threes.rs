//! Many rows of activations in blocks of 256, three rows side by side: the order in
//! which the AVX-512 tile of super-blocks reads them.
//!
//! What a tile needs of a block lies in one piece; m is the row:
//! ```text
//! codes   [32 groups][3 m][2]  4 bytes     columns 64c + 4g .. and 64c + 32 + 4g ..
//! starts  [8 pairs][3 m][2]    i32         − sum of 16
//! sums16  [8 pairs][3 m][2]    i16
//! sums32  [4 pairs][3 m][2]    i16
//! d       [3 m]                f32
//! ```
//! Group 8c + g holds two fours of columns that are 32 apart, so they belong to two
//! sub-blocks, of 16 or of 32 columns. Pairs of sums go the same way: of 32 columns 2c
//! and 2c + 1; of 16 columns 4c and 4c + 2, then 4c + 1 and 4c + 3.
//!
//! Blocks are ordered `[step][tile][block of the step]`, a step being [`STEP`] columns:
//! while a step of the weights stays in the nearest cache, all rows pass by in one stream.

use std::arch::x86_64::*;
use std::ops::Range;

use crate::kernel::pool::Team;
use crate::quant::ActivationRows;
use crate::simd::avx512::Avx512;

/// Rows of a tile.
pub(crate) const ROWS: usize = 3;

/// Columns of a step: of 32 weight rows they fill 18 KiB.
pub(crate) const STEP: usize = 512;

/// Blocks of a step.
const BLOCKS: usize = STEP / 256;

/// A block of up to [`ROWS`] rows; what the places of other rows hold does not matter.
#[derive(Debug, Clone, Copy, Default)]
#[repr(C, align(64))]
pub(crate) struct Three {
    pub codes: [[[[i8; 4]; 2]; ROWS]; 32],
    pub starts: [[[i32; 2]; ROWS]; 8],
    pub sums16: [[[i16; 2]; ROWS]; 8],
    pub sums32: [[[i16; 2]; ROWS]; 4],
    pub d: [f32; ROWS],
    /// The largest sum of magnitudes of 16 codes: with weights of magnitude w no sum
    /// of their products is further from 0 than w times this.
    pub spread16: u16,
    /// The largest sum of the positive or of the negative ones of 32 codes: with
    /// weights 0 to w no sum of their products is further from 0 than w times this.
    pub side32: u16,
}

/// A batch of rows.
#[derive(Debug, Default)]
pub(crate) struct Threes {
    blocks: Vec<Three>,
}

/// The rows of tile `i` of `batch` rows: three; two in the last or the last two, since a
/// tile of one row takes as long as one of two.
#[inline(always)]
pub(crate) fn rows_of_tile(batch: usize, i: usize) -> Range<usize> {
    let tiles = batch.div_ceil(ROWS);
    let full = (tiles + batch).saturating_sub(ROWS * tiles);
    let start = |i: usize| (ROWS * i).saturating_sub(i.saturating_sub(full));
    start(i).min(batch)..start(i + 1).min(batch)
}

impl Threes {
    /// All of `activations`, which have blocks of 256.
    pub fn fill(&mut self, team: &Team<'_>, simd: Avx512, activations: &ActivationRows) {
        let tiles = activations.rows().div_ceil(ROWS);
        self.blocks.resize(tiles * (activations.cols() / 256), Three::default());
        let mut steps: Vec<_> = self.blocks.chunks_mut((tiles * BLOCKS).max(1)).collect();
        team.for_each(&mut steps, |step, blocks| fill_step(simd, activations, step, blocks));
    }

    /// The blocks.
    pub fn blocks(&self) -> &[Three] {
        &self.blocks
    }
}

/// Writes step number `step` of `activations` to `blocks`.
fn fill_step(simd: Avx512, activations: &ActivationRows, step: usize, blocks: &mut [Three]) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
    #[inline(never)]
    fn region(simd: Avx512, activations: &ActivationRows, step: usize, blocks: &mut [Three]) {
        let batch = activations.rows();
        let tiles = batch.div_ceil(ROWS).max(1);
        let of_tile = (blocks.len() / tiles).max(1);
        for (i, tile) in blocks.chunks_exact_mut(of_tile).enumerate() {
            for three in &mut *tile {
                (three.spread16, three.side32) = (0, 0);
            }
            for (m, r) in rows_of_tile(batch, i).enumerate() {
                let row = activations.row(r);
                let first = step * BLOCKS;
                let codes = row.q.as_chunks::<256>().0[first..].iter();
                let sums16 = row.sums.as_chunks::<16>().0[first..].iter();
                let sums32 = row.sums32.as_chunks::<8>().0[first..].iter();
                let sums = sums16.zip(sums32).zip(&row.d[first..]);
                for ((three, codes), ((sums16, sums32), d)) in tile.iter_mut().zip(codes).zip(sums)
                {
                    three.d[m] = *d;
                    three.put_codes(m, codes);
                    three.put_sums(m, sums16, sums32);
                    three.widen(magnitudes(simd, codes), sums32);
                }
            }
        }
    }
    // SAFETY: `simd` proves that the CPU has the features.
    unsafe { region(simd, activations, step, blocks) }
}

/// The sum of the magnitudes of each 16 codes, which are in −127..=127.
#[inline(always)]
fn magnitudes(_: Avx512, codes: &[i8; 256]) -> [u16; 16] {
    // SAFETY: the tier is proven; each load reads 64 bytes of an array of 64.
    unsafe {
        let zero = _mm512_setzero_si512();
        let mut sums = [0; 16];
        for (codes, sums) in codes.as_chunks::<64>().0.iter().zip(sums.as_chunks_mut().0) {
            let codes = _mm512_loadu_si512(codes.as_ptr().cast());
            let eights = _mm512_sad_epu8(_mm512_abs_epi8(codes), zero);
            let sixteens = _mm512_add_epi64(eights, _mm512_shuffle_epi32::<0b01_00_11_10>(eights));
            let words = _mm512_cvtepi64_epi16(_mm512_maskz_compress_epi64(0x55, sixteens));
            *sums = [
                _mm_extract_epi16::<0>(words) as u16,
                _mm_extract_epi16::<1>(words) as u16,
                _mm_extract_epi16::<2>(words) as u16,
                _mm_extract_epi16::<3>(words) as u16,
            ];
        }
        sums
    }
}

impl Three {
    #[inline(always)]
    fn put_codes(&mut self, m: usize, codes: &[i8; 256]) {
        let chunks = codes.as_chunks::<4>().0.as_chunks::<16>().0;
        for (groups, chunk) in self.codes.as_chunks_mut::<8>().0.iter_mut().zip(chunks) {
            for (g, group) in groups.iter_mut().enumerate() {
                group[m] = [chunk[g], chunk[8 + g]];
            }
        }
    }

    #[inline(always)]
    fn put_sums(&mut self, m: usize, sums16: &[i16; 16], sums32: &[i16; 8]) {
        for (pair, sums) in self.sums32.iter_mut().zip(sums32.as_chunks().0) {
            pair[m] = *sums;
        }
        for (c, [a, b, x, y]) in sums16.as_chunks().0.iter().enumerate() {
            self.sums16[2 * c][m] = [*a, *x];
            self.sums16[2 * c + 1][m] = [*b, *y];
            self.starts[2 * c][m] = [-i32::from(*a), -i32::from(*x)];
            self.starts[2 * c + 1][m] = [-i32::from(*b), -i32::from(*y)];
        }
    }

    /// Counts a row into the bounds: sums of magnitudes, and of the numbers themselves.
    #[inline(always)]
    fn widen(&mut self, magnitudes: [u16; 16], sums32: &[i16; 8]) {
        for ([a, b], sum) in magnitudes.as_chunks().0.iter().zip(sums32) {
            self.spread16 = self.spread16.max(*a).max(*b);
            // Positive + negative magnitudes, and their difference.
            self.side32 = self.side32.max((a + b + sum.unsigned_abs()) / 2);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::pool::Pool;

    #[test]
    fn tiles_cover_all_rows_and_none_has_one_but_of_a_single_row() {
        for batch in 1..200usize {
            let tiles = batch.div_ceil(ROWS);
            let rows: Vec<_> = (0..tiles).map(|i| rows_of_tile(batch, i)).collect();
            assert!(rows.iter().cloned().flatten().eq(0..batch), "{batch}");
            assert!(batch == 1 || rows.iter().all(|rows| matches!(rows.len(), 2 | 3)), "{batch}");
        }
    }

    /// Codes of any size, all of one sign in some rows.
    fn activations(rows: usize) -> ActivationRows {
        let mut all = ActivationRows::new(rows, STEP, 256);
        for (m, row) in all.rows_mut().enumerate() {
            let values: Vec<f32> = (0..STEP)
                .map(|k| ((k * k * (m + 3)) as f32 * 0.37).sin() + (m % 3) as f32 - 1.0)
                .collect();
            let mut row = row;
            row.quantize(&values);
        }
        all
    }

    #[test]
    fn rows_and_bounds_have_their_places() {
        // Which tiers ran is printed and checked by `tests/logits.rs`.
        let Some(simd) = Avx512::new() else { return };
        for threads in [1, 3] {
            let (activations, mut threes) = (activations(8), Threes::default());
            let pool = Pool::new(threads).unwrap();
            pool.region(|team| threes.fill(team, simd, &activations));
            for (at, three) in threes.blocks().iter().enumerate() {
                let (tile, b) = (at / BLOCKS, at % BLOCKS);
                let (mut spread, mut side) = (0, 0);
                for (m, r) in rows_of_tile(8, tile).enumerate() {
                    let q = &activations.row(r).q[256 * b..256 * (b + 1)];
                    for (g, group) in three.codes.iter().enumerate() {
                        let k = 64 * (g / 8) + 4 * (g % 8);
                        assert_eq!(
                            group[m].as_flattened(),
                            [&q[k..k + 4], &q[k + 32..k + 36]].concat()
                        );
                    }
                    for q in q.chunks(16) {
                        spread = spread.max(q.iter().map(|q| u16::from(q.unsigned_abs())).sum());
                    }
                    for q in q.chunks(32) {
                        let of = |sign: i32| q.iter().map(|&q| (sign * i32::from(q)).max(0)).sum();
                        side = side.max(of(1)).max(of(-1));
                    }
                }
                assert_eq!((three.spread16, i32::from(three.side32)), (spread, side), "{at}");
            }
        }
    }
}
