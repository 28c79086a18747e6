//! AVX-512: which kernel multiplies a row panel, by format and rows of activations.
//!
//! | rows of activations | super-blocks of 256 | blocks of 32 |
//! |---|---|---|
//! | 1 | `in_place/one_row.rs` | `in_place/blocks_of_32.rs` |
//! | 2 to 3 | `in_place/few_rows.rs` | `in_place/blocks_of_32.rs` |
//! | 4 to 8 | `in_place/few_rows.rs` | `panel.rs`, `tile/blocks_of_32.rs` |
//! | more | `panel.rs`, `tile/super_blocks.rs` | `panel.rs`, `tile/blocks_of_32.rs` |

mod ahead;
mod class;
mod decode;
mod in_place;
mod pack;
mod panel;
mod region;
mod tile;

use std::marker::PhantomData;

use super::row_panel::{Packed, QuantMatmul, RowPanel, Scratch};
use crate::kernel::pool::Team;
use crate::quant::{self, ActivationRows, Format};
use crate::simd::avx512::Avx512;

pub(super) use ahead::fetch_target;
pub(super) use decode::{GROUP, Head16, Head32, SmallCodes, SuperScales, scale_word};
pub(super) use panel::{scales, sixteen_rows};
pub(super) use region::{Kernel, run};

use ahead::{Ahead, fetch_next_step};
use class::{Class, Min16, Min32, Offset16, SuperClass};
use decode::Lanes;
use pack::{Interleaved, STEP, TILE_ROWS, Threes, rows_of_tile};
use panel::{Panel, Unpack, unpack_small, unpack_super};

/// Most rows of activations that super-blocks are multiplied with in place; with more a
/// panel is faster.
const FEW_ROWS: usize = 8;

/// Batches of 32-wide formats up to this many rows unpack and multiply [`STEP`]
/// columns at a time.
const FEW_TILES: usize = 2 * tile::SMALL_ROWS;

/// A thread's working memory.
#[derive(Debug, Default)]
struct Memory {
    /// `[batch, rows, blocks]`: what each block adds before the activations' scale.
    values: Vec<f32>,
    panel: Panel,
}

impl QuantMatmul for Avx512 {
    /// For super-blocks; 32-wide formats read the rows as they are.
    fn pack(&self, team: &Team<'_>, packed: &mut Packed, formats: &[Format]) {
        let batch = packed.batch();
        if packed.rows().block_len() == 32 || batch == 0 {
            return;
        }
        if batch > FEW_ROWS {
            let (rows, threes) = packed.layout_mut::<Threes>();
            threes.fill(team, *self, rows);
        } else if batch > 1 || formats.iter().any(|&format| !has_one_row_kernel(format)) {
            let (rows, interleaved) = packed.layout_mut::<Interleaved>();
            interleaved.fill(team, *self, rows, rows_in_place(batch));
        }
    }

    fn multiply(
        &self,
        weights: &RowPanel<'_>,
        packed: &Packed,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        let memory = scratch.of();
        weights.each(packed.batch(), out, |weights, out| {
            products(*self, Operands { weights, packed, memory, out });
        });
    }
}

/// Whether one row of activations is multiplied by `in_place/one_row.rs`. The codes of
/// IQ4_XS use all 8 bits, those of `Wide` 7: sums of four products are too large for the
/// words there.
fn has_one_row_kernel(format: Format) -> bool {
    format != Format::IQ4_XS && !format.is_rewritten()
}

/// Rows of a unit of [`Interleaved`]: those that the kernels for up to [`FEW_ROWS`] rows
/// are made for.
fn rows_in_place(batch: usize) -> usize {
    match batch {
        5 => 6,
        7 => 8,
        _ => batch,
    }
}

struct Operands<'a> {
    weights: &'a RowPanel<'a>,
    packed: &'a Packed,
    memory: &'a mut Memory,
    out: &'a mut [f32],
}

