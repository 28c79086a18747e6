//! Row panels of 32-wide formats times many rows of activations, by the tile multiplier.
//!
//! ```text
//! c[n, m]   = Σ code[n][k] · a[m][k]           over 32 columns, in tiles, exact in i32
//! t         = fma(c, d[n], sum[m] · min[n])
//! acc[n, m] = fma(t, d8[m], acc[n, m])         in order of k
//! ```
//! As [`super::super_blocks`]: weights are the tile's rows n, rows of activations its columns m.
//! The scales of 32 columns are floats, so a tile of sums is stored after every product,
//! which is one of half the size but takes as long as a whole one. Two times 16 rows of
//! activations × 16 weight rows × 32 columns: 32 cycles of products, 32 of stores; 48 of
//! vector instructions turn what was stored before into `acc`. Where `vpdpbusd` multiplies
//! the same take 176.
//!
//! What is read soon after it was stored from a tile waits until the store is done, so sums
//! are added up two steps later, a few rows between one tile and the next.

use std::arch::x86_64::*;
use std::marker::PhantomData;

use super::sums::{Acc, Ahead, PAIR, line, put};
use crate::kernel::matmul::amx::pack::{COLS, Of32, Sixteen};
use crate::kernel::matmul::amx::panel::Tile;
use crate::kernel::matmul::avx512::{Kernel, SmallCodes, run, scales, sixteen_rows};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{self, Avx512, Line, ROW, ROWS, Tiles};

/// Blocks of [`COLS`] columns.
const BLOCKS: usize = COLS / 32;

/// Blocks that are multiplied before their sums are added up, two steps later.
const STEP: usize = 4;

/// `[block of a step][weight row]`, 16 rows of activations in a line.
type Sums = [[Line; ROWS]; STEP];

/// A thread's working memory.
#[derive(Debug, Default)]
pub(in crate::kernel::matmul::amx) struct Memory {
    /// [`COLS`] columns of both halves of the panel.
    halves: [Half; 2],
    /// What is being multiplied, and what was in the two steps before.
    sums: [[Sums; PAIR]; 3],
    acc: Vec<Acc>,
}

/// [`COLS`] columns of 16 weight rows.
#[derive(Debug, Clone, Copy)]
#[repr(C, align(64))]
pub(in crate::kernel::matmul::amx) struct Half {
    /// `[64 columns][weight row]`, signed.
    codes: [Tile; BLOCKS / 2],
    /// `[block][weight row]`
    d: [[f32; ROWS]; BLOCKS],
    min: [[f32; ROWS]; BLOCKS],
}

impl Default for Half {
    fn default() -> Self {
        let d = [[0.0; ROWS]; BLOCKS];
        Half { codes: [Tile([[0; ROW]; ROWS]); BLOCKS / 2], d, min: d }
    }
}

/// Unpacks the blocks `first ..` of half number `half` of a row panel, of which format the
/// function says.
pub(in crate::kernel::matmul::amx) type Unpack = fn(Avx512, &RowPanel<'_>, usize, usize, &mut Half);

/// Of one format.
pub(in crate::kernel::matmul::amx) fn unpack<F: SmallCodes>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    half: usize,
    first: usize,
    to: &mut Half,
) {
    run(simd, OfFormat::<F>(weights, half, first, to, PhantomData));
}

struct OfFormat<'a, F>(&'a RowPanel<'a>, usize, usize, &'a mut Half, PhantomData<F>);

impl<F: SmallCodes> Kernel for OfFormat<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let OfFormat(weights, half, first, to, _) = self;
        to.unpack::<F>(simd, sixteen_rows(weights, half, F::blocks), first);
    }
}

impl Half {
    /// Unpacks the blocks `first ..` of a half panel; behind the last, it is repeated.
    #[inline(always)]
    fn unpack<F: SmallCodes>(&mut self, simd: Avx512, rows: [&[F::Block]; ROWS], first: usize) {
        let last = rows[0].len() - 1;
        for (c, tile) in self.codes.iter_mut().enumerate() {
            let [a, b] = [2 * c, 2 * c + 1].map(|block| last.min(first + block));
            for (row, place) in rows.iter().zip(&mut tile.0) {
                let codes = F::codes(simd, [&row[a], &row[b]]);
                // SAFETY: the tier is proven; 64 bytes can be written.
                unsafe {
                    let offset = _mm512_set1_epi8(F::OFFSET as i8);
                    let codes = _mm512_sub_epi8(codes, offset);
                    _mm512_storeu_si512(place.as_mut_ptr().cast(), codes);
                }
            }
        }
        for (block, (d, min)) in self.d.iter_mut().zip(&mut self.min).enumerate() {
            let block = last.min(first + block);
            store(simd, d, scales::<F>(simd, &rows, block, 0));
            if F::HAS_MIN {
                store(simd, min, scales::<F>(simd, &rows, block, 2));
            }
        }
    }
}

