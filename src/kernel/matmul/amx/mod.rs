//! AMX: many rows of activations by the tile multiplier; fewer as AVX-512 does.

mod class;
mod pack;
mod panel;
mod tile;

use std::marker::PhantomData;

use super::avx512::{Kernel, SmallCodes, no_blocks, run};
use super::row_panel::{Packed, QuantMatmul, RowPanel, Scratch};
use crate::kernel::pool::Team;
use crate::quant::{self, Format};
use crate::simd::avx512::{Amx, Avx512};
use class::{Class, Min32, NoMin, OneByteMin16};
use pack::{Of32, Of256, Sixteens};
use panel::{ProductScales, unpack};

/// With fewer rows the vector instructions are as fast: unpacking takes longer than
/// multiplying.
const FEWEST: usize = 48;

/// Panels of weights that pass by a block of activations together: 512 rows of a block are
/// 180 KiB, and the sums of the panels 64 KiB each. All blocks of 512 rows do not fit the L2
/// cache, and without company each panel would read them from the L3 cache: 2.5 times the
/// time of its multiplications.
const PANELS: usize = 8;

impl QuantMatmul for Amx {
    fn pack(&self, team: &Team<'_>, packed: &mut Packed, formats: &[Format]) {
        if packed.batch() < FEWEST {
            self.avx512().pack(team, packed, formats);
        } else if packed.rows().block_len() == 32 {
            let (rows, sixteens) = packed.layout_mut::<Sixteens<Of32>>();
            sixteens.fill(team, rows);
        } else {
            let (rows, sixteens) = packed.layout_mut::<Sixteens<Of256>>();
            sixteens.fill(team, rows);
        }
    }

    fn multiply(
        &self,
        weights: &RowPanel<'_>,
        packed: &Packed,
        scratch: &mut Scratch,
        out: &mut [f32],
    ) {
        if packed.batch() < FEWEST {
            self.avx512().multiply(weights, packed, scratch, out);
        } else {
            tiles(self.avx512(), Operands { weights, packed, scratch, out });
        }
    }

    fn panels_at_once(&self, _: Format, batch: usize) -> usize {
        if batch < FEWEST { 1 } else { PANELS }
    }
}

struct Operands<'a> {
    /// One or several.
    weights: &'a RowPanel<'a>,
    packed: &'a Packed,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

fn tiles(simd: Avx512, operands: Operands<'_>) {
    match operands.weights.format {
        Format::Q2_K => super_tiles::<quant::Q2_K>(simd, operands),
        Format::Q3_K => super_tiles::<quant::Q3_K>(simd, operands),
        Format::Q4_K => super_tiles::<quant::Q4_K>(simd, operands),
        Format::Q5_K => super_tiles::<quant::Q5_K>(simd, operands),
        Format::Q6_K => super_tiles::<quant::Q6_K>(simd, operands),
        Format::IQ4_XS => super_tiles::<quant::IQ4_XS>(simd, operands),
        format if format.is_rewritten() => super_tiles::<quant::Wide>(simd, operands),
        Format::Q4_0 => small_tiles::<quant::Q4_0>(simd, operands),
        Format::Q4_1 => small_tiles::<quant::Q4_1>(simd, operands),
        Format::Q5_0 => small_tiles::<quant::Q5_0>(simd, operands),
        Format::Q5_1 => small_tiles::<quant::Q5_1>(simd, operands),
        Format::Q8_0 => small_tiles::<quant::Q8_0>(simd, operands),
        Format::IQ4_NL => small_tiles::<quant::IQ4_NL>(simd, operands),
        Format::MXFP4 => small_tiles::<quant::MXFP4>(simd, operands),
        format => no_blocks(format),
    }
}

fn super_tiles<F: ProductScales>(simd: Avx512, operands: Operands<'_>) {
    let unpack = unpack::<F>;
    match (F::ONE_BYTE, F::HAS_MIN, F::SUB) {
        (true, true, 16) => run(simd, SuperTiles::<OneByteMin16>(operands, unpack, PhantomData)),
        (false, true, 32) => run(simd, SuperTiles::<Min32>(operands, unpack, PhantomData)),
        (false, false, _) => run(simd, SuperTiles::<NoMin>(operands, unpack, PhantomData)),
        _ => unreachable!("{} is of no class", F::FORMAT),
    }
}

fn small_tiles<F: SmallCodes>(simd: Avx512, operands: Operands<'_>) {
    let unpack = tile::unpack_small::<F>;
    match F::HAS_MIN {
        true => run(simd, SmallTiles::<true>(operands, unpack)),
        false => run(simd, SmallTiles::<false>(operands, unpack)),
    }
}

struct SuperTiles<'a, C>(Operands<'a>, panel::Unpack, PhantomData<C>);

impl<C: Class> Kernel for SuperTiles<'_, C> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let SuperTiles(Operands { weights, packed, scratch, out }, unpack, _) = self;
        let columns = packed.layout::<Sixteens<Of256>>().columns();
        let memory = scratch.of::<tile::SuperMemory>();
        tile::super_tiles::<C>(simd, (weights, unpack), (packed.batch(), columns), memory, out);
    }
}

struct SmallTiles<'a, const HAS_MIN: bool>(Operands<'a>, tile::UnpackSmall);

impl<const HAS_MIN: bool> Kernel for SmallTiles<'_, HAS_MIN> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let SmallTiles(Operands { weights, packed, scratch, out }, unpack) = self;
        let columns = packed.layout::<Sixteens<Of32>>().columns();
        let memory = scratch.of::<tile::SmallMemory>();
        let (panels, columns) = ((weights, unpack), (packed.batch(), columns));
        tile::small_tiles::<HAS_MIN>(simd, panels, columns, memory, out);
    }
}