/// The products of a panel.
fn products(simd: Avx512, operands: Operands<'_>) {
    macro_rules! super_blocks {
        ($format:ident) => {{
            type F = quant::$format;
            match operands.packed.batch() {
                1 => run(simd, OneRow::<F>(operands, PhantomData)),
                _ => few_or_many::<F>(simd, operands),
            }
        }};
    }
    macro_rules! blocks_of_32 {
        ($format:ident) => {{
            type F = quant::$format;
            match operands.packed.batch() {
                1 => run(simd, SmallInPlace::<F, 1>(operands, PhantomData)),
                2 => run(simd, SmallInPlace::<F, 2>(operands, PhantomData)),
                3 => run(simd, SmallInPlace::<F, 3>(operands, PhantomData)),
                _ => small_tiles::<F>(simd, operands),
            }
        }};
    }
    macro_rules! wide_codes {
        ($format:ident) => {{
            type F = quant::$format;
            match operands.packed.batch() {
                1 => run(simd, FewRows::<F, 1, 1>(operands, PhantomData)),
                _ => few_or_many::<F>(simd, operands),
            }
        }};
    }
    match operands.weights.format {
        Format::Q2_K => super_blocks!(Q2_K),
        Format::Q3_K => super_blocks!(Q3_K),
        Format::Q4_K => super_blocks!(Q4_K),
        Format::Q5_K => super_blocks!(Q5_K),
        Format::Q6_K => super_blocks!(Q6_K),
        Format::IQ4_XS => wide_codes!(IQ4_XS),
        format if format.is_rewritten() => wide_codes!(Wide),
        Format::Q4_0 => blocks_of_32!(Q4_0),
        Format::Q4_1 => blocks_of_32!(Q4_1),
        Format::Q5_0 => blocks_of_32!(Q5_0),
        Format::Q5_1 => blocks_of_32!(Q5_1),
        Format::Q8_0 => blocks_of_32!(Q8_0),
        Format::IQ4_NL => blocks_of_32!(IQ4_NL),
        Format::MXFP4 => blocks_of_32!(MXFP4),
        format => no_blocks(format),
    }
}

/// Two and more rows of activations.
fn few_or_many<F: Lanes>(simd: Avx512, operands: Operands<'_>) {
    match operands.packed.batch() {
        2 => run(simd, FewRows::<F, 2, 1>(operands, PhantomData)),
        3 => run(simd, FewRows::<F, 3, 1>(operands, PhantomData)),
        4 => run(simd, FewRows::<F, 4, 1>(operands, PhantomData)),
        5..=6 => run(simd, FewRows::<F, 6, 2>(operands, PhantomData)),
        7..=FEW_ROWS => run(simd, FewRows::<F, 8, 2>(operands, PhantomData)),
        _ => many::<F>(simd, operands),
    }
}

/// More rows of activations than are multiplied in place.
fn many<F: SuperScales>(simd: Avx512, operands: Operands<'_>) {
    let format = Unpacked { class: const { Class::of_super::<F>() }, unpack: unpack_super::<F> };
    match (F::SUB, F::HAS_MIN) {
        (16, true) => run(simd, SuperTiles::<Min16>(operands, format, PhantomData)),
        (16, false) => run(simd, SuperTiles::<Offset16>(operands, format, PhantomData)),
        _ => run(simd, SuperTiles::<Min32>(operands, format, PhantomData)),
    }
}

/// Four and more rows of activations.
fn small_tiles<F: SmallCodes>(simd: Avx512, operands: Operands<'_>) {
    let format = Unpacked { class: const { Class::of_small::<F>() }, unpack: unpack_small::<F> };
    match F::HAS_MIN {
        true => run(simd, SmallTiles::<true>(operands, format)),
        false => run(simd, SmallTiles::<false>(operands, format)),
    }
}

/// What tiles have to know of a format.
struct Unpacked {
    class: Class,
    unpack: Unpack,
}

/// Float weights have kernels elsewhere; here they would be our bug.
pub(super) fn no_blocks(format: Format) {
    debug_assert!(false, "{format} has no blocks");
}

