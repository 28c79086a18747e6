//! Products of float weights (F32, F16, BF16) with f32 activations, on every tier. Quantized
//! formats that are multiplied so become F32 first, a row panel at a time.

mod in_place;
mod panel;
mod weights;

use std::marker::PhantomData;

pub(super) use panel::{FloatPanel, FloatRows};
pub(super) use weights::FloatRowPanel;
use weights::{BF16, F16, F32, Floats};

use crate::quant::{Format, float};
use crate::simd::{Isa, Simd, Task};

/// `out[m, n]`, rows [`RowPanel::ROWS`](super::RowPanel::ROWS) apart, of `x` = `[batch,
/// cols]`; of the same in `tiles` where a panel pays.
pub(super) fn multiply(
    isa: Isa,
    weights: &FloatRowPanel<'_>,
    (x, tiles): (&[f32], Option<&FloatRows>),
    panel: &mut FloatPanel,
    out: &mut [f32],
) {
    macro_rules! run {
        ($format:ident) => {
            isa.run(Multiply { weights, x, tiles, panel, out, format: PhantomData::<$format> })
        };
    }
    match weights.format {
        Format::F16 => run!(F16),
        Format::BF16 => run!(BF16),
        Format::F32 => run!(F32),
        format => {
            let mut bytes = std::mem::take(&mut panel.decoded);
            bytes.resize(weights.rows * weights.cols * size_of::<f32>(), 0);
            isa.run(Decode { format, bytes: weights.bytes, out: &mut bytes });
            let weights = FloatRowPanel { format: Format::F32, bytes: &bytes, ..*weights };
            multiply(isa, &weights, (x, tiles), panel, out);
            panel.decoded = bytes;
        }
    }
}

/// Weights of a quantized format, to F32.
struct Decode<'a> {
    format: Format,
    bytes: &'a [u8],
    out: &'a mut [u8],
}

impl Task for Decode<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, _: S) {
        float::rewrite(self.format, self.bytes, self.out);
    }
}

/// The products of a row panel of one format.
struct Multiply<'a, F> {
    weights: &'a FloatRowPanel<'a>,
    x: &'a [f32],
    tiles: Option<&'a FloatRows>,
    panel: &'a mut FloatPanel,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Floats> Task for Multiply<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Multiply { weights, x, tiles, panel, out, .. } = self;
        match tiles {
            Some(x) => panel.multiply::<S, F>(simd, weights, x, out),
            None => weights.in_place::<S, F>(simd, x, out),
        }
    }
}
