//! Strips of super-block formats times many rows of activations, by the tile multiplier.
//!
//! ```text
//! c[n, m, 0]  = Σ low[n][k] · a[m][k],  c[n, m, 1] = Σ high[n][k] · a[m][k]
//!                                              over a block, in tiles, exact in i32
//! isum        = c[n, m, 0] + 256 · c[n, m, 1]
//! msum        = Σ min[n] · (sums of a[m])      in a tile of bf16, exact in f32
//! t           = fma(isum, d, −(msum · dmin))
//! acc[n, m]   = fma(t, d8[m], acc[n, m])       in order of k
//! ```
//! Weights are the tile's rows n, 16 rows of activations its columns m, so they are the
//! lanes of what follows. Two times 16 rows of activations are multiplied with 16 weight
//! rows at once: four tiles of sums c, four of factors, 16 products per block in 256
//! cycles, and two of minimums. What becomes of a block's sums is done for the sums before
//! while the tiles of the next ones are multiplied.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::Avx512;
use super::amx::{ROWS, Tiles};
use super::amx_panel::{Half, ProductScales};
use super::panel::Line;
use super::vector::{lines_to_l2, transpose};
use crate::simd::Strip;
use crate::simd::sixteens::{self, Sixteen};

/// Tiles of activations that are multiplied at once.
const PAIR: usize = 2;

/// Sums of a block: low, high and of minimums; `[weight row]`, 16 rows of activations in a
/// line.
type Sums = [[Line; ROWS]; 3];

/// A thread's working memory.
#[derive(Debug, Default)]
pub(in crate::simd) struct Memory {
    /// A block of both halves of the strip.
    halves: [Half; 2],
    /// What is being multiplied, and what was before.
    sums: [[Sums; PAIR]; 2],
    /// `[tile of activations][half][weight row]`
    acc: Vec<[[Line; ROWS]; 2]>,
}

/// Sums that wait in `Memory::sums`.
#[derive(Clone, Copy)]
struct Waiting {
    half: usize,
    /// Which tiles of activations.
    first: usize,
    end: usize,
    /// Where in `Memory::sums`.
    at: usize,
}

/// The products of neighbouring strips: of each block of columns all, since the
/// activations of all blocks together come from the L3 cache.
#[inline(always)]
pub(super) fn super_tiles<F: ProductScales>(
    simd: Avx512,
    strips: &Strip<'_>,
    memory: &mut Memory,
    out: &mut [f32],
) {
    let Some(tiles) = Tiles::configure(simd) else {
        debug_assert!(false, "no tiles");
        return;
    };
    let batch = strips.batch();
    let count = batch.div_ceil(sixteens::ROWS);
    memory.acc.clear();
    memory.acc.resize(count * strips.rows.div_ceil(Strip::ROWS), [[Line::default(); ROWS]; 2]);
    let blocks = strips.sixteens.of(strips.activations);
    for (b, activations) in blocks.chunks_exact(count.max(1)).enumerate() {
        let next = &blocks[((b + 1) * count).min(blocks.len())..];
        for (s, strip) in strips.parts().enumerate() {
            let steps = strip.rows.div_ceil(ROWS) * count.div_ceil(PAIR);
            let next = &next[..count.min(next.len())];
            let ahead = Ahead { strips, strip: s, block: b, next, steps };
            block::<F>(simd, &tiles, &strip, memory, activations, ahead);
        }
    }
    let size = batch * Strip::ROWS;
    let acc = memory.acc.chunks_exact(count.max(1));
    for (acc, out) in acc.zip(out.chunks_exact_mut(size.max(1))) {
        put(simd, acc, batch, out);
    }
}

/// One block of one strip.
#[inline(always)]
fn block<F: ProductScales>(
    simd: Avx512,
    tiles: &Tiles,
    strip: &Strip<'_>,
    memory: &mut Memory,
    activations: &[Sixteen],
    ahead: Ahead<'_>,
) {
    let (count, halves) = (activations.len(), strip.rows.div_ceil(ROWS));
    let Memory { halves: weights, sums, acc } = memory;
    let mut step = 0;
    for (half, first) in weights[..halves].iter_mut().zip([0, ROWS]) {
        half.unpack::<F>(simd, strip, first, ahead.block);
    }
    let acc = &mut acc[ahead.strip * count..(ahead.strip + 1) * count];
    let mut work = Work { weights, sums, acc, activations };
    let mut waiting = Waiting { half: 0, first: 0, end: 0, at: 1 };
    for half in 0..halves {
        for first in (0..count).step_by(PAIR) {
            ahead.fetch(simd, step);
            step += 1;
            let end = count.min(first + PAIR);
            let now = Waiting { half, first, end, at: 1 - waiting.at };
            if end - first == PAIR {
                multiply::<F, true>(simd, tiles, &mut work, now, waiting);
            } else {
                multiply::<F, false>(simd, tiles, &mut work, now, waiting);
            }
            waiting = now;
        }
    }
    for c in 0..4 {
        add_up::<F>(simd, &mut work, waiting, c);
    }
}

