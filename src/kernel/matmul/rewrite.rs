//! Row panels of formats without kernels of their own, rewritten as [`Wide`] super-blocks.
//!
//! A panel is written to a thread's memory, 1.25 bytes per weight, and multiplied there as
//! panels of other formats are where they lie in the file. So the kernels of a tier need to
//! know one format more, however many there are.

use std::marker::PhantomData;

use super::row_panel::RowPanel;
use crate::quant::aligned::Aligned;
use crate::quant::wide::{self, Rewritten, Signs, WideBlock};
use crate::quant::with_rewritten_format;
use crate::simd::{Isa, Simd, Task};

/// How far ahead of their use weights are fetched, in bytes.
const AHEAD: usize = 2048;

/// A thread's memory for rewritten panels, kept from call to call.
#[derive(Debug, Default)]
pub(super) struct WideRows(Aligned<u8>);

impl WideRows {
    /// The same panels, rewritten.
    pub fn rewrite<'a>(&'a mut self, isa: Isa, weights: &RowPanel<'_>) -> RowPanel<'a> {
        self.0.resize(weights.rows * weights.cols / 256 * size_of::<WideBlock>());
        let out = self.0.as_chunks_mut().0;
        with_rewritten_format!(
            weights.format,
            F => isa.for_tables().run(Rewrite::<F> { bytes: weights.bytes, out, format: PhantomData }),
            else => debug_assert!(false, "{} has kernels", weights.format)
        );
        RowPanel { bytes: &self.0, ..*weights }
    }
}

/// Signs by the instructions of a tier.
#[derive(Clone, Copy)]
struct Tier<S>(S);

impl<S: Simd> Signs for Tier<S> {
    #[inline(always)]
    fn put(self, magnitudes: [u64; 4], signs: u32, out: &mut [u8; 32]) {
        self.0.put_signs(magnitudes, signs, out);
    }
}

struct Rewrite<'a, F> {
    /// Blocks, row after row.
    bytes: &'a [u8],
    out: &'a mut [WideBlock],
    format: PhantomData<F>,
}

impl<F: Rewritten> Task for Rewrite<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        for (block, out) in F::blocks(self.bytes).iter().zip(self.out) {
            let ahead = std::ptr::from_ref(block).cast::<u8>().wrapping_add(AHEAD);
            for line in (0..size_of::<F::Block>()).step_by(64) {
                simd.prefetch(ahead.wrapping_add(line));
            }
            wide::write::<F>(block, Tier(simd), out);
        }
    }
}
