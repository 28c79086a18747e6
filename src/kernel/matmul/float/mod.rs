//! Products of float weights (F32, F16, BF16) with f32 activations, on every tier.

mod in_place;
mod panel;
mod weights;

use std::marker::PhantomData;

pub(super) use panel::{FloatPanel, FloatRows};
pub(super) use weights::FloatRowPanel;
use weights::{BF16, F16, F32, Floats};

use crate::quant::Format;
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
        _ => run!(F32),
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
