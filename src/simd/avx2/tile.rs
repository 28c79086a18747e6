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

use std::array::from_fn;
use std::marker::PhantomData;

use super::decode::Decode;
use super::lanes::block_values;
use super::ops::Vector;
use super::panel::{Layout, Panel};
use super::{Kernel, Products};
use crate::quant::ActivationRow;
use crate::simd::Strip;
use std::arch::x86_64::{__m256, __m256i};

/// Multiplies the strip in `panel` with its rows of activations, 2 or more.
#[inline(always)]
pub(super) fn multiply<F: Decode, const VNNI: bool>(
    simd: Products<VNNI>,
    strip: &Strip<'_>,
    panel: &Panel,
    out: &mut [f32],
) {
    // Sums in i16 and in i32 of 3 rows fill the 16 registers; four rows fit where
    // only one kind is long-lived. Measured, 3 for 4 rows: Q4_K 42 for 40 MAC/cycle,
    // but Q4_0 33 for 37.
    let four = VNNI || F::WIDE_CODES || F::SMALL;
    for (p, pair) in panel.pairs::<F, VNNI>(strip.cols / F::LEN).enumerate() {
        let mut m = 0;
        while m < strip.batch() {
            let tile = (strip, pair, 16 * p, m);
            // Never a single row at the end: 4 = 2 + 2 or 4, 5 = 3 + 2, 7 = 3 + 2 + 2.
            m += match strip.batch() - m {
                2 => simd.call(Tile::<F, 2>::new(tile, out)),
                4 if !four => simd.call(Tile::<F, 2>::new(tile, out)),
                3 | 5 | 6 => simd.call(Tile::<F, 3>::new(tile, out)),
                _ if four => simd.call(Tile::<F, 4>::new(tile, out)),
                _ => simd.call(Tile::<F, 3>::new(tile, out)),
            };
        }
    }
}

/// Activation rows m .. m + T times 16 weight rows from `first`.
struct Tile<'a, F, const T: usize> {
    strip: &'a Strip<'a>,
    /// Both eights' entries, block after block.
    pair: &'a [Vector],
    first: usize,
    m: usize,
    out: &'a mut [f32],
    format: PhantomData<F>,
}

/// Lanes of T activation rows by 2 eights of weight rows.
type Lanes<X, const T: usize> = [[X; 2]; T];

impl<'a, F, const T: usize> Tile<'a, F, T> {
    #[inline(always)]
    fn new(
        (strip, pair, first, m): (&'a Strip<'a>, &'a [Vector], usize, usize),
        out: &'a mut [f32],
    ) -> Self {
        Tile { strip, pair, first, m, out, format: PhantomData }
    }
}

impl<F: Decode, const T: usize> Kernel for Tile<'_, F, T> {
    /// The rows done.
    type Output = usize;