struct OneRow<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: SuperScales> Kernel for OneRow<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { weights, packed, memory, out } = self.0;
        in_place::one_row::<F>(simd, weights, packed.rows(), &mut memory.values, out);
    }
}

struct SmallInPlace<'a, F, const M: usize>(Operands<'a>, PhantomData<F>);

impl<F: SmallCodes, const M: usize> Kernel for SmallInPlace<'_, F, M> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { weights, packed, memory, out } = self.0;
        in_place::small_blocks::<F, M>(simd, weights, packed.rows(), &mut memory.values, out);
    }
}

struct FewRows<'a, F, const M: usize, const Q: usize>(Operands<'a>, PhantomData<F>);

impl<F: Lanes, const M: usize, const Q: usize> Kernel for FewRows<'_, F, M, Q> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { weights, packed, out, .. } = self.0;
        let units = packed.layout::<Interleaved>().units();
        in_place::few_rows::<F, M, Q>(simd, weights, (packed.batch(), units), out);
    }
}

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

struct SuperTiles<'a, C>(Operands<'a>, Unpacked, PhantomData<C>);

impl<C: SuperClass> Kernel for SuperTiles<'_, C> {
    /// A step of columns is unpacked, then all rows pass by it.
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let SuperTiles(Operands { weights, packed, memory, out }, Unpacked { class, unpack }, _) =
            self;
        let (batch, cols, panel) = (packed.batch(), weights.cols, &mut memory.panel);
        let tiles = batch.div_ceil(TILE_ROWS);
        // Many rows push a panel out of the L2 cache before its turn comes.
        let by_steps = tiles >= RowPanel::ROWS;
        let (unpacking, ahead) =
            if by_steps { (Ahead::NONE, Ahead::NONE) } else { Ahead::new(weights, tiles, true) };
        let mut blocks = packed.layout::<Threes>().blocks();
        for start in (0..cols).step_by(STEP) {
            let columns = start..cols.min(start + STEP);
            let last = columns.end == cols;
            unpack(simd, weights, columns.clone(), unpacking, panel);
            for i in 0..tiles {
                let rows = rows_of_tile(batch, i);
                let (tile, rest) = blocks.split_at(columns.len() / 256);
                blocks = rest;
                if by_steps && i < RowPanel::ROWS {
                    fetch_next_step(simd, weights, i, columns.end);
                }
                if last {
                    fetch_target(simd, weights, 0, rows.clone());
                }
                let out = &mut out[rows.start * RowPanel::ROWS..rows.end * RowPanel::ROWS];
                let ahead = ahead.tile(weights, i);
                with_rows!(rows.len(); 1, 2; 3; M => {
                    tile::super_tile::<C, M>(simd, class, panel, tile, start, ahead, out)
                });
            }
        }
    }
}

struct SmallTiles<'a, const HAS_MIN: bool>(Operands<'a>, Unpacked);

impl<const HAS_MIN: bool> Kernel for SmallTiles<'_, HAS_MIN> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let SmallTiles(Operands { weights, packed, memory, out }, Unpacked { class, unpack }) =
            self;
        let rows: &ActivationRows = packed.rows();
        let (batch, cols, panel) = (packed.batch(), weights.cols, &mut memory.panel);
        let tiles = batch.div_ceil(tile::SMALL_ROWS);
        let (_, ahead) = Ahead::new(weights, tiles, false);
        let step = if batch <= FEW_TILES { STEP } else { cols };
        for start in (0..cols).step_by(step) {
            let columns = start..cols.min(start + step);
            unpack(simd, weights, columns.clone(), Ahead::NONE, panel);
            for i in 0..tiles {
                let tile = tile::rows_of_small_tile(batch, i);
                let out = &mut out[tile.start * RowPanel::ROWS..tile.end * RowPanel::ROWS];
                let (first, ahead) = (tile.start, ahead.tile(weights, i));
                with_rows!(tile.len(); 1, 2, 3, 4, 5; 6; M => {
                    tile::small_tile::<HAS_MIN, M>(simd, class, panel, rows, first, &columns, ahead, out)
                });
            }
        }
    }
}