#[inline(always)]
fn store(_: Avx512, to: &mut [f32; ROWS], x: __m512i) {
    // SAFETY: the tier is proven; 64 bytes can be written.
    unsafe { _mm512_storeu_si512(to.as_mut_ptr().cast(), x) }
}

/// A step of multiplications, or its sums in `Memory::sums`.
#[derive(Clone, Copy, Default)]
struct Step {
    half: usize,
    /// Which tiles of activations.
    first: usize,
    end: usize,
    /// The first block, and how many there are.
    block: usize,
    blocks: usize,
    /// Where in `Memory::sums`.
    at: usize,
}

/// The products of neighbouring panels, [`COLS`] columns of all at a time.
#[inline(always)]
pub(in crate::kernel::matmul::amx) fn small_tiles<const HAS_MIN: bool>(
    simd: Avx512,
    (panels, unpack): (&RowPanel<'_>, Unpack),
    (batch, columns): (usize, &[Sixteen<Of32>]),
    memory: &mut Memory,
    out: &mut [f32],
) {
    let Some(tiles) = Tiles::of_32_columns(simd) else {
        debug_assert!(false, "no tiles");
        return;
    };
    let count = batch.div_ceil(ROWS);
    memory.acc.clear();
    memory.acc.resize(count * panels.rows.div_ceil(RowPanel::ROWS), Acc::default());
    for (at, activations) in columns.chunks_exact(count.max(1)).enumerate() {
        let next = &columns[((at + 1) * count).min(columns.len())..];
        for (s, panel) in panels.parts().enumerate() {
            let steps = panel.rows.div_ceil(ROWS) * count.div_ceil(PAIR);
            let next = &next[..count.min(next.len())];
            let ahead = Ahead { panels, batch, panel: s, at, next, steps };
            one_panel::<HAS_MIN>(simd, &tiles, (&panel, unpack), memory, activations, ahead);
        }
    }
    let size = batch * RowPanel::ROWS;
    let acc = memory.acc.chunks_exact(count.max(1));
    for (acc, out) in acc.zip(out.chunks_exact_mut(size.max(1))) {
        put(simd, acc, batch, out);
    }
}

/// [`COLS`] columns of one panel, or what is left of them.
#[inline(always)]
fn one_panel<const HAS_MIN: bool>(
    simd: Avx512,
    tiles: &Tiles,
    (panel, unpack): (&RowPanel<'_>, Unpack),
    memory: &mut Memory,
    activations: &[Sixteen<Of32>],
    ahead: Ahead<'_, Of32>,
) {
    let (count, halves) = (activations.len(), panel.rows.div_ceil(ROWS));
    let first = ahead.at * BLOCKS;
    let blocks = BLOCKS.min(panel.cols / 32 - first);
    let Memory { halves: weights, sums, acc } = memory;
    for (half, weights) in weights[..halves].iter_mut().enumerate() {
        unpack(simd, panel, half, first, weights);
    }
    let acc = &mut acc[ahead.panel * count..(ahead.panel + 1) * count];
    let mut work = Work { weights, sums, acc, activations };
    let (mut last, mut now) = (Step::default(), Step { at: 1, ..Step::default() });
    let mut step = 0;
    for half in 0..halves {
        for first in (0..count).step_by(PAIR) {
            ahead.fetch(simd, step);
            step += 1;
            let end = count.min(first + PAIR);
            for block in (0..blocks).step_by(STEP) {
                let waiting = std::mem::replace(&mut last, now);
                let blocks = STEP.min(blocks - block);
                now = Step { half, first, end, block, blocks, at: (last.at + 1) % 3 };
                work.step::<HAS_MIN>(simd, tiles, now, last, waiting);
            }
        }
    }
    work.finish::<HAS_MIN>(simd, tiles, now, last);
}

/// What multiplications work on.
struct Work<'a> {
    weights: &'a [Half; 2],
    sums: &'a mut [[Sums; PAIR]; 3],
    acc: &'a mut [Acc],
    activations: &'a [Sixteen<Of32>],
}

impl Work<'_> {
    /// Multiplies `now`; meanwhile stores the last block of `last` and adds up the sums of
    /// `waiting`.
    #[inline(always)]
    fn step<const HAS_MIN: bool>(
        &mut self,
        simd: Avx512,
        tiles: &Tiles,
        now: Step,
        last: Step,
        waiting: Step,
    ) {
        let mut sum = Sum::new(self.weights, self.activations, self.acc, waiting);
        let x = &self.activations[now.first..now.end];
        let of_now = Multiplication { weights: &self.weights[now.half], x, step: now };
        let steps = [now.at, last.at, waiting.at];
        let Ok([sums, of_last, waiting]) = self.sums.get_disjoint_mut(steps) else {
            debug_assert!(false, "{steps:?} are three");
            return;
        };
        let in_last = (last.blocks == STEP).then_some(of_last);
        let mut before = in_last.map(|sums| (sums, STEP - 1));
        of_now.part::<HAS_MIN, 0, 1, 2, 3>(simd, tiles, 0, before, &mut sum, waiting);
        before = (now.blocks > 0).then_some((&mut *sums, 0));
        of_now.part::<HAS_MIN, 2, 3, 0, 1>(simd, tiles, 1, before, &mut sum, waiting);
        before = (now.blocks > 1).then_some((&mut *sums, 1));
        of_now.part::<HAS_MIN, 0, 1, 2, 3>(simd, tiles, 2, before, &mut sum, waiting);
        before = (now.blocks > 2).then_some((&mut *sums, 2));
        of_now.part::<HAS_MIN, 2, 3, 0, 1>(simd, tiles, 3, before, &mut sum, waiting);
    }

    /// Stores and adds up what is left of the last two steps.
    #[inline(always)]
    fn finish<const HAS_MIN: bool>(&mut self, simd: Avx512, tiles: &Tiles, now: Step, last: Step) {
        if now.blocks == STEP {
            store_tiles::<2, 3>(tiles, &mut self.sums[now.at], STEP - 1);
        }
        for step in [last, now] {
            let mut sum = Sum::new(self.weights, self.activations, self.acc, step);
            sum.add_up::<HAS_MIN, ROWS>(simd, &self.sums[step.at], 0);
        }
    }
}

