//! Four or more rows of activations: register tiles of 2 to 4 of them by 16
//! weight rows of the panel, over the whole of k.
//!
//! ```text
//! 4 codes of k:   2 loads of codes, T broadcasts of 4 activations, 2T products
//!   plain:        pairs of products add up in i16 as long as they fit, then
//!                 madd by (scale, scale) widens and scales at once
//!   8-bit codes:  |q| times the activation with q's sign, widened at once
//!   VNNI:         four products add up in i32, then one multiplication per scale
//! block:          isum and msum exact, t = fma(isum, d, −(msum · dmin)),
//!                 acc = fma(t, d8, acc)
//! ```
//!
//! A panel's [`Class`] says all that its products depend on: formats share them.

use std::arch::x86_64::{__m256, __m256i};
use std::array::from_fn;

use super::lanes::block_values;
use super::panel::{Class, Layout, Panel, side};
use super::products::{Kernel, Products};
use crate::kernel::matmul::row_panel::RowPanel;
use crate::quant::{ActivationRow, ActivationRows};
use crate::simd::avx2::Vector;

/// As [`Class::run`] of codes of 8 bits.
const WIDE: usize = 0;

/// Multiplies `panel` with 2 or more rows of activations.
pub(super) fn plain(simd: Products<false>, rows: &ActivationRows, panel: &Panel, out: &mut [f32]) {
    use side::{ISUM, MSUM, NOTHING};
    let Class { len, sub, run, side } = panel.class;
    match (len, sub, run, side) {
        (32, _, 8, MSUM) => all::<32, 32, 8, MSUM, false>(simd, rows, panel, out),
        (32, _, 8, _) => all::<32, 32, 8, ISUM, false>(simd, rows, panel, out),
        (32, _, 4, MSUM) => all::<32, 32, 4, MSUM, false>(simd, rows, panel, out),
        (32, _, 4, _) => all::<32, 32, 4, ISUM, false>(simd, rows, panel, out),
        (32, ..) => all::<32, 32, WIDE, NOTHING, false>(simd, rows, panel, out),
        (_, 16, 4, MSUM) => all::<256, 16, 4, MSUM, false>(simd, rows, panel, out),
        (_, 16, 4, _) => all::<256, 16, 4, ISUM, false>(simd, rows, panel, out),
        (_, 16, 2, _) => all::<256, 16, 2, ISUM, false>(simd, rows, panel, out),
        (_, 16, ..) => all::<256, 16, 1, ISUM, false>(simd, rows, panel, out),
        (_, _, 8, _) => all::<256, 32, 8, MSUM, false>(simd, rows, panel, out),
        (_, _, 4, _) => all::<256, 32, 4, MSUM, false>(simd, rows, panel, out),
        _ => all::<256, 32, WIDE, NOTHING, false>(simd, rows, panel, out),
    }
}

/// The same with AVX-VNNI, of a panel for it.
pub(super) fn vnni(simd: Products<true>, rows: &ActivationRows, panel: &Panel, out: &mut [f32]) {
    use side::{ISUM, MSUM};
    let Class { len, sub, side, .. } = panel.class;
    match (len, sub, side) {
        (32, _, MSUM) => all::<32, 32, 8, MSUM, true>(simd, rows, panel, out),
        (32, ..) => all::<32, 32, 8, ISUM, true>(simd, rows, panel, out),
        (_, 16, MSUM) => all::<256, 16, 4, MSUM, true>(simd, rows, panel, out),
        (_, 16, _) => all::<256, 16, 4, ISUM, true>(simd, rows, panel, out),
        (_, _, MSUM) => all::<256, 32, 8, MSUM, true>(simd, rows, panel, out),
        _ => all::<256, 32, 8, ISUM, true>(simd, rows, panel, out),
    }
}

