//! One to three rows of activations: weights are read where they lie, one row
//! after the other (one linear stream from memory), decoded once in registers.
//!
//! ```text
//! per block:    isum and msum as 8 partial sums in lanes
//! per 8 blocks: a tree of sums → 8 block values t, stored as values[m, n, b]
//! per panel:    acc = fma(t, d8, acc) in order of b, 8 rows in lanes
//! ```
//! The chain of a row is as long as its blocks, and each link waits for the one
//! before; done after the panel, all rows' chains advance together.

use std::arch::x86_64::{__m256, __m256i};
use std::marker::PhantomData;

use super::decode::Decode;
use super::lanes::{block_values, sums32, transpose};
use super::products::{Kernel, Products};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::{ActivationRow, ActivationRows};
use crate::simd::avx2::{Ops, Vector};

/// The largest batch for this algorithm: a Q4_K super-block costs 17, 27 and 38
/// cycles for 1 to 3 rows (Zen 5, from L2), with a panel 46 for 4.
pub(super) const MAX_BATCH: usize = 3;

/// How far ahead of the weights in use memory is asked for more. One thread reads
/// 28 GB/s of Q4_K with 4 KiB, 32 with 8 KiB.
const AHEAD: usize = 8192;

/// Block values: `[batch, rows, blocks / 8]` vectors of 8 f32.
#[derive(Debug, Default)]
pub(super) struct Values(Vec<Vector>);

/// Multiplies a panel with 1 to [`MAX_BATCH`] rows.
#[inline(always)]
pub(super) fn multiply<F: Decode>(
    simd: Products<false>,
    weights: &RowPanel<'_>,
    rows: &ActivationRows,
    values: &mut Values,
    out: &mut [f32],
) {
    match rows.rows() {
        1 => simd.call(Rows::<F, 1> { weights, rows, values, out, format: PhantomData }),
        2 => simd.call(Rows::<F, 2> { weights, rows, values, out, format: PhantomData }),
        3 => simd.call(Rows::<F, 3> { weights, rows, values, out, format: PhantomData }),
        batch => debug_assert!(batch == 0, "a batch of {batch}"),
    }
}

struct Rows<'a, F, const M: usize> {
    weights: &'a RowPanel<'a>,
    rows: &'a ActivationRows,
    values: &'a mut Values,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

impl<F: Decode, const M: usize> Kernel for Rows<'_, F, M> {
    type Output = ();

    #[inline(always)]
    fn run<const VNNI: bool>(self, simd: Products<VNNI>) {
        let Rows { weights, rows, values, out, .. } = self;
        let ops = simd.ops;
        let groups = (weights.cols / F::LEN).div_ceil(8);
        values.0.resize(M * weights.rows * groups, Vector::ZERO);
        let activations: [ActivationRow<'_>; M] = std::array::from_fn(|m| rows.row(m));
        for n in 0..weights.rows {
            for (g, blocks) in F::blocks(weights.row(n)).chunks(8).enumerate() {
                let t = group::<F, M>(ops, blocks, g, &activations);
                for (m, t) in t.into_iter().enumerate() {
                    let place = &mut values.0[(m * weights.rows + n) * groups + g];
                    ops.store_vector(ops.as_integers(t), place);
                }
            }
        }
        for (m, values) in values.0.chunks_exact(weights.rows * groups).enumerate() {
            let behind = weights.bytes.as_ptr().wrapping_add(weights.bytes.len() + AHEAD);
            let out = &mut out[m * RowPanel::ROWS..][..RowPanel::ROWS];
            chains(ops, values, groups, activations[m].d, behind, out);
        }
    }
}

