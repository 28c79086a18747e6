//! A row panel unpacked once for all rows of activations: 8 weight rows in the lanes
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
//! Blocks of 32 have neither scales nor corrections, and only formats with minimums have
//! `dmin`. Codes are unsigned, but those of 8 bits are signed without VNNI (see `tile.rs`).

use std::marker::PhantomData;

use super::decode::Decode;
use super::lanes::transpose;
use super::products::{Kernel, Products};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::simd::avx2::{Ops, Vector};

/// A thread's panel.
#[derive(Debug, Default)]
pub(super) struct Panel {
    entries: Vec<Vector>,
    pub class: Class,
    /// What was added to the codes of blocks of 32, for [`side::ISUM`].
    pub offset: i32,
}

/// What the arithmetic of a panel depends on.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Class {
    /// Weights per block.
    pub len: usize,
    /// Weights per integer scale.
    pub sub: usize,
    /// Pairs of products that i16 can hold, of those of a sub-block; 0 if not even one.
    pub run: usize,
    /// One of [`side`]. The tile has it as a constant: a branch per block costs Q8_0 a tenth
    /// of its speed when all cores are busy.
    pub side: u8,
}

/// What is added besides the products of the codes.
pub(super) mod side {
    pub const NOTHING: u8 = 0;
    /// To `isum`: the codes are stored with an offset, which must be taken back.
    pub const ISUM: u8 = 1;
    /// To `msum`: minimums.
    pub const MSUM: u8 = 2;
}

impl Panel {
    /// The entries of eights 2p and 2p + 1, block after block.
    pub(super) fn pairs<const LEN: usize, const SUB: usize, const SIDE: u8>(
        &self,
        blocks: usize,
    ) -> impl Iterator<Item = &[Vector]> {
        self.entries.chunks_exact(2 * Layout::<LEN, SUB, SIDE>::ENTRY * blocks)
    }
}

/// Where things are in an entry.
pub(super) struct Layout<const LEN: usize, const SUB: usize, const SIDE: u8>;

impl<const LEN: usize, const SUB: usize, const SIDE: u8> Layout<LEN, SUB, SIDE> {
    const SMALL: bool = LEN == 32;

    pub const SCALES: usize = LEN / 4;
    pub const CORRECTIONS: usize = Self::SCALES + if Self::SMALL { 0 } else { LEN / SUB };
    pub const D: usize = Self::CORRECTIONS + if Self::SMALL { 0 } else { LEN / 32 };
    /// Vectors of an entry.
    pub const ENTRY: usize = Self::D + if SIDE == side::MSUM { 2 } else { 1 };
}

/// The layout of a format's entries, as [`Layout`] has it.
struct Places {
    scales: usize,
    corrections: usize,
    d: usize,
    entry: usize,
}

impl Places {
    const fn of<const LEN: usize, const SUB: usize, const SIDE: u8>() -> Self {
        Places {
            scales: Layout::<LEN, SUB, SIDE>::SCALES,
            corrections: Layout::<LEN, SUB, SIDE>::CORRECTIONS,
            d: Layout::<LEN, SUB, SIDE>::D,
            entry: Layout::<LEN, SUB, SIDE>::ENTRY,
        }
    }

    const fn of_side<const SIDE: u8>(len: usize, sub: usize) -> Self {
        match (len, sub) {
            (32, _) => Places::of::<32, 32, SIDE>(),
            (_, 16) => Places::of::<256, 16, SIDE>(),
            _ => Places::of::<256, 32, SIDE>(),
        }
    }

    /// The same with AVX-VNNI and without.
    const fn of_format<F: Decode>() -> Self {
        match F::HAS_MIN {
            true => Places::of_side::<{ side::MSUM }>(F::LEN, F::SUB),
            false => Places::of_side::<{ side::ISUM }>(F::LEN, F::SUB),
        }
    }
}

/// How codes of a format are stored.
fn side_of<F: Decode>(vnni: bool) -> u8 {
    if F::HAS_MIN {
        side::MSUM
    } else if F::OFFSET == 0 || F::WIDE_CODES && !vnni {
        side::NOTHING
    } else {
        side::ISUM
    }
}