    #[inline(always)]
    fn run<const VNNI: bool>(self, simd: Products<VNNI>) -> usize {
        let ops = simd.ops;
        let rows: [ActivationRow<'_>; T] = from_fn(|t| self.strip.activations.row(self.m + t));
        let mut acc: Lanes<__m256, T> = [[ops.splat_f32(0.0); 2]; T];
        let entry = Layout::<F, VNNI>::ENTRY;
        for (b, entries) in self.pair.chunks_exact(2 * entry).enumerate() {
            let (left, right) = entries.split_at(entry);
            block::<F, VNNI, T>(simd, [&left[..entry], &right[..entry]], &rows, b, &mut acc);
        }
        for (t, acc) in acc.into_iter().enumerate() {
            let out = &mut self.out[(self.m + t) * Strip::ROWS + self.first..][..16];
            for (out, acc) in out.as_chunks_mut().0.iter_mut().zip(acc) {
                ops.store_f32(acc, out);
            }
        }
        T
    }
}

/// Adds block `b`.
#[inline(always)]
fn block<F: Decode, const VNNI: bool, const T: usize>(
    simd: Products<VNNI>,
    entries: [&[Vector]; 2],
    rows: &[ActivationRow<'_>; T],
    b: usize,
    acc: &mut Lanes<__m256, T>,
) {
    let ops = simd.ops;
    let (mut q, mut sums): ([&[i8]; T], [&[i16]; T]) = ([&[]; T], [&[]; T]);
    for t in 0..T {
        q[t] = &rows[t].q[b * F::LEN..][..F::LEN];
        sums[t] = &rows[t].sums[b * F::LEN / 16..][..F::LEN / 16];
    }
    let mut isum = [[ops.zero(); 2]; T];
    let mut msum = [[ops.zero(); 2]; T];
    correct::<F, VNNI, T>(simd, entries, sums, &mut isum, &mut msum);
    let [left, right] = entries;
    for s in 0..F::LEN / F::SUB {
        let codes = [&left[s * F::SUB / 4..][..F::SUB / 4], &right[s * F::SUB / 4..][..F::SUB / 4]];
        let mut a = q;
        for a in &mut a {
            *a = &a[s * F::SUB..][..F::SUB];
        }
        let mut scale = [ops.splat16(1); 2];
        if !F::SMALL {
            let at = Layout::<F, VNNI>::SCALES + s;
            scale = [ops.load_vector(&left[at]), ops.load_vector(&right[at])];
        }
        sub_block::<F, VNNI, T>(simd, codes, a, scale, &mut isum);
    }
    for v in 0..2 {
        let floats = &entries[v][Layout::<F, VNNI>::D..];
        let d = ops.as_floats(ops.load_vector(&floats[0]));
        let dmin = ops.as_floats(ops.load_vector(&floats[usize::from(F::HAS_MIN)]));
        for t in 0..T {
            let value = block_values(ops, F::HAS_MIN, [isum[t][v], msum[t][v]], [d, dmin]);
            acc[t][v] = ops.fma(value, ops.splat_f32(rows[t].d[b]), acc[t][v]);
        }
    }
}

/// What does not depend on the codes: `msum`, or what their offset adds to `isum`.
#[inline(always)]
fn correct<F: Decode, const VNNI: bool, const T: usize>(
    simd: Products<VNNI>,
    entries: [&[Vector]; 2],
    sums: [&[i16]; T],
    isum: &mut Lanes<__m256i, T>,
    msum: &mut Lanes<__m256i, T>,
) {
    let ops = simd.ops;
    let target = if F::HAS_MIN { msum } else { isum };
    if F::SMALL && (F::HAS_MIN || Layout::<F, VNNI>::OFFSET) {
        for (sums, target) in sums.into_iter().zip(target) {
            let sum = i32::from(sums[0]) + i32::from(sums[1]);
            let factor = if F::HAS_MIN { 1 } else { -i32::from(F::OFFSET) };
            *target = [ops.splat32(sum * factor); 2];
        }
        return;
    }
    let place = Layout::<F, VNNI>::CORRECTIONS..Layout::<F, VNNI>::D;
    let [left, right] = entries;
    for (i, (left, right)) in left[place.clone()].iter().zip(&right[place]).enumerate() {
        let pair = [ops.load_vector(left), ops.load_vector(right)];
        for (sums, target) in sums.iter().zip(&mut *target) {
            let [a, b] = sums.as_chunks().0[i];
            let sums = ops.splat32(i32::from(a) & 0xffff | i32::from(b) << 16);
            for v in 0..2 {
                target[v] = ops.add32(target[v], ops.madd(pair[v], sums));
            }
        }
    }
}

/// Adds `scale · Σ u · a` of one sub-block to `isum`.
#[inline(always)]
fn sub_block<F: Decode, const VNNI: bool, const T: usize>(
    simd: Products<VNNI>,
    codes: [&[Vector]; 2],
    a: [&[i8]; T],
    scale: [__m256i; 2],
    isum: &mut Lanes<__m256i, T>,
) {
    let ops = simd.ops;
    let steps = F::SUB / 4;
    // How many steps' sums fit before they must be widened.
    let run = if VNNI {
        steps
    } else if F::WIDE_CODES {
        1
    } else {
        F::ADDABLE.min(steps)
    };
    debug_assert!(steps.is_multiple_of(run), "a run must not reach into the next sub-block");
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
                    } else if F::WIDE_CODES {
                        ops.maddubs(ops.abs8(code[v]), ops.sign8(a, code[v]))
                    } else {
                        ops.add16(sum[t][v], ops.maddubs(code[v], a))
                    };
                }
            }
        }
        for (isum, sum) in isum.iter_mut().zip(sum) {
            for v in 0..2 {
                let scaled = match (VNNI, F::SMALL) {
                    (false, _) => ops.madd(sum[v], scale[v]),
                    (true, true) => sum[v],
                    (true, false) => ops.mullo32(sum[v], scale[v]),
                };
                isum[v] = ops.add32(isum[v], scaled);
            }
        }
    }
}
