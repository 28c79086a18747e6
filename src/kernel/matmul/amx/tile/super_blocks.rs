//! Row panels of super-block formats times many rows of activations, by the tile multiplier.
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
//! cycles, and two of minimums. A tile is stored, zeroed and multiplied anew in a row, long
//! after its sums were complete: stored right after its last product, it holds up all that
//! follows (a quarter of the time). What becomes of sums is done while the next tiles are
//! multiplied.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::sums::{Acc, Ahead, PAIR, line, put};
use crate::kernel::matmul::amx::class::Class;
use crate::kernel::matmul::amx::pack::{Of256, Sixteen};
use crate::kernel::matmul::amx::panel::{Half, Unpack};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx512::{self, Avx512, Line, ROWS, Tiles};

/// Sums of a tile: `[weight row]`, 16 rows of activations in a line.
type Sums = [Line; ROWS];

/// A thread's working memory.
#[derive(Debug, Default)]
pub(in crate::kernel::matmul::amx) struct Memory {
    /// A block of both halves of the panel.
    halves: [Half; 2],
    /// What was multiplied before.
    sums: StoredSums,
    /// `[tile of activations]`
    acc: Vec<Acc>,
}

/// Sums of a pair of tiles of activations.
#[derive(Debug, Default)]
struct StoredSums {
    /// low, high
    products: [[Sums; 2]; PAIR],
    /// Of minimums: what was multiplied before, and what is being multiplied.
    mins: [[Sums; PAIR]; 2],
}

/// Sums that wait in the tiles 0 to 3, and those of minimums in [`StoredSums`].
#[derive(Clone, Copy)]
struct Waiting {
    half: usize,
    /// Which tiles of activations.
    first: usize,
    end: usize,
    /// Where in `mins`.
    at: usize,
}

/// The products of neighbouring panels: of each block of columns all, since the
/// activations of all blocks together come from the L3 cache.
#[inline(always)]
pub(in crate::kernel::matmul::amx) fn super_tiles<C: Class>(
    simd: Avx512,
    (panels, unpack): (&RowPanel<'_>, Unpack),
    (batch, columns): (usize, &[Sixteen<Of256>]),
    memory: &mut Memory,
    out: &mut [f32],
) {
    let Some(tiles) = Tiles::configure(simd) else {
        debug_assert!(false, "no tiles");
        return;
    };
    let count = batch.div_ceil(ROWS);
    memory.acc.clear();
    memory.acc.resize(count * panels.rows.div_ceil(RowPanel::ROWS), [[Line::default(); ROWS]; 2]);
    for (b, activations) in columns.chunks_exact(count.max(1)).enumerate() {
        let next = &columns[((b + 1) * count).min(columns.len())..];
        for (s, panel) in panels.parts().enumerate() {
            let steps = panel.rows.div_ceil(ROWS) * count.div_ceil(PAIR);
            let next = &next[..count.min(next.len())];
            let ahead = Ahead { panels, batch, panel: s, at: b, next, steps };
            block::<C>(simd, &tiles, (&panel, unpack), memory, activations, ahead);
        }
    }
    let size = batch * RowPanel::ROWS;
    let acc = memory.acc.chunks_exact(count.max(1));
    for (acc, out) in acc.zip(out.chunks_exact_mut(size.max(1))) {
        put(simd, acc, batch, out);
    }
}

/// One block of one panel.
#[inline(always)]
fn block<C: Class>(
    simd: Avx512,
    tiles: &Tiles,
    (panel, unpack): (&RowPanel<'_>, Unpack),
    memory: &mut Memory,
    activations: &[Sixteen<Of256>],
    ahead: Ahead<'_, Of256>,
) {
    let (count, halves) = (activations.len(), panel.rows.div_ceil(ROWS));
    let Memory { halves: weights, sums, acc } = memory;
    let mut step = 0;
    for (half, first) in weights[..halves].iter_mut().zip([0, ROWS]) {
        unpack(simd, panel, first, ahead.at, half);
    }
    let acc = &mut acc[ahead.panel * count..(ahead.panel + 1) * count];
    let mut work = Work { weights, sums, acc, activations };
    let mut waiting = Waiting { half: 0, first: 0, end: 0, at: 1 };
    for half in 0..halves {
        for first in (0..count).step_by(PAIR) {
            ahead.fetch(simd, step);
            step += 1;
            let end = count.min(first + PAIR);
            let now = Waiting { half, first, end, at: 1 - waiting.at };
            if end - first == PAIR {
                multiply::<C, true>(simd, tiles, &mut work, now, waiting);
            } else {
                multiply::<C, false>(simd, tiles, &mut work, now, waiting);
            }
            waiting = now;
        }
    }
    work.store::<C>(tiles);
    work.waiting(waiting).add_up::<C, ROWS>(simd, 0);
}

/// What a block's multiplications work on.
struct Work<'a> {
    weights: &'a [Half; 2],
    sums: &'a mut StoredSums,
    acc: &'a mut [Acc],
    activations: &'a [Sixteen<Of256>],
}

impl Work<'_> {
    /// What becomes of the sums that are stored.
    #[inline(always)]
    fn waiting(&mut self, Waiting { half, first, end, at }: Waiting) -> Sum<'_> {
        let [a, b] = &self.sums.products;
        let [mins, mins2] = &self.sums.mins[at];
        let x = &self.activations[first..end];
        let (first, second) = match (x, &mut self.acc[first..end]) {
            ([x, y], [acc, acc2]) => (
                Some(TileSum { products: a, mins, d8: &x.scales.d, acc: &mut acc[half] }),
                Some(TileSum { products: b, mins: mins2, d8: &y.scales.d, acc: &mut acc2[half] }),
            ),
            ([x], [acc]) => {
                (Some(TileSum { products: a, mins, d8: &x.scales.d, acc: &mut acc[half] }), None)
            }
            _ => (None, None),
        };
        Sum { half: &self.weights[half], first, second }
    }

    /// Stores the tiles 0 to 3.
    #[inline(always)]
    fn store<C: Class>(&mut self, tiles: &Tiles) {
        let [[a, b], [c, d]] = &mut self.sums.products;
        // SAFETY: sums are 1 KiB.
        unsafe {
            tiles.store::<0>((&raw mut *a).cast());
            tiles.store::<2>((&raw mut *c).cast());
            if !C::ONE_BYTE {
                tiles.store::<1>((&raw mut *b).cast());
                tiles.store::<3>((&raw mut *d).cast());
            }
        }
    }
}

