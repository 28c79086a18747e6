//! Which kernel multiplies a strip: by format and number of activation rows.

use std::marker::PhantomData;
use std::ops::Range;

use super::amx_panel::ProductScales;
use super::codes::SmallCodes;
use super::lanes::Lanes;
use super::scales::SuperScales;
use super::{
    Avx512, amx_tile, amx_tile_small, matvec, matvec_small, quads, tile, tile_small, vector,
};
use crate::quant::{self, Format};
use crate::simd::threes::{self, STEP, rows_of_tile};
use crate::simd::{Order, Scratch, Strip};

/// A kernel, to be compiled for the set by [`run`].
trait Kernel {
    fn run(self, simd: Avx512);
}

/// Runs `kernel` in code of its own compiled for the set.
fn run(simd: Avx512, kernel: impl Kernel) {
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni,avx512vbmi,gfni")]
    #[inline(never)]
    fn region(simd: Avx512, kernel: impl Kernel) {
        kernel.run(simd);
    }
    // SAFETY: `simd` proves that the CPU has the features.
    unsafe { region(simd, kernel) }
}

/// The strip behind this one is fetched while this one is unpacked and multiplied:
/// in the order of memory and evenly over the time, since requests in bursts fill
/// the queue of misses and hold up what is read from the next cache.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// Where to fetch from next.
    pub next: *const u8,
    /// Cache lines per step: half a block of all rows when unpacking, 256 columns
    /// of a tile.
    pub lines: usize,
}

impl Ahead {
    const NONE: Ahead = Ahead { next: std::ptr::null(), lines: 0 };

    /// For unpacking, and for each of `tiles` tiles (see [`Ahead::tile`]). A tile of
    /// three rows takes about a third of the time of unpacking.
    fn new(strip: &Strip<'_>, tiles: usize, unpacking: bool) -> (Ahead, Ahead) {
        let steps = strip.cols.div_ceil(256);
        let lines = strip.bytes.len().div_ceil(64);
        let first = if unpacking { (3 * lines).div_ceil(2 * steps * (3 + tiles)) } else { 0 };
        let end = strip.bytes.as_ptr().wrapping_add(strip.bytes.len());
        let done = 2 * steps * first;
        let each = lines.saturating_sub(done).div_ceil(steps * tiles);
        let rest = end.wrapping_add(64 * done);
        (Ahead { next: end, lines: first }, Ahead { next: rest, lines: each })
    }

    /// The share of tile `i`; nothing once the strip is fetched.
    fn tile(self, strip: &Strip<'_>, i: usize) -> Ahead {
        let at = 64 * i * self.lines * strip.cols.div_ceil(256);
        let lines = if at < strip.bytes.len() { self.lines } else { 0 };
        Ahead { next: self.next.wrapping_add(at), lines }
    }

    /// Fetches step `step`.
    #[inline(always)]
    pub fn step(self, simd: Avx512, step: usize) {
        for line in step * self.lines..(step + 1) * self.lines {
            vector::prefetch(simd, self.next.wrapping_add(64 * line));
        }
    }
}

/// Batches of 32-wide formats up to this many rows unpack and multiply [`STEP`]
/// columns at a time.
const FEW: usize = 2 * tile_small::ROWS;

/// `$body` with `$M`, a constant, for the number of rows of a tile: one of `$few`, or
/// `$most`.
macro_rules! with_rows {
    ($rows:expr; $($few:literal),*; $most:literal; $M:ident => $body:expr) => {
        match $rows {
            $($few => {
                const $M: usize = $few;
                $body
            })*
            _ => {
                const $M: usize = $most;
                $body
            }
        }
    };
}

struct Operands<'a> {
    /// One; several for AMX.
    strip: &'a Strip<'a>,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

struct SuperMatvec<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: SuperScales> Kernel for SuperMatvec<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        matvec::super_blocks::<F>(simd, strip, &mut scratch.values, out);
    }
}

struct SmallMatvec<'a, F, const M: usize>(Operands<'a>, PhantomData<F>);

impl<F: SmallCodes, const M: usize> Kernel for SmallMatvec<'_, F, M> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        matvec_small::small_blocks::<F, M>(simd, strip, &mut scratch.values, out);
    }
}

struct SuperQuads<'a, F, const M: usize, const Q: usize>(Operands<'a>, PhantomData<F>);

