//! One row of activations (32-wide formats, [`super::blocks_of_32`]: up to three): weights
//! are decoded where they lie in the file, once, and multiplied while they are in registers.
//!
//! Per block, with 256 unsigned codes u in four registers:
//! ```text
//! s[c]  = dpbusd(u[c], a[c])            lanes of 4 products    ≤ 4 · 63 · 127 < 2¹⁵
//! w     = packs(s[0], s[1]), packs(s[2], s[3])                 words, exact
//! sum   = madd(w[0], scale[0]) + madd(w[1], scale[1]) − offsets
//! isum  = the sum of its lanes          four blocks at a time
//! t     = fma(isum, d, −(msum · dmin))
//! ```
//! The values t of a row panel are kept, and the sums `acc = fma(t, d8, acc)` run
//! afterwards with 16 weight rows in the lanes: a chain of dependent operations
//! per 16 rows instead of one per row.
//!
//! Rows are read one after the other: one stream per thread is what the
//! prefetchers of the memory want (four at once: 0.8 of the bandwidth).

use std::arch::x86_64::*;

use crate::kernel::matmul::avx512::decode::{GROUP, SuperScales};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::ActivationRows;
use crate::simd::avx512::{AHEAD, Avx512, NEAR, dpwssd, load64, sum_each, transpose};

/// Bytes that are fetched while 16 values of 16 rows are added up.
const MEANWHILE: usize = 1024;

/// Activations of one row of the batch.
#[derive(Clone, Copy)]
pub(super) struct Row<'a> {
    pub q: &'a [i8],
    pub sums16: &'a [i16],
    pub sums32: &'a [i16],
}

impl<'a> Row<'a> {
    /// Row `m`; no activations if there are not that many.
    pub fn new(rows: &'a ActivationRows, m: usize) -> Self {
        let (q, sums16, sums32) = rows.row_and_beyond(m).unwrap_or_default();
        Row { q, sums16, sums32 }
    }

    pub fn all<const M: usize>(rows: &'a ActivationRows) -> [Self; M] {
        std::array::from_fn(|m| Row::new(rows, m))
    }

    /// Four blocks of 256 at a time, the last of which may lie beyond the row.
    #[inline(always)]
    fn groups(self) -> impl Iterator<Item = Group<'a>> {
        let q = self.q.as_chunks().0.iter();
        let sums = self.sums16.as_chunks().0.iter().zip(self.sums32.as_chunks().0);
        q.zip(sums).map(|(q, (sums16, sums32))| Group { q, sums16, sums32 })
    }
}

/// Activations of four blocks.
#[derive(Clone, Copy)]
struct Group<'a> {
    q: &'a [i8; 256 * GROUP],
    sums16: &'a [i16; 16 * GROUP],
    sums32: &'a [i16; 8 * GROUP],
}

/// The product of a panel of a super-block format with one row of activations.
#[inline(always)]
pub(in crate::kernel::matmul::avx512) fn super_blocks<F: SuperScales>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    rows: &ActivationRows,
    values: &mut Vec<f32>,
    out: &mut [f32],
) {
    let blocks = weights.cols / 256;
    let stride = blocks.next_multiple_of(16);
    values.resize(RowPanel::ROWS * stride, 0.0);
    let activations = Row::new(rows, 0);
    for (row, values) in weights.weight_rows().zip(values.chunks_exact_mut(stride)) {
        let (groups, tail) = F::blocks(row).as_chunks::<GROUP>();
        let mut places = activations.groups().zip(values.as_chunks_mut().0);
        for (blocks, (activations, t)) in groups.iter().zip(&mut places) {
            let [a, b, c, d] = blocks;
            store4(simd, group_values::<F>(simd, [a, b, c, d], activations), t);
        }
        if let ([first, rest @ ..], Some((activations, t))) = (tail, places.next()) {
            // Blocks that are not there repeat the first one; their values are
            // not used.
            let block = |i: usize| rest.get(i).unwrap_or(first);
            let blocks = [first, block(0), block(1), first];
            store4(simd, group_values::<F>(simd, blocks, activations), t);
        }
    }
    add_up::<1>(simd, weights, rows, values, out);
}

