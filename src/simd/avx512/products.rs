//! Which kernel multiplies a strip: by format and number of activation rows.

use std::marker::PhantomData;

use super::codes::SmallCodes;
use super::scales::SuperScales;
use super::{Avx512, matvec, matvec_small, tile};
use crate::quant::{self, Format};
use crate::simd::{Scratch, Strip};

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

/// Runs `$tile::<F, M>` over all rows of the batch, in tiles of about one size.
macro_rules! for_tiles {
    ($strip:expr, $out:expr, |$first:ident, $rows:ident| $tile:ident::$function:ident::<$F:ident>($($operand:expr),*)) => {{
        let (batch, tiles) = ($strip.batch(), $strip.batch().div_ceil(tile::ROWS));
        for i in 0..tiles {
            let ($first, next) = (batch * i / tiles, batch * (i + 1) / tiles);
            let $rows = &mut $out[$first * Strip::ROWS..next * Strip::ROWS];
            match next - $first {
                1 => $tile::$function::<$F, 1>($($operand),*),
                2 => $tile::$function::<$F, 2>($($operand),*),
                3 => $tile::$function::<$F, 3>($($operand),*),
                4 => $tile::$function::<$F, 4>($($operand),*),
                5 => $tile::$function::<$F, 5>($($operand),*),
                _ => $tile::$function::<$F, 6>($($operand),*),
            }
        }
    }};
}

struct Operands<'a> {
    strip: &'a Strip<'a>,
    scratch: &'a mut Scratch,
    out: &'a mut [f32],
}

struct SuperMatvec<'a, F, const M: usize>(Operands<'a>, PhantomData<F>);

impl<F: SuperScales, const M: usize> Kernel for SuperMatvec<'_, F, M> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        matvec::super_blocks::<F, M>(simd, strip, &mut scratch.values, out);
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

struct SuperTiles<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: SuperScales> Kernel for SuperTiles<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        scratch.panel.unpack_super::<F>(simd, strip);
        for_tiles!(strip, out, |first, out| tile::super_tile::<F>(
            simd,
            &scratch.panel,
            strip.activations,
            first,
            out
        ));
    }
}

struct SmallTiles<'a, F>(Operands<'a>, PhantomData<F>);

impl<F: SmallCodes> Kernel for SmallTiles<'_, F> {
    #[inline(always)]
    fn run(self, simd: Avx512) {
        let Operands { strip, scratch, out } = self.0;
        scratch.panel.unpack_small::<F>(simd, strip);
        for_tiles!(strip, out, |first, out| tile::small_tile::<F>(
            simd,
            &scratch.panel,
            strip.activations,
            first,
            out
        ));
    }
}

/// The product of a strip.
pub(super) fn products(simd: Avx512, strip: &Strip<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    macro_rules! by_batch {
        ($matvec:ident $tiles:ident $format:ident) => {{
            type F = quant::$format;
            let batch = strip.batch();
            let operands = Operands { strip, scratch, out };
            match batch {
                1 => run(simd, $matvec::<F, 1>(operands, PhantomData)),
                2 => run(simd, $matvec::<F, 2>(operands, PhantomData)),
                3 => run(simd, $matvec::<F, 3>(operands, PhantomData)),
                _ => run(simd, $tiles::<F>(operands, PhantomData)),
            }
        }};
    }
    match strip.format {
        Format::Q2_K => by_batch!(SuperMatvec SuperTiles Q2_K),
        Format::Q3_K => by_batch!(SuperMatvec SuperTiles Q3_K),
        Format::Q4_K => by_batch!(SuperMatvec SuperTiles Q4_K),
        Format::Q5_K => by_batch!(SuperMatvec SuperTiles Q5_K),
        Format::Q6_K => by_batch!(SuperMatvec SuperTiles Q6_K),
        Format::Q4_0 => by_batch!(SmallMatvec SmallTiles Q4_0),
        Format::Q4_1 => by_batch!(SmallMatvec SmallTiles Q4_1),
        Format::Q5_0 => by_batch!(SmallMatvec SmallTiles Q5_0),
        Format::Q5_1 => by_batch!(SmallMatvec SmallTiles Q5_1),
        Format::Q8_0 => by_batch!(SmallMatvec SmallTiles Q8_0),
        Format::IQ4_NL => by_batch!(SmallMatvec SmallTiles IQ4_NL),
        Format::IQ4_XS => {
            let operands = Operands { strip, scratch, out };
            run(simd, SuperTiles::<quant::IQ4_XS>(operands, PhantomData));
        }
        Format::F32 | Format::F16 | Format::BF16 => {
            debug_assert!(false, "{} has no blocks", strip.format);
        }
    }
}