/// The values of up to 8 blocks, group `g` of their row, with M rows.
#[inline(always)]
fn group<F: Decode, const M: usize>(
    ops: Ops,
    blocks: &[F::Block],
    g: usize,
    activations: &[ActivationRow<'_>; M],
) -> [__m256; M] {
    let mut isums = [[ops.zero(); 8]; M];
    let mut msums = [[ops.zero(); 8]; M];
    let (mut d, mut dmin) = ([0; 8], [0; 8]);
    if F::SMALL {
        prefetch(ops, blocks);
    }
    for (i, block) in blocks.iter().enumerate().take(8) {
        [d[i], dmin[i]] = F::float_scales(block);
        let b = 8 * g + i;
        if F::SMALL {
            let code = F::codes(ops, block)[0];
            for m in 0..M {
                let q = &activations[m].q.as_chunks().0[b];
                let pairs = code_pairs::<F>(ops, code, ops.load_codes(q));
                isums[m][i] = ops.madd(pairs, ops.splat16(1));
            }
            continue;
        }
        prefetch(ops, std::slice::from_ref(block));
        let codes = F::codes(ops, block);
        let scales = F::integer_scales(ops, block);
        let mins = if F::HAS_MIN { F::integer_mins(ops, block) } else { ops.zero() };
        for m in 0..M {
            let q: &[[i8; 32]; 8] = &activations[m].q.as_chunks().0.as_chunks().0[b];
            let sums = ops.load_i16(&activations[m].sums.as_chunks().0[b]);
            isums[m][i] = products::<F>(ops, codes, scales, q, sums);
            if F::HAS_MIN {
                msums[m][i] = ops.madd(mins, sums);
            }
        }
    }
    let [d, dmin] = F::to_f32(ops, [&d, &dmin]);
    let mut t = [ops.splat_f32(0.0); M];
    for (m, t) in t.iter_mut().enumerate() {
        let mut isum = sums32(ops, &isums[m]);
        let mut msum = ops.zero();
        if F::SMALL && (F::HAS_MIN || !F::WIDE_CODES) {
            msum = block_sums(ops, activations[m].sums, g);
            if !F::HAS_MIN {
                isum = ops.sub32(isum, ops.mullo32(msum, ops.splat32(F::OFFSET.into())));
            }
        } else if F::HAS_MIN {
            msum = sums32(ops, &msums[m]);
        }
        *t = block_values(ops, F::HAS_MIN, [isum, msum], [d, dmin]);
    }
    t
}

/// Asks for the memory a constant distance behind the blocks.
#[inline(always)]
fn prefetch<B>(ops: Ops, blocks: &[B]) {
    for at in (0..size_of_val(blocks)).step_by(64) {
        ops.prefetch(blocks.as_ptr().cast::<u8>().wrapping_add(AHEAD + at));
    }
}

/// Sums of the codes of blocks 8g .. 8g + 8 of 32.
#[inline(always)]
fn block_sums(ops: Ops, sums: &[i16], g: usize) -> __m256i {
    let rest = &sums[16 * g..];
    let sixteen = match rest.first_chunk() {
        Some(sums) => ops.load_i16(sums),
        None => {
            let mut sums = [0; 16];
            sums[..rest.len()].copy_from_slice(rest);
            ops.load_i16(&sums)
        }
    };
    ops.madd(sixteen, ops.splat16(1))
}

/// Sums of two products: of the unsigned codes, or for codes of 8 bits those of
/// `|q|` and `a` with q's sign.
#[inline(always)]
fn code_pairs<F: Decode>(ops: Ops, unsigned: __m256i, a: __m256i) -> __m256i {
    if F::WIDE_CODES {
        let q = ops.xor(unsigned, ops.splat8(-128));
        ops.maddubs(ops.abs8(q), ops.sign8(a, q))
    } else {
        ops.maddubs(unsigned, a)
    }
}

/// Partial sums of a super-block, offset included. Adding pairs in i16 first, for
/// fewer products with scales, takes as many shuffles and was no faster.
#[inline(always)]
fn products<F: Decode>(
    ops: Ops,
    codes: [__m256i; 8],
    scales: __m256i,
    a: &[[i8; 32]; 8],
    sums: __m256i,
) -> __m256i {
    // Scales 0–7 and 8–15, each in both halves, for `shuffle8`.
    let low = ops.permute128::<0x00>(scales, scales);
    let high = ops.permute128::<0x11>(scales, scales);
    let mut sum = ops.zero();
    for i in 0..8 {
        let pairs = code_pairs::<F>(ops, codes[i], ops.load_codes(&a[i]));
        let scale = ops.shuffle8(if i < 4 { low } else { high }, ops.load(&SPREAD[i % 4]));
        sum = ops.add32(sum, ops.madd(pairs, scale));
    }
    if F::OFFSET != 0 && !F::WIDE_CODES {
        let offset = ops.madd(ops.mullo16(scales, ops.splat16(F::OFFSET)), sums);
        sum = ops.sub32(sum, offset);
    }
    sum
}

/// Shuffles of eight i16 scales to the lanes of vector i of codes: scale 2i to its
/// first half, scale 2i + 1 to the second.
const SPREAD: [[u8; 32]; 4] = {
    let mut all = [[0; 32]; 4];
    let mut i = 0;
    while i < 128 {
        all[i / 32][i % 32] = 2 * (i / 16) as u8 + (i % 2) as u8;
        i += 1;
    }
    all
};

/// `acc = fma(t, d8, acc)` over the blocks, for all rows of the panel:
/// `values[row, group]`. What comes `behind` is fetched meanwhile, so that the memory does
/// not wait for the sums.
#[inline(always)]
fn chains(
    ops: Ops,
    values: &[Vector],
    groups: usize,
    d8: &[f32],
    behind: *const u8,
    out: &mut [f32],
) {
    let rows = values.len() / groups;
    let eights = rows.div_ceil(8);
    let mut acc = [ops.splat_f32(0.0); RowPanel::ROWS / 8];
    for (g, d8) in d8.chunks(8).enumerate() {
        for (e, acc) in acc[..eights].iter_mut().enumerate() {
            // A panel's last eight may be short: the last row stands in.
            let mut eight = [&values[g]; 8];
            for (i, row) in eight.iter_mut().enumerate() {
                *row = &values[(8 * e + i).min(rows - 1) * groups + g];
            }
            for line in 0..4 {
                ops.prefetch(behind.wrapping_add(64 * (4 * (g * eights + e) + line)));
            }
            let t = transpose(ops, eight);
            for (t, d8) in t.into_iter().zip(d8) {
                *acc = ops.fma(ops.as_floats(t), ops.splat_f32(*d8), *acc);
            }
        }
    }
    for (out, acc) in out.as_chunks_mut().0.iter_mut().zip(acc).take(eights) {
        ops.store_f32(acc, out);
    }
}
