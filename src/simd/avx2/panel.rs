//! A strip unpacked once for all rows of activations: 8 weight rows in the lanes
//! of a register, two such registers side by side.
//!
//! ```text
//! [row pair of eights][block][2] entries of vectors (8 rows × 4 bytes):
//!   codes        LEN / 4         lane: codes 4j .. 4j + 4 of the row
//!   scales       LEN / SUB       lane: the scale, as i32 for VNNI, as two i16 without
//!   corrections  LEN / 32        lane: pair of i16 to go with a pair of sums of 16:
//!                                minimums, or −OFFSET · scale
//!   d, dmin      1 or 2          f32
//! ```
//! Blocks of 32 have neither scales nor corrections. Codes are unsigned, but
//! those of 8 bits are signed without VNNI (see `tile.rs`).

use std::marker::PhantomData;

use super::decode::Decode;
use super::lanes::transpose;
use super::ops::{Ops, Vector};
use super::{Kernel, Products};
use crate::simd::Strip;

/// A thread's panel.
#[derive(Debug, Default)]
pub(super) struct Panel(Vec<Vector>);

impl Panel {
    /// The entries of eights 2p and 2p + 1, block after block.
    #[inline(always)]
    pub(super) fn pairs<F: Decode, const VNNI: bool>(
        &self,
        blocks: usize,
    ) -> impl Iterator<Item = &[Vector]> {
        self.0.chunks_exact(2 * Layout::<F, VNNI>::ENTRY * blocks)
    }
}

/// Where things are in an entry.
pub(super) struct Layout<F, const VNNI: bool>(PhantomData<F>);

impl<F: Decode, const VNNI: bool> Layout<F, VNNI> {
    /// Codes are stored signed.
    pub const SIGNED: bool = F::WIDE_CODES && !VNNI;
    /// Codes are stored with an offset that must be taken back.
    pub const OFFSET: bool = F::OFFSET != 0 && !Self::SIGNED;

    pub const SCALES: usize = F::LEN / 4;
    pub const CORRECTIONS: usize = Self::SCALES + if F::SMALL { 0 } else { F::LEN / F::SUB };
    pub const D: usize =
        Self::CORRECTIONS + if F::SMALL || !(Self::OFFSET || F::HAS_MIN) { 0 } else { F::LEN / 32 };
    /// Vectors of an entry.
    pub const ENTRY: usize = Self::D + 1 + F::HAS_MIN as usize;
}

/// Unpacks `strip` into `panel`.
#[inline(always)]
pub(super) fn fill<F: Decode, const VNNI: bool>(
    simd: Products<VNNI>,
    strip: &Strip<'_>,
    panel: &mut Panel,
) {
    simd.call(Fill::<F> { strip, panel, format: PhantomData });
}

struct Fill<'a, F> {
    strip: &'a Strip<'a>,
    panel: &'a mut Panel,
    format: PhantomData<F>,
}

impl<F: Decode> Kernel for Fill<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<const VNNI: bool>(self, simd: Products<VNNI>) {
        let Fill { strip, panel, .. } = self;
        let blocks = strip.cols / F::LEN;
        let pairs = strip.rows.div_ceil(16);
        let pair_len = 2 * Layout::<F, VNNI>::ENTRY * blocks;
        panel.0.resize(pairs * pair_len, Vector::ZERO);
        let mut decoded = Rows {
            codes: [[Vector::ZERO; 8]; 8],
            scales: [Vector::ZERO; 8],
            corrections: [Vector::ZERO; 8],
        };
        for (p, pair) in panel.0.chunks_exact_mut(pair_len).enumerate() {
            for e in 0..2 {
                // Lanes without a row get the last one; nobody reads them.
                let mut rows: [&[F::Block]; 8] = [&[]; 8];
                for (i, row) in rows.iter_mut().enumerate() {
                    let n = (16 * p + 8 * e + i).min(strip.rows - 1);
                    *row = &F::blocks(strip.row(n))[..blocks];
                }
                let entries = pair.chunks_exact_mut(Layout::<F, VNNI>::ENTRY).skip(e).step_by(2);
                for (b, entry) in entries.enumerate() {
                    unpack::<F, VNNI>(simd.ops, &rows, b, &mut decoded, entry);
                }
            }
        }
    }
}

/// One block of 8 rows, decoded, before it is transposed.
struct Rows {
    /// `[LEN / 32, row]`
    codes: [[Vector; 8]; 8],
    scales: [Vector; 8],
    corrections: [Vector; 8],
}

/// Writes the entry of block `b` of 8 rows.
#[inline(always)]
fn unpack<F: Decode, const VNNI: bool>(
    ops: Ops,
    rows: &[&[F::Block]; 8],
    b: usize,
    decoded: &mut Rows,
    entry: &mut [Vector],
) {
    let entry = &mut entry[..Layout::<F, VNNI>::ENTRY];
    let Rows { codes, scales, corrections } = decoded;
    let (mut d, mut dmin) = ([0; 8], [0; 8]);
    for (r, row) in rows.iter().enumerate() {
        let row = &row[b];
        for (code, codes) in F::codes(ops, row).into_iter().zip(&mut *codes).take(F::LEN / 32) {
            let signed = Layout::<F, VNNI>::SIGNED;
            let code = if signed { ops.xor(code, ops.splat8(-128)) } else { code };
            ops.store_vector(code, &mut codes[r]);
        }
        if !F::SMALL {
            let scale = F::integer_scales(ops, row);
            ops.store_vector(scale, &mut scales[r]);
            if F::HAS_MIN {
                ops.store_vector(F::integer_mins(ops, row), &mut corrections[r]);
            } else if Layout::<F, VNNI>::OFFSET {
                let correction = ops.mullo16(scale, ops.splat16(-F::OFFSET));
                ops.store_vector(correction, &mut corrections[r]);
            }
        }
        [d[r], dmin[r]] = F::float_scales(row);
    }
    for (codes, part) in codes.iter().zip(entry.chunks_exact_mut(8)).take(F::LEN / 32) {
        for (lanes, place) in transpose(ops, codes.each_ref()).into_iter().zip(part) {
            ops.store_vector(lanes, place);
        }
    }
    if !F::SMALL {
        let pairs = transpose(ops, scales.each_ref());
        let place = &mut entry[Layout::<F, VNNI>::SCALES..Layout::<F, VNNI>::CORRECTIONS];
        for (pair, place) in pairs.into_iter().zip(place.chunks_exact_mut(32 / F::SUB)) {
            let low = ops.slli32::<16>(pair);
            let (even, odd) = (ops.srai32::<16>(low), ops.srai32::<16>(pair));
            let both = if VNNI {
                [even, odd]
            } else {
                // The same i16 in both places.
                [ops.blend16::<0xaa>(even, low), ops.blend16::<0xaa>(ops.srli32::<16>(pair), pair)]
            };
            for (scale, place) in both.into_iter().zip(place) {
                ops.store_vector(scale, place);
            }
        }
        let place = &mut entry[Layout::<F, VNNI>::CORRECTIONS..Layout::<F, VNNI>::D];
        if !place.is_empty() {
            let pairs = transpose(ops, corrections.each_ref());
            for (pair, place) in pairs.into_iter().zip(place) {
                ops.store_vector(pair, place);
            }
        }
    }
    for (halves, place) in [d, dmin].iter().zip(&mut entry[Layout::<F, VNNI>::D..]) {
        let floats = ops.halves_to_f32(ops.load_u16(halves));
        ops.store_vector(ops.as_integers(floats), place);
    }
}