/// Multiplies `now`, meanwhile stores what is `waiting` and adds it up.
#[inline(always)]
fn multiply<C: Class, const BOTH: bool>(
    simd: Avx512,
    tiles: &Tiles,
    work: &mut Work<'_>,
    now: Waiting,
    waiting: Waiting,
) {
    start::<C, BOTH>(tiles, work, now);
    let x = &work.activations[now.first..now.end];
    let half = &work.weights[now.half];
    let mut waiting = work.waiting(waiting);
    for c in 1..4 {
        let n = 5 * (c - 1);
        // SAFETY: a tile of weights is 1 KiB, and so is a chunk of activations.
        unsafe {
            tiles.load::<4>((&raw const half.low[c]).cast());
            tiles.load::<6>((&raw const x[0].codes[c]).cast());
            tiles.dpbusd::<0, 4, 6>();
            waiting.add_up::<C, 1>(simd, n);
            if !C::ONE_BYTE {
                tiles.load::<5>((&raw const half.high[c]).cast());
                tiles.dpbssd::<1, 5, 6>();
            }
            waiting.add_up::<C, 1>(simd, n + 1);
            if BOTH {
                tiles.load::<7>((&raw const x[1].codes[c]).cast());
                tiles.dpbusd::<2, 4, 7>();
            }
            waiting.add_up::<C, 1>(simd, n + 2);
            if BOTH && !C::ONE_BYTE {
                tiles.dpbssd::<3, 5, 7>();
            }
            waiting.add_up::<C, 2>(simd, n + 3);
        }
    }
    waiting.add_up::<C, 1>(simd, ROWS - 1);
}