impl<F: Lanes, const M: usize, const Q: usize> Kernel for SuperQuads<'_, F, M, Q> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        quads::super_blocks::<F, M, Q>(simd, strip, &mut scratch.interleaved, out);
    }
}

struct SuperTiles<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: SuperScales> Kernel for SuperTiles<'_, F> {
    /// A step of columns is unpacked, then all rows pass by it.
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        let (batch, cols, panel) = (strip.batch(), strip.cols, &mut scratch.panel);
        let tiles = batch.div_ceil(threes::ROWS);
        // Many rows push a strip out of the L2 cache before its turn comes.
        let by_steps = tiles >= Strip::ROWS;
        let (unpacking, ahead) =
            if by_steps { (Ahead::NONE, Ahead::NONE) } else { Ahead::new(strip, tiles, true) };
        let mut blocks = strip.threes.of(strip.activations);
        for start in (0..cols).step_by(STEP) {
            let columns = start..cols.min(start + STEP);
            let last = columns.end == cols;
            panel.unpack_super::<F>(simd, strip, columns.clone(), unpacking);
            for i in 0..tiles {
                let rows = rows_of_tile(batch, i);
                let (tile, rest) = blocks.split_at(columns.len() / 256);
                blocks = rest;
                if by_steps && i < Strip::ROWS {
                    fetch_next_step(simd, strip, i, columns.end);
                }
                if last {
                    fetch_target(simd, strip, 0, rows.clone());
                }
                let out = &mut out[rows.start * Strip::ROWS..rows.end * Strip::ROWS];
                let ahead = ahead.tile(strip, i);
                with_rows!(rows.len(); 1, 2; 3; M => {
                    tile::super_tile::<F, M>(simd, panel, tile, start, ahead, out)
                });
            }
        }
    }
}

/// Asks for the columns `start ..` of weight row `n`, those of a step; at the end for the
/// first ones of the strip behind.
#[inline(always)]
fn fetch_next_step(simd: Avx512, strip: &Strip<'_>, n: usize, start: usize) {
    let row = strip.bytes.len() / strip.rows;
    let block = row / (strip.cols / 256);
    let at = if start < strip.cols { block * (start / 256) } else { strip.bytes.len() };
    let first = strip.bytes.as_ptr().wrapping_add(n * row + at);
    vector::prefetch_lines(simd, first, block * (STEP / 256) + 63);
}

/// Asks for the places where the product of strip number `strip` and `rows` goes.
#[inline(always)]
pub(super) fn fetch_target(simd: Avx512, strips: &Strip<'_>, strip: usize, rows: Range<usize>) {
    for m in rows {
        let at = m * strips.target.width + strip * Strip::ROWS;
        let place = strips.target.start.wrapping_add(at);
        for at in [0, 16, Strip::ROWS - 1] {
            vector::prefetch_to_write(simd, place.wrapping_add(at));
        }
    }
}

struct AmxTiles<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: ProductScales> Kernel for AmxTiles<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        amx_tile::super_tiles::<F>(simd, strip, scratch.amx.get_or_insert_default(), out);
    }
}

struct AmxSmallTiles<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: SmallCodes> Kernel for AmxSmallTiles<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        amx_tile_small::small_tiles::<F>(
            simd,
            strip,
            scratch.amx_small.get_or_insert_default(),
            out,
        );
    }
}

struct SmallTiles<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: SmallCodes> Kernel for SmallTiles<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        let (batch, cols, panel) = (strip.batch(), strip.cols, &mut scratch.panel);
        let tiles = batch.div_ceil(tile_small::ROWS);
        let (_, ahead) = Ahead::new(strip, tiles, false);
        let step = if batch <= FEW { STEP } else { cols };
        for start in (0..cols).step_by(step) {
            let columns = start..cols.min(start + step);
            panel.unpack_small::<F>(simd, strip, columns.clone());
            for i in 0..tiles {
                let rows = tile_small::rows_of_tile(batch, i);
                let out = &mut out[rows.start * Strip::ROWS..rows.end * Strip::ROWS];
                let (first, ahead) = (rows.start, ahead.tile(strip, i));
                with_rows!(rows.len(); 1, 2, 3, 4, 5; 6; M => {
                    tile_small::small_tile::<F, M>(
                        simd, panel, strip.activations, first, &columns, ahead, out,
                    )
                });
            }
        }
    }
}