fn all<const LEN: usize, const SUB: usize, const RUN: usize, const SIDE: u8, const VNNI: bool>(
    simd: Products<VNNI>,
    rows: &ActivationRows,
    panel: &Panel,
    out: &mut [f32],
) {
    // Sums in i16 and in i32 of 3 rows fill the 16 registers; four rows fit where
    // only one kind is long-lived. Measured, 3 for 4 rows: Q4_K 42 for 40 MAC/cycle,
    // but Q4_0 33 for 37.
    let four = VNNI || RUN == WIDE || LEN == 32;
    for (p, pair) in panel.pairs::<LEN, SUB, SIDE>(rows.cols() / LEN).enumerate() {
        let mut m = 0;
        while m < rows.rows() {
            let tile = Operands { rows, pair, offset: panel.offset, first: 16 * p, m };
            // Never a single row at the end: 4 = 2 + 2 or 4, 5 = 3 + 2, 7 = 3 + 2 + 2.
            m += match rows.rows() - m {
                2 => simd.call(Tile::<LEN, SUB, RUN, SIDE, 2>(tile, out)),
                4 if !four => simd.call(Tile::<LEN, SUB, RUN, SIDE, 2>(tile, out)),
                3 | 5 | 6 => simd.call(Tile::<LEN, SUB, RUN, SIDE, 3>(tile, out)),
                _ if four => simd.call(Tile::<LEN, SUB, RUN, SIDE, 4>(tile, out)),
                _ => simd.call(Tile::<LEN, SUB, RUN, SIDE, 3>(tile, out)),
            };
        }
    }
}

/// Activation rows from `m` on and 16 weight rows from `first` on.
struct Operands<'a> {
    rows: &'a ActivationRows,
    /// Both eights' entries, block after block.
    pair: &'a [Vector],
    offset: i32,
    first: usize,
    m: usize,
}

/// `T` rows of activations.
struct Tile<
    'a,
    const LEN: usize,
    const SUB: usize,
    const RUN: usize,
    const SIDE: u8,
    const T: usize,
>(Operands<'a>, &'a mut [f32]);

/// Lanes of T activation rows by 2 eights of weight rows.
type Lanes<X, const T: usize> = [[X; 2]; T];

