//! Scalar integers over unpacked blocks.

use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::{ActivationRows, BlockFormat, Codes, Scales, block_value};
use crate::simd::{Portable, Simd};

/// The products of one panel. `acc`: memory for a sum of each row of activations.
#[inline(never)]
pub(super) fn multiply<F: BlockFormat>(
    weights: &RowPanel<'_>,
    activations: &ActivationRows,
    acc: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (mut q, mut scale, mut min) = ([0; 256], [0; 16], [0; 16]);
    let (q, scale, min) = (&mut q[..F::LEN], &mut scale[..F::LEN / 16], &mut min[..F::LEN / 16]);
    acc.resize(activations.rows(), 0.0);
    for n in 0..weights.rows {
        acc.fill(0.0);
        for (b, block) in F::blocks(weights.row(n)).iter().enumerate() {
            F::unpack(block, Codes { q: &mut *q, scale: &mut *scale, min: &mut *min });
            let Scales { d, dmin } = F::scales(block);
            for (m, acc) in acc.iter_mut().enumerate() {
                let row = activations.row(m);
                let isum = Portable.dot_codes(q, scale, &row.q[b * F::LEN..(b + 1) * F::LEN]);
                let sums = &row.sums[b * F::LEN / 16..(b + 1) * F::LEN / 16];
                let msum = if F::HAS_MIN { Portable.dot_mins(min, sums) } else { 0 };
                *acc = block_value(isum, msum, d, dmin).mul_add(row.d[b], *acc);
            }
        }
        for (m, &acc) in acc.iter().enumerate() {
            out[m * RowPanel::ROWS + n] = acc;
        }
    }
}