/// The products of neighbouring strips.
pub(super) fn strips(simd: Avx512, strips: &Strip<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    let size = strips.batch() * Strip::ROWS;
    if simd.order(strips.batch()) == Some(Order::Sixteens) {
        macro_rules! tiles {
            ($kernel:ident $format:ident) => {{
                let operands = Operands { strip: strips, scratch, out };
                run(simd, $kernel::<quant::$format>(operands, PhantomData))
            }};
        }
        return match strips.format {
            Format::Q2_K => tiles!(AmxTiles Q2_K),
            Format::Q3_K => tiles!(AmxTiles Q3_K),
            Format::Q4_K => tiles!(AmxTiles Q4_K),
            Format::Q5_K => tiles!(AmxTiles Q5_K),
            Format::Q6_K => tiles!(AmxTiles Q6_K),
            Format::IQ4_XS => tiles!(AmxTiles IQ4_XS),
            Format::Q4_0 => tiles!(AmxSmallTiles Q4_0),
            Format::Q4_1 => tiles!(AmxSmallTiles Q4_1),
            Format::Q5_0 => tiles!(AmxSmallTiles Q5_0),
            Format::Q5_1 => tiles!(AmxSmallTiles Q5_1),
            Format::Q8_0 => tiles!(AmxSmallTiles Q8_0),
            Format::IQ4_NL => tiles!(AmxSmallTiles IQ4_NL),
            Format::F32 | Format::F16 | Format::BF16 => no_blocks(strips.format),
        };
    }
    for (strip, out) in strips.parts().zip(out.chunks_exact_mut(size.max(1))) {
        products(simd, &strip, scratch, out);
    }
}

/// The product of a strip.
fn products(simd: Avx512, strip: &Strip<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    macro_rules! super_blocks {
        ($format:ident) => {
            super_blocks!($format, SuperMatvec::<quant::$format>)
        };
        ($format:ident, $one:path) => {{
            type F = quant::$format;
            let batch = strip.batch();
            let operands = Operands { strip, scratch, out };
            match batch {
                1 => run(simd, $one(operands, PhantomData)),
                2 => run(simd, SuperQuads::<F, 2, 1>(operands, PhantomData)),
                3 => run(simd, SuperQuads::<F, 3, 1>(operands, PhantomData)),
                4 => run(simd, SuperQuads::<F, 4, 1>(operands, PhantomData)),
                5..=6 => run(simd, SuperQuads::<F, 6, 2>(operands, PhantomData)),
                7..=quads::MOST => run(simd, SuperQuads::<F, 8, 2>(operands, PhantomData)),
                _ => run(simd, SuperTiles::<F>(operands, PhantomData)),
            }
        }};
    }
    macro_rules! small_blocks {
        ($format:ident) => {{
            type F = quant::$format;
            let batch = strip.batch();
            let operands = Operands { strip, scratch, out };
            match batch {
                1 => run(simd, SmallMatvec::<F, 1>(operands, PhantomData)),
                2 => run(simd, SmallMatvec::<F, 2>(operands, PhantomData)),
                3 => run(simd, SmallMatvec::<F, 3>(operands, PhantomData)),
                _ => run(simd, SmallTiles::<F>(operands, PhantomData)),
            }
        }};
    }
    match strip.format {
        Format::Q2_K => super_blocks!(Q2_K),
        Format::Q3_K => super_blocks!(Q3_K),
        Format::Q4_K => super_blocks!(Q4_K),
        Format::Q5_K => super_blocks!(Q5_K),
        Format::Q6_K => super_blocks!(Q6_K),
        Format::Q4_0 => small_blocks!(Q4_0),
        Format::Q4_1 => small_blocks!(Q4_1),
        Format::Q5_0 => small_blocks!(Q5_0),
        Format::Q5_1 => small_blocks!(Q5_1),
        Format::Q8_0 => small_blocks!(Q8_0),
        Format::IQ4_NL => small_blocks!(IQ4_NL),
        // Its codes use all 8 bits: sums of four products are too large for the words of
        // the matvec.
        Format::IQ4_XS => super_blocks!(IQ4_XS, SuperQuads::<quant::IQ4_XS, 1, 1>),
        Format::F32 | Format::F16 | Format::BF16 => no_blocks(strip.format),
    }
}

/// Float weights have kernels elsewhere; here they would be our bug.
fn no_blocks(format: Format) {
    debug_assert!(false, "{format} has no blocks");
}