/// Stores two tiles, block `j` of a step.
#[inline(always)]
fn store_tiles<const A: u8, const B: u8>(tiles: &Tiles, sums: &mut [Sums; PAIR], j: usize) {
    let [first, second] = sums;
    // SAFETY: the sums of 16 × 16 are 1 KiB.
    unsafe {
        tiles.store::<A>((&raw mut first[j]).cast());
        tiles.store::<B>((&raw mut second[j]).cast());
    }
}

/// What a step multiplies.
struct Multiplication<'a> {
    weights: &'a Half,
    x: &'a [Sixteen<Of32>],
    step: Step,
}

impl Multiplication<'_> {
    /// Multiplies block `j` in the tiles `A` and `B`. Meanwhile stores the block before,
    /// which is in `P` and `Q`, and adds up some rows of what is `waiting`.
    #[inline(always)]
    fn part<const HAS_MIN: bool, const A: u8, const B: u8, const P: u8, const Q: u8>(
        &self,
        simd: Avx512,
        tiles: &Tiles,
        j: usize,
        before: Option<(&mut [Sums; PAIR], usize)>,
        sum: &mut Sum<'_>,
        waiting: &[Sums; PAIR],
    ) {
        let there = j < self.step.blocks;
        let (c, side) = ((self.step.block + j) / 2, (self.step.block + j) % 2);
        let n = j * (ROWS / STEP);
        if there {
            let weights = (&raw const self.weights.codes[c]).cast::<u8>();
            // SAFETY: 16 rows 64 bytes apart; of each the first or the second half is read.
            unsafe { tiles.load::<4>(weights.wrapping_add(side * ROW / 2)) }
            multiply::<A, 6>(tiles, &self.x[0], c, side);
        }
        sum.add_up::<HAS_MIN, { ROWS / STEP / 2 }>(simd, waiting, n);
        if let (true, [_, x]) = (there, self.x) {
            multiply::<B, 7>(tiles, x, c, side);
        }
        if let Some((sums, j)) = before {
            store_tiles::<P, Q>(tiles, sums, j);
        }
        sum.add_up::<HAS_MIN, { ROWS / STEP / 2 }>(simd, waiting, n + ROWS / STEP / 2);
    }
}

/// Tile `C` = tile 4 · half of a chunk of activations, which goes to tile `B`.
#[inline(always)]
fn multiply<const C: u8, const B: u8>(tiles: &Tiles, x: &Sixteen<Of32>, c: usize, side: usize) {
    let chunk = (&raw const x.codes[c]).cast::<u8>();
    // SAFETY: half of a chunk, 8 times 64 bytes, is read.
    unsafe { tiles.load::<B>(chunk.wrapping_add(side * ROW * ROWS / 2)) }
    tiles.zero::<C>();
    tiles.dpbssd::<C, 4, B>();
}