/// Unpacks `weights` into `panel`, for the products with AVX-VNNI or without.
pub(super) fn fill<F: Decode>(
    simd: Products<false>,
    weights: &RowPanel<'_>,
    vnni: bool,
    panel: &mut Panel,
) {
    let run = F::ADDABLE.min(F::SUB / 4);
    panel.class = Class { len: F::LEN, sub: F::SUB, run, side: side_of::<F>(vnni) };
    panel.offset = F::OFFSET.into();
    simd.call(Fill::<F> { weights, vnni, panel, format: PhantomData });
}

struct Fill<'a, F> {
    weights: &'a RowPanel<'a>,
    vnni: bool,
    panel: &'a mut Panel,
    format: PhantomData<F>,
}

impl<F: Decode> Kernel for Fill<'_, F> {
    type Output = ();

    #[inline(always)]
    fn run<const VNNI: bool>(self, simd: Products<VNNI>) {
        let Fill { weights, vnni, panel, .. } = self;
        let places = const { Places::of_format::<F>() };
        let blocks = weights.cols / F::LEN;
        let pairs = weights.rows.div_ceil(16);
        let pair_len = 2 * places.entry * blocks;
        panel.entries.resize(pairs * pair_len, Vector::ZERO);
        let mut decoded = Rows {
            codes: [[Vector::ZERO; 8]; 8],
            scales: [Vector::ZERO; 8],
            corrections: [Vector::ZERO; 8],
        };
        for (p, pair) in panel.entries.chunks_exact_mut(pair_len).enumerate() {
            for e in 0..2 {
                // Lanes without a row get the last one; nobody reads them.
                let mut rows: [&[F::Block]; 8] = [&[]; 8];
                for (i, row) in rows.iter_mut().enumerate() {
                    let n = (16 * p + 8 * e + i).min(weights.rows - 1);
                    *row = &F::blocks(weights.row(n))[..blocks];
                }
                let entries = pair.chunks_exact_mut(places.entry).skip(e).step_by(2);
                for (b, entry) in entries.enumerate() {
                    unpack::<F>(simd.ops, &rows, b, vnni, &mut decoded, entry);
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
fn unpack<F: Decode>(
    ops: Ops,
    rows: &[&[F::Block]; 8],
    b: usize,
    vnni: bool,
    decoded: &mut Rows,
    entry: &mut [Vector],
) {
    let places = const { Places::of_format::<F>() };
    let entry = &mut entry[..places.entry];
    let Rows { codes, scales, corrections } = decoded;
    let signed = F::WIDE_CODES && !vnni;
    let sign = ops.splat8(if signed { -128 } else { 0 });
    let (mut d, mut dmin) = ([0; 8], [0; 8]);
    for (r, row) in rows.iter().enumerate() {
        let row = &row[b];
        for (code, codes) in F::codes(ops, row).into_iter().zip(&mut *codes).take(F::LEN / 32) {
            let code = if F::WIDE_CODES { ops.xor(code, sign) } else { code };
            ops.store_vector(code, &mut codes[r]);
        }
        if !F::SMALL {
            let scale = F::integer_scales(ops, row);
            ops.store_vector(scale, &mut scales[r]);
            if F::HAS_MIN {
                ops.store_vector(F::integer_mins(ops, row), &mut corrections[r]);
            } else if F::OFFSET != 0 {
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
        let place = &mut entry[places.scales..places.corrections];
        for (pair, place) in pairs.into_iter().zip(place.chunks_exact_mut(32 / F::SUB)) {
            let low = ops.slli32::<16>(pair);
            let (even, odd) = (ops.srai32::<16>(low), ops.srai32::<16>(pair));
            let both = if vnni {
                [even, odd]
            } else {
                // The same i16 in both places.
                [ops.blend16::<0xaa>(even, low), ops.blend16::<0xaa>(ops.srli32::<16>(pair), pair)]
            };
            for (scale, place) in both.into_iter().zip(place) {
                ops.store_vector(scale, place);
            }
        }
        if (F::HAS_MIN || F::OFFSET != 0) && !signed {
            let pairs = transpose(ops, corrections.each_ref());
            let place = &mut entry[places.corrections..places.d];
            for (pair, place) in pairs.into_iter().zip(place) {
                ops.store_vector(pair, place);
            }
        }
    }
    for (floats, place) in F::to_f32(ops, [&d, &dmin]).into_iter().zip(&mut entry[places.d..]) {
        ops.store_vector(ops.as_integers(floats), place);
    }
}