/// What a block's multiplications work on.
struct Work<'a> {
    weights: &'a [Half; 2],
    sums: &'a mut [[Sums; PAIR]; 2],
    acc: &'a mut [[[Line; ROWS]; 2]],
    activations: &'a [Sixteen],
}

/// Multiplies `now`, and meanwhile adds up what is `waiting`.
#[inline(always)]
fn multiply<F: ProductScales, const BOTH: bool>(
    simd: Avx512,
    tiles: &Tiles,
    work: &mut Work<'_>,
    now: Waiting,
    waiting: Waiting,
) {
    let x = &work.activations[now.first..now.end];
    let half = &work.weights[now.half];
    let [first, second] = &mut work.sums[now.at];
    if F::HAS_MIN {
        let place =
            if F::SUB == 16 { offset_of!(Sixteen, sums16) } else { offset_of!(Sixteen, sums32) };
        const { assert!(offset_of!(Sixteen, sums16) == offset_of!(Sixteen, sums32) + 512) };
        let sums = |x: &Sixteen| std::ptr::from_ref(x).cast::<u8>().wrapping_add(place);
        // SAFETY: a tile of minimums is 1 KiB, and so are `sums16`, which lie behind
        // `sums32`; the sums of 16 × 16 are 1 KiB.
        unsafe {
            tiles.zero::<0>();
            tiles.load::<4>((&raw const half.mins).cast());
            tiles.load::<6>(sums(&x[0]));
            tiles.dpbf16ps::<0, 4, 6>();
            tiles.store::<0>((&raw mut first[2]).cast());
            if BOTH {
                tiles.zero::<1>();
                tiles.load::<7>(sums(&x[1]));
                tiles.dpbf16ps::<1, 4, 7>();
                tiles.store::<1>((&raw mut second[2]).cast());
            }
        }
    }
    tiles.zero::<0>();
    if !F::ONE_BYTE {
        tiles.zero::<1>();
    }
    if BOTH {
        tiles.zero::<2>();
    }
    if BOTH && !F::ONE_BYTE {
        tiles.zero::<3>();
    }
    for c in 0..4 {
        // SAFETY: a tile of weights is 1 KiB, and so is a chunk of activations.
        unsafe {
            tiles.load::<4>((&raw const half.low[c]).cast());
            tiles.load::<6>((&raw const x[0].codes[c]).cast());
            tiles.dpbusd::<0, 4, 6>();
            if !F::ONE_BYTE {
                tiles.load::<5>((&raw const half.high[c]).cast());
                tiles.dpbssd::<1, 5, 6>();
            }
            if BOTH {
                tiles.load::<7>((&raw const x[1].codes[c]).cast());
                tiles.dpbusd::<2, 4, 7>();
                if !F::ONE_BYTE {
                    tiles.dpbssd::<3, 5, 7>();
                }
            }
        }
        add_up::<F>(simd, work, waiting, c);
    }
    let [first, second] = &mut work.sums[now.at];
    // SAFETY: the sums of 16 × 16 are 1 KiB.
    unsafe {
        tiles.store::<0>((&raw mut first[0]).cast());
        if !F::ONE_BYTE {
            tiles.store::<1>((&raw mut first[1]).cast());
        }
        if BOTH {
            tiles.store::<2>((&raw mut second[0]).cast());
        }
        if BOTH && !F::ONE_BYTE {
            tiles.store::<3>((&raw mut second[1]).cast());
        }
    }
}

/// `t` and `acc` of the file's comment for the weight rows 4 `c` .. of a half.
#[inline(always)]
fn add_up<F: ProductScales>(simd: Avx512, work: &mut Work<'_>, waiting: Waiting, c: usize) {
    let (half, sums) = (&work.weights[waiting.half], &work.sums[waiting.at]);
    let d = half.d.as_chunks::<4>().0[c];
    let dmin = half.dmin.as_chunks::<4>().0[c];
    let x = &work.activations[waiting.first..waiting.end];
    let acc = &mut work.acc[waiting.first..waiting.end];
    if let ([x, y], [a, b]) = (x, &mut *acc) {
        let a = &mut a[waiting.half].as_chunks_mut::<4>().0[c];
        let b = &mut b[waiting.half].as_chunks_mut::<4>().0[c];
        for n in 0..4 {
            let scales = [d[n], dmin[n]];
            add_row::<F>(simd, &sums[0], 4 * c + n, scales, &x.d, &mut a[n]);
            add_row::<F>(simd, &sums[1], 4 * c + n, scales, &y.d, &mut b[n]);
        }
    } else if let ([x], [a]) = (x, acc) {
        let a = &mut a[waiting.half].as_chunks_mut::<4>().0[c];
        for n in 0..4 {
            add_row::<F>(simd, &sums[0], 4 * c + n, [d[n], dmin[n]], &x.d, &mut a[n]);
        }
    }
}

