//! Strips: a few neighbouring rows of a quantized matrix times all rows of a
//! batch. The unit that kernels work in, whatever the format and the set.

use crate::quant::{
    ActivationRows, BlockFormat, Codes, Format, Scales, block_value, with_block_format,
};

use super::Simd;

/// Up to [`Strip::ROWS`] rows of quantized weights and what they are multiplied with.
pub(crate) struct Strip<'a> {
    /// A quantized format.
    pub format: Format,
    /// Weights per row: a multiple of the format's block.
    pub cols: usize,
    /// Weight rows, 1 to [`Strip::ROWS`].
    pub rows: usize,
    /// The weight rows, one behind the other: `rows` · bytes of a row.
    pub bytes: &'a [u8],
    /// `[batch, cols]`, in blocks of the format's
    /// [`activation_block_len`](Format::activation_block_len).
    pub activations: &'a ActivationRows,
}

impl<'a> Strip<'a> {
    /// Most rows of a strip: two AVX-512 registers of 32-bit lanes. Also the
    /// distance of output rows: `out[m · ROWS + n]` is weight row n times
    /// activation row m.
    pub const ROWS: usize = 32;

    /// Rows of activations.
    pub fn batch(&self) -> usize {
        self.activations.rows()
    }

    /// Bytes of weight row `n`.
    pub fn row(&self, n: usize) -> &'a [u8] {
        let len = self.bytes.len() / self.rows;
        &self.bytes[n * len..(n + 1) * len]
    }
}

/// A thread's working memory, kept from strip to strip.
#[derive(Debug, Default)]
pub(crate) struct Scratch {
    /// `[batch]`
    sums: Vec<f32>,
    /// `[batch, rows, blocks]`: what each block adds before the activations' scale.
    #[cfg(target_arch = "x86_64")]
    pub(super) values: Vec<f32>,
    #[cfg(target_arch = "x86_64")]
    pub(super) panel: super::avx512::Panel,
}

/// Any format on any set: a block is unpacked once and multiplied with every row
/// of the batch.
#[inline(always)]
pub(super) fn unpack_and_dot<S: Simd>(
    simd: S,
    strip: &Strip<'_>,
    scratch: &mut Scratch,
    out: &mut [f32],
) {
    with_block_format!(
        strip.format,
        F => blocks::<S, F>(simd, strip, &mut scratch.sums, out),
        else => debug_assert!(false, "{} has no blocks", strip.format)
    )
}

#[inline(always)]
fn blocks<S: Simd, F: BlockFormat>(
    simd: S,
    strip: &Strip<'_>,
    acc: &mut Vec<f32>,
    out: &mut [f32],
) {
    let (mut q, mut scale, mut min) = ([0; 256], [0; 16], [0; 16]);
    let (q, scale, min) = (&mut q[..F::LEN], &mut scale[..F::LEN / 16], &mut min[..F::LEN / 16]);
    acc.resize(strip.batch(), 0.0);
    for n in 0..strip.rows {
        acc.fill(0.0);
        for (b, block) in F::blocks(strip.row(n)).iter().enumerate() {
            F::unpack(block, Codes { q: &mut *q, scale: &mut *scale, min: &mut *min });
            let Scales { d, dmin } = F::scales(block);
            for (m, acc) in acc.iter_mut().enumerate() {
                let row = strip.activations.row(m);
                let isum = simd.dot_codes(q, scale, &row.q[b * F::LEN..(b + 1) * F::LEN]);
                let sums = &row.sums[b * F::LEN / 16..(b + 1) * F::LEN / 16];
                let msum = if F::HAS_MIN { simd.dot_mins(min, sums) } else { 0 };
                *acc = block_value(isum, msum, d, dmin).mul_add(row.d[b], *acc);
            }
        }
        for (m, &acc) in acc.iter().enumerate() {
            out[m * Strip::ROWS + n] = acc;
        }
    }
}