/// The values t of four blocks of one weight row.
#[inline(always)]
fn group_values<F: SuperScales>(
    simd: Avx512,
    blocks: [&F::Block; GROUP],
    activations: Group<'_>,
) -> __m128 {
    let head = F::head(simd, blocks);
    let (d, dmin) = F::floats(simd, blocks, &head);
    let sums = [
        block_sums::<F, 0>(simd, blocks, &head, activations),
        block_sums::<F, 1>(simd, blocks, &head, activations),
        block_sums::<F, 2>(simd, blocks, &head, activations),
        block_sums::<F, 3>(simd, blocks, &head, activations),
    ];
    let start = std::ptr::from_ref(blocks[0]).cast::<u8>();
    let (near, far) = (start.wrapping_add(NEAR), start.wrapping_add(AHEAD));
    simd.fetch_after(near, far, GROUP * size_of::<F::Block>());
    // SAFETY: the tier is proven.
    unsafe {
        let isum = _mm_cvtepi32_ps(sum_each(simd, sums));
        if F::HAS_MIN {
            let msum = F::mins(simd, &head, activations.sums16, activations.sums32);
            _mm_fmsub_ps(isum, d, _mm_mul_ps(_mm_cvtepi32_ps(msum), dmin))
        } else {
            _mm_mul_ps(isum, d)
        }
    }
}

/// Lanes whose sum is `isum` of block `J`. (A loop over them is not always unrolled.)
#[inline(always)]
fn block_sums<F: SuperScales, const J: usize>(
    simd: Avx512,
    blocks: [&F::Block; GROUP],
    head: &F::Head,
    activations: Group<'_>,
) -> __m512i {
    // Block by block: nine lines at once take 1 % of the speed.
    let (start, size) = (std::ptr::from_ref(blocks[0]).cast::<u8>(), size_of::<F::Block>());
    simd.fetch_during(start.wrapping_add(AHEAD), J * size..(J + 1) * size);
    let codes = F::codes(simd, blocks[J]);
    let scales = <F as SuperScales>::scales(simd, head, J);
    let q = &activations.q.as_chunks::<64>().0[4 * J..][..4];
    let sums16 = &activations.sums16.as_chunks::<16>().0[J];
    // SAFETY: the tier is proven.
    unsafe {
        let zero = _mm512_setzero_si512();
        let dot = |c: usize| _mm512_dpbusd_epi32(zero, codes[c], load64(simd, &q[c]));
        let low = _mm512_packs_epi32(dot(0), dot(1));
        let high = _mm512_packs_epi32(dot(2), dot(3));
        let sum = dpwssd(_mm512_madd_epi16(low, scales[0]), high, scales[1]);
        F::offset(simd, head, J, sums16, sum)
    }
}

#[inline(always)]
fn store4(_: Avx512, x: __m128, out: &mut [f32; 4]) {
    // SAFETY: the tier is proven; 16 bytes can be written to `out`.
    unsafe { _mm_storeu_ps(out.as_mut_ptr(), x) }
}

/// `acc = fma(t, d8, acc)` over the blocks, 16 weight rows at a time. What comes behind
/// the panel is fetched meanwhile, further than [`AHEAD`], so that the memory does not
/// wait for the sums: decode 2 % faster.
#[inline(always)]
pub(super) fn add_up<const M: usize>(
    simd: Avx512,
    weights: &RowPanel<'_>,
    activations: &ActivationRows,
    values: &[f32],
    out: &mut [f32],
) {
    let blocks = activations.cols() / activations.block_len();
    let stride = blocks.next_multiple_of(16);
    for m in 0..M {
        let d8 = activations.row(m).d;
        let mut next = weights.bytes.as_ptr().wrapping_add(weights.bytes.len() + AHEAD);
        for half in 0..weights.rows.div_ceil(16) {
            let rows = &values[(m * RowPanel::ROWS + 16 * half) * stride..][..16 * stride];
            // SAFETY: the tier is proven; 64 bytes can be written to `out`'s chunk.
            unsafe {
                let mut acc = _mm512_setzero_ps();
                for (chunk, d8) in d8.chunks(16).enumerate() {
                    let mut lanes = [_mm512_setzero_si512(); 16];
                    for (r, lanes) in lanes.iter_mut().enumerate() {
                        let t = rows[r * stride + 16 * chunk..].first_chunk::<16>();
                        *lanes = load64(simd, t.unwrap_or(&[0.0; 16]));
                    }
                    simd.fetch_lines(next, MEANWHILE);
                    next = next.wrapping_add(MEANWHILE);
                    let columns = transpose(simd, lanes);
                    for (&d8, column) in d8.iter().zip(columns) {
                        let t = _mm512_castsi512_ps(column);
                        acc = _mm512_fmadd_ps(t, _mm512_set1_ps(d8), acc);
                    }
                }
                if let Some(out) = out[m * RowPanel::ROWS + 16 * half..].first_chunk_mut::<16>() {
                    _mm512_storeu_ps(out.as_mut_ptr(), acc);
                }
            }
        }
    }
}