/// One weight row, 16 rows of activations.
#[inline(always)]
fn add_row<F: ProductScales>(
    simd: Avx512,
    [low, high, msum]: &Sums,
    n: usize,
    [d, dmin]: [f32; 2],
    d8: &[f32; ROWS],
    acc: &mut Line,
) {
    // SAFETY: the set is proven; 16 floats are read.
    unsafe {
        let mut isum = line(simd, &low[n]);
        if !F::ONE_BYTE {
            isum = _mm512_add_epi32(isum, _mm512_slli_epi32::<8>(line(simd, &high[n])));
        }
        let (isum, d) = (_mm512_cvtepi32_ps(isum), _mm512_set1_ps(d));
        let t = if F::HAS_MIN {
            let msum = _mm512_castsi512_ps(line(simd, &msum[n]));
            _mm512_fmsub_ps(isum, d, _mm512_mul_ps(msum, _mm512_set1_ps(dmin)))
        } else {
            _mm512_mul_ps(isum, d)
        };
        let so_far = _mm512_castsi512_ps(line(simd, acc));
        let sum = _mm512_fmadd_ps(t, _mm512_loadu_ps(d8.as_ptr()), so_far);
        super::panel::put(simd, acc, _mm512_castps_si512(sum));
    }
}

#[inline(always)]
fn line(_: Avx512, line: &Line) -> __m512i {
    // SAFETY: the set is proven; a line is 64 aligned bytes.
    unsafe { _mm512_load_si512(std::ptr::from_ref(line).cast()) }
}

/// Writes `acc` to `out[m, n]`, rows [`Strip::ROWS`] apart.
#[inline(always)]
fn put(simd: Avx512, acc: &[[[Line; ROWS]; 2]], batch: usize, out: &mut [f32]) {
    for (i, halves) in acc.iter().enumerate() {
        for (h, lines) in halves.iter().enumerate() {
            // SAFETY: the set is proven.
            let mut columns = [unsafe { _mm512_setzero_si512() }; ROWS];
            for (column, x) in columns.iter_mut().zip(lines) {
                *column = line(simd, x);
            }
            for (m, row) in transpose(simd, columns).into_iter().enumerate() {
                let r = i * sixteens::ROWS + m;
                if r < batch {
                    let out = &mut out[r * Strip::ROWS + h * ROWS..][..ROWS];
                    // SAFETY: the set is proven; `out` has 16 floats.
                    unsafe { _mm512_storeu_ps(out.as_mut_ptr(), _mm512_castsi512_ps(row)) };
                }
            }
        }
    }
}

/// What is fetched while a block of a strip is multiplied: the same block of the next strip,
/// and a share of the activations' next block.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    strips: &'a Strip<'a>,
    strip: usize,
    block: usize,
    /// The activations' next block.
    next: &'a [Sixteen],
    /// Multiplications per block.
    steps: usize,
}

impl Ahead<'_> {
    /// During multiplication `step`.
    #[inline(always)]
    fn fetch(self, simd: Avx512, step: usize) {
        let Strip { bytes, rows, cols, .. } = *self.strips;
        let (strips, blocks, row) = (rows.div_ceil(Strip::ROWS), cols / 256, bytes.len() / rows);
        // The next strip, or the first one's next block, or the strip behind all.
        let (first, block) = match (self.strip + 1 < strips, self.block + 1 < blocks) {
            (true, _) => ((self.strip + 1) * Strip::ROWS, self.block),
            (false, true) => (0, self.block + 1),
            (false, false) => (rows, 0),
        };
        let share =
            |len: usize, step: usize, steps: usize| (len * step / steps, len * (step + 1) / steps);
        // Into L2: the queue of L1 misses is left to the tiles.
        let (from, to) = share(Strip::ROWS, step, self.steps);
        for n in from..to {
            let at = (first + n) * row + block * (row / blocks);
            lines_to_l2(simd, bytes.as_ptr().wrapping_add(at), row / blocks + 63);
        }
        let step = self.strip * self.steps + step;
        let (from, to) = share(size_of_val(self.next), step, strips * self.steps);
        lines_to_l2(simd, self.next.as_ptr().cast::<u8>().wrapping_add(from), to - from);
    }
}