/// Where the sums of a step go.
struct Sum<'a> {
    blocks: usize,
    /// `[block][weight row]`
    d: &'a [[f32; ROWS]; STEP],
    min: &'a [[f32; ROWS]; STEP],
    first: Option<TileSum<'a>>,
    second: Option<TileSum<'a>>,
}

/// Those of one tile of activations.
struct TileSum<'a> {
    /// `[block]`, of the activations.
    d8: &'a [[f32; ROWS]; STEP],
    sums: &'a [[f32; ROWS]; STEP],
    acc: &'a mut [Line; ROWS],
}

impl<'a> Sum<'a> {
    #[inline(always)]
    fn new(
        weights: &'a [Half; 2],
        activations: &'a [Sixteen<Of32>],
        acc: &'a mut [Acc],
        step: Step,
    ) -> Self {
        let i = step.block / STEP;
        let tile = |x: &'a Sixteen<Of32>, acc: &'a mut Acc| {
            let Of32 { sums, d } = &x.scales;
            let (d8, sums) = (&d.as_chunks().0[i], &sums.as_chunks().0[i]);
            Some(TileSum { d8, sums, acc: &mut acc[step.half] })
        };
        let tiles = step.first..step.end;
        let (first, second) = match (&activations[tiles.clone()], &mut acc[tiles]) {
            ([x, y], [a, b]) => (tile(x, a), tile(y, b)),
            ([x], [a]) => (tile(x, a), None),
            _ => (None, None),
        };
        let Half { d, min, .. } = &weights[step.half];
        let (d, min) = (&d.as_chunks().0[i], &min.as_chunks().0[i]);
        Sum { blocks: step.blocks, d, min, first, second }
    }

    /// `t` and `acc` of the file's comment for `N` weight rows from `n` on, all blocks of
    /// the step.
    #[inline(always)]
    fn add_up<const HAS_MIN: bool, const N: usize>(
        &mut self,
        simd: Avx512,
        sums: &[Sums; PAIR],
        n: usize,
    ) {
        match self.blocks {
            STEP => self.blocks::<HAS_MIN, N, STEP>(simd, sums, n),
            3 => self.blocks::<HAS_MIN, N, 3>(simd, sums, n),
            2 => self.blocks::<HAS_MIN, N, 2>(simd, sums, n),
            1 => self.blocks::<HAS_MIN, N, 1>(simd, sums, n),
            _ => {}
        }
    }

    #[inline(always)]
    fn blocks<const HAS_MIN: bool, const N: usize, const BLOCKS: usize>(
        &mut self,
        simd: Avx512,
        [a, b]: &[Sums; PAIR],
        n: usize,
    ) {
        for n in n..n + N {
            if let Some(tile) = &mut self.first {
                tile.add_row::<HAS_MIN, BLOCKS>(simd, self.d, self.min, a, n);
            }
            if let Some(tile) = &mut self.second {
                tile.add_row::<HAS_MIN, BLOCKS>(simd, self.d, self.min, b, n);
            }
        }
    }
}

impl TileSum<'_> {
    /// The first `BLOCKS` blocks of one weight row, 16 rows of activations.
    #[inline(always)]
    fn add_row<const HAS_MIN: bool, const BLOCKS: usize>(
        &mut self,
        simd: Avx512,
        d: &[[f32; ROWS]; STEP],
        min: &[[f32; ROWS]; STEP],
        sums: &Sums,
        n: usize,
    ) {
        // SAFETY: the tier is proven; 16 floats are read.
        unsafe {
            let mut acc = _mm512_castsi512_ps(line(simd, &self.acc[n]));
            for j in 0..BLOCKS {
                let c = _mm512_cvtepi32_ps(line(simd, &sums[j][n]));
                let d = _mm512_set1_ps(d[j][n]);
                let t = if HAS_MIN {
                    let msum = _mm512_loadu_ps(self.sums[j].as_ptr());
                    _mm512_fmadd_ps(c, d, _mm512_mul_ps(msum, _mm512_set1_ps(min[j][n])))
                } else {
                    _mm512_mul_ps(c, d)
                };
                acc = _mm512_fmadd_ps(t, _mm512_loadu_ps(self.d8[j].as_ptr()), acc);
            }
            avx512::put(simd, &mut self.acc[n], _mm512_castps_si512(acc));
        }
    }
}