/// The minimums and the first chunk: each tile is stored before it begins anew.
#[inline(always)]
fn start<C: Class, const BOTH: bool>(tiles: &Tiles, work: &mut Work<'_>, now: Waiting) {
    let x = &work.activations[now.first..now.end];
    let half = &work.weights[now.half];
    let [[low, high], [low2, high2]] = &mut work.sums.products;
    let [mins, mins2] = &mut work.sums.mins[now.at];
    // SAFETY: sums of 16 × 16 are 1 KiB, and so are a tile of weights, of minimums and a
    // chunk of activations. So are `sums16`, which lie behind `sums32`.
    unsafe {
        if C::HAS_MIN {
            let place =
                if C::SUB == 16 { offset_of!(Of256, sums16) } else { offset_of!(Of256, sums32) };
            const { assert!(offset_of!(Of256, sums16) == offset_of!(Of256, sums32) + 512) };
            let sums =
                |x: &Sixteen<Of256>| std::ptr::from_ref(&x.scales).cast::<u8>().wrapping_add(place);
            tiles.load::<4>((&raw const half.mins).cast());
            tiles.load::<6>(sums(&x[0]));
            tiles.store::<0>((&raw mut *low).cast());
            tiles.zero::<0>();
            tiles.dpbf16ps::<0, 4, 6>();
            if !C::ONE_BYTE {
                tiles.store::<1>((&raw mut *high).cast());
            }
            if BOTH {
                tiles.load::<7>(sums(&x[1]));
                tiles.zero::<1>();
                tiles.dpbf16ps::<1, 4, 7>();
            }
        }
        tiles.load::<4>((&raw const half.low[0]).cast());
        if !C::ONE_BYTE {
            tiles.load::<5>((&raw const half.high[0]).cast());
        }
        tiles.load::<6>((&raw const x[0].codes[0]).cast());
        tiles.store::<2>((&raw mut *low2).cast());
        if BOTH {
            tiles.load::<7>((&raw const x[1].codes[0]).cast());
            tiles.zero::<2>();
            tiles.dpbusd::<2, 4, 7>();
        }
        if !C::ONE_BYTE {
            tiles.store::<3>((&raw mut *high2).cast());
        }
        if BOTH && !C::ONE_BYTE {
            tiles.zero::<3>();
            tiles.dpbssd::<3, 5, 7>();
        }
        tiles.store::<0>(if C::HAS_MIN { &raw mut *mins } else { &raw mut *low }.cast());
        tiles.zero::<0>();
        tiles.dpbusd::<0, 4, 6>();
        if C::HAS_MIN || !C::ONE_BYTE {
            tiles.store::<1>(if C::HAS_MIN { &raw mut *mins2 } else { &raw mut *high }.cast());
        }
        if !C::ONE_BYTE {
            tiles.zero::<1>();
            tiles.dpbssd::<1, 5, 6>();
        }
    }
}

/// The sums of 16 weight rows and up to two tiles of activations.
struct Sum<'a> {
    half: &'a Half,
    first: Option<TileSum<'a>>,
    second: Option<TileSum<'a>>,
}

/// Of one tile.
struct TileSum<'a> {
    /// low, high
    products: &'a [Sums; 2],
    mins: &'a Sums,
    d8: &'a [f32; ROWS],
    acc: &'a mut [Line; ROWS],
}

impl Sum<'_> {
    /// `t` and `acc` of the file's comment for the `N` weight rows from `n` on.
    #[inline(always)]
    fn add_up<C: Class, const N: usize>(&mut self, simd: Avx512, n: usize) {
        for n in n..n + N {
            let scales = [self.half.d[n], self.half.dmin[n]];
            if let Some(tile) = &mut self.first {
                tile.add_row::<C>(simd, n, scales);
            }
            if let Some(tile) = &mut self.second {
                tile.add_row::<C>(simd, n, scales);
            }
        }
    }
}

impl TileSum<'_> {
    /// One weight row, 16 rows of activations.
    #[inline(always)]
    fn add_row<C: Class>(&mut self, simd: Avx512, n: usize, [d, dmin]: [f32; 2]) {
        let [low, high] = self.products;
        // SAFETY: the tier is proven; 16 floats are read.
        unsafe {
            let mut isum = line(simd, &low[n]);
            if !C::ONE_BYTE {
                isum = _mm512_add_epi32(isum, _mm512_slli_epi32::<8>(line(simd, &high[n])));
            }
            let (isum, d) = (_mm512_cvtepi32_ps(isum), _mm512_set1_ps(d));
            let t = if C::HAS_MIN {
                let msum = _mm512_castsi512_ps(line(simd, &self.mins[n]));
                _mm512_fmsub_ps(isum, d, _mm512_mul_ps(msum, _mm512_set1_ps(dmin)))
            } else {
                _mm512_mul_ps(isum, d)
            };
            let so_far = _mm512_castsi512_ps(line(simd, &self.acc[n]));
            let sum = _mm512_fmadd_ps(t, _mm512_loadu_ps(self.d8.as_ptr()), so_far);
            avx512::put(simd, &mut self.acc[n], _mm512_castps_si512(sum));
        }
    }
}
