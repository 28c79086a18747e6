//! Which kernel multiplies a strip: by format and number of activation rows.

use std::marker::PhantomData;

use super::codes::SmallCodes;
use super::scales::SuperScales;
use super::{Avx512, matvec, matvec_small};
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

/// The product of a strip.
pub(super) fn products(simd: Avx512, strip: &Strip<'_>, scratch: &mut Scratch, out: &mut [f32]) {
    macro_rules! by_batch {
        ($matvec:ident $format:ident) => {{
            type F = quant::$format;
            let batch = strip.batch();
            let operands = Operands { strip, scratch, out };
            match batch {
                1 => run(simd, $matvec::<F, 1>(operands, PhantomData)),
                2 => run(simd, $matvec::<F, 2>(operands, PhantomData)),
                3 => run(simd, $matvec::<F, 3>(operands, PhantomData)),
                4 => run(simd, $matvec::<F, 4>(operands, PhantomData)),
                _ => {
                    crate::simd::strip::unpack_and_dot(simd, strip, operands.scratch, operands.out)
                }
            }
        }};
    }
    match strip.format {
        Format::Q2_K => by_batch!(SuperMatvec Q2_K),
        Format::Q3_K => by_batch!(SuperMatvec Q3_K),
        Format::Q4_K => by_batch!(SuperMatvec Q4_K),
        Format::Q5_K => by_batch!(SuperMatvec Q5_K),
        Format::Q6_K => by_batch!(SuperMatvec Q6_K),
        Format::Q4_0 => by_batch!(SmallMatvec Q4_0),
        Format::Q4_1 => by_batch!(SmallMatvec Q4_1),
        Format::Q5_0 => by_batch!(SmallMatvec Q5_0),
        Format::Q5_1 => by_batch!(SmallMatvec Q5_1),
        Format::Q8_0 => by_batch!(SmallMatvec Q8_0),
        Format::IQ4_NL => by_batch!(SmallMatvec IQ4_NL),
        _ => crate::simd::strip::unpack_and_dot(simd, strip, scratch, out),
    }
}