impl<const LEN: usize, const SUB: usize, const RUN: usize, const SIDE: u8, const T: usize> Kernel
    for Tile<'_, LEN, SUB, RUN, SIDE, T>
{
    /// The rows done.
    type Output = usize;

    #[inline(always)]
    fn run<const VNNI: bool>(self, simd: Products<VNNI>) -> usize {
        let Tile(Operands { rows, pair, offset, first, m }, out) = self;
        let ops = simd.ops;
        let rows: [ActivationRow<'_>; T] = from_fn(|t| rows.row(m + t));
        let mut acc: Lanes<__m256, T> = [[ops.splat_f32(0.0); 2]; T];
        let entry = Layout::<LEN, SUB, SIDE>::ENTRY;
        for (b, entries) in pair.chunks_exact(2 * entry).enumerate() {
            let (left, right) = entries.split_at(entry);
            let entries = [&left[..entry], &right[..entry]];
            block::<LEN, SUB, RUN, SIDE, T, VNNI>(simd, entries, offset, &rows, b, &mut acc);
        }
        for (t, acc) in acc.into_iter().enumerate() {
            let out = &mut out[(m + t) * RowPanel::ROWS + first..][..16];
            for (out, acc) in out.as_chunks_mut().0.iter_mut().zip(acc) {
                ops.store_f32(acc, out);
            }
        }
        T
    }
}

/// Adds block `b`.
#[inline(always)]
fn block<
    const LEN: usize,
    const SUB: usize,
    const RUN: usize,
    const SIDE: u8,
    const T: usize,
    const VNNI: bool,
>(
    simd: Products<VNNI>,
    entries: [&[Vector]; 2],
    offset: i32,
    rows: &[ActivationRow<'_>; T],
    b: usize,
    acc: &mut Lanes<__m256, T>,
) {
    let ops = simd.ops;
    let (mut q, mut sums): ([&[i8]; T], [&[i16]; T]) = ([&[]; T], [&[]; T]);
    for t in 0..T {
        q[t] = &rows[t].q[b * LEN..][..LEN];
        sums[t] = &rows[t].sums[b * LEN / 16..][..LEN / 16];
    }
    let mut isum = [[ops.zero(); 2]; T];
    if SIDE == side::ISUM {
        isum = beside::<LEN, SUB, SIDE, T, VNNI>(simd, entries, sums, -offset);
    }
    let [left, right] = entries;
    for s in 0..LEN / SUB {
        let codes = [&left[s * SUB / 4..][..SUB / 4], &right[s * SUB / 4..][..SUB / 4]];
        let mut a = q;
        for a in &mut a {
            *a = &a[s * SUB..][..SUB];
        }
        let mut scale = [ops.splat16(1); 2];
        if LEN != 32 {
            let at = Layout::<LEN, SUB, SIDE>::SCALES + s;
            scale = [ops.load_vector(&left[at]), ops.load_vector(&right[at])];
        }
        sub_block::<LEN, SUB, RUN, T, VNNI>(simd, codes, a, scale, &mut isum);
    }
    let (has_min, mut msum) = (SIDE == side::MSUM, [[ops.zero(); 2]; T]);
    if has_min {
        msum = beside::<LEN, SUB, SIDE, T, VNNI>(simd, entries, sums, 1);
    }
    for v in 0..2 {
        let floats = &entries[v][Layout::<LEN, SUB, SIDE>::D..];
        let d = ops.as_floats(ops.load_vector(&floats[0]));
        let dmin = if has_min { ops.as_floats(ops.load_vector(&floats[1])) } else { d };
        for t in 0..T {
            let value = block_values(ops, has_min, [isum[t][v], msum[t][v]], [d, dmin]);
            acc[t][v] = ops.fma(value, ops.splat_f32(rows[t].d[b]), acc[t][v]);
        }
    }
}

/// What does not depend on the codes: `msum`, or what their offset adds to `isum`. Blocks
/// of 32 have one `factor`, others the corrections of the panel.
#[inline(always)]
fn beside<const LEN: usize, const SUB: usize, const SIDE: u8, const T: usize, const VNNI: bool>(
    simd: Products<VNNI>,
    entries: [&[Vector]; 2],
    sums: [&[i16]; T],
    factor: i32,
) -> Lanes<__m256i, T> {
    let ops = simd.ops;
    let mut total = [[ops.zero(); 2]; T];
    if LEN == 32 {
        for (sums, total) in sums.into_iter().zip(&mut total) {
            *total = [ops.splat32((i32::from(sums[0]) + i32::from(sums[1])) * factor); 2];
        }
        return total;
    }
    let place = Layout::<LEN, SUB, SIDE>::CORRECTIONS..Layout::<LEN, SUB, SIDE>::D;
    let [left, right] = entries;
    for (i, (left, right)) in left[place.clone()].iter().zip(&right[place]).enumerate() {
        let pair = [ops.load_vector(left), ops.load_vector(right)];
        for (sums, total) in sums.iter().zip(&mut total) {
            let [a, b] = sums.as_chunks().0[i];
            let sums = ops.splat32(i32::from(a) & 0xffff | i32::from(b) << 16);
            for v in 0..2 {
                total[v] = ops.add32(total[v], ops.madd(pair[v], sums));
            }
        }
    }
    total
}

/// Adds `scale · Σ u · a` of one sub-block to `isum`.
#[inline(always)]
fn sub_block<
    const LEN: usize,
    const SUB: usize,
    const RUN: usize,
    const T: usize,
    const VNNI: bool,
>(
    simd: Products<VNNI>,
    codes: [&[Vector]; 2],
    a: [&[i8]; T],
    scale: [__m256i; 2],
    isum: &mut Lanes<__m256i, T>,
) {
    let ops = simd.ops;
    let steps = SUB / 4;
    // How many steps' sums fit before they must be widened.
    let run = const {
        let run = if RUN == WIDE { 1 } else { RUN };
        assert!((SUB / 4).is_multiple_of(run), "a run must not reach into the next sub-block");
        run
    };
    for from in (0..steps).step_by(run) {
        let mut sum = [[ops.zero(); 2]; T];
        let both = codes[0][from..from + run].iter().zip(&codes[1][from..from + run]);
        for (step, (left, right)) in both.enumerate() {
            let code = [ops.load_vector(left), ops.load_vector(right)];
            for t in 0..T {
                let four: [i8; 4] = a[t].as_chunks().0[from + step];
                let a = ops.splat32(i32::from_le_bytes([
                    four[0] as u8,
                    four[1] as u8,
                    four[2] as u8,
                    four[3] as u8,
                ]));
                for v in 0..2 {
                    sum[t][v] = if VNNI {
                        simd.dot4(sum[t][v], code[v], a)
                    } else if RUN == WIDE {
                        ops.maddubs(ops.abs8(code[v]), ops.sign8(a, code[v]))
                    } else {
                        ops.add16(sum[t][v], ops.maddubs(code[v], a))
                    };
                }
            }
        }
        for (isum, sum) in isum.iter_mut().zip(sum) {
            for v in 0..2 {
                let scaled = match (VNNI, LEN == 32) {
                    (false, _) => ops.madd(sum[v], scale[v]),
                    (true, true) => sum[v],
                    (true, false) => ops.mullo32(sum[v], scale[v]),
                };
                isum[v] = ops.add32(isum[v], scaled);
            }
        }
    }
}
