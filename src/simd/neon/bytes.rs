//! Products of bytes, summed in i32: three instructions for the same sums.
//!
//! All of them are exact for every input: a sum of four products is at most
//! 4 · 128 · 128.

use std::arch::aarch64::*;
use std::arch::asm;
use std::arch::is_aarch64_feature_detected;

use super::Neon;
use crate::simd::Task;

/// A way to multiply bytes. A value proves that the CPU has it, and NEON.
pub trait Bytes: Copy + Send + Sync + 'static {
    fn new() -> Option<Self>;

    /// Runs `task` in code compiled for NEON and this way.
    fn enter<T: Task>(simd: Neon<Self>, task: T) -> T::Output;

    /// `sum[i] + Σ w[4i + j] · a[4i + j]`, j = 0..4.
    fn dot(self, sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t;

    /// 16 codes of each of 4 weight rows, in the order that
    /// [`multiply`](Self::multiply) wants: a cell of a panel.
    fn cell(self, rows: [int8x16_t; 4]) -> [int8x16_t; 4];

    /// `sums` + the products of 16 codes of 4 weight rows (a cell) with those of
    /// 4 rows of activations.
    fn multiply(
        self,
        sums: [int32x4_t; 4],
        cell: [int8x16_t; 4],
        a: [int8x16_t; 4],
    ) -> [int32x4_t; 4];

    /// Sums of [`multiply`](Self::multiply) as one register per row of
    /// activations, whose lanes are the weight rows.
    fn by_activation(self, sums: [int32x4_t; 4]) -> [int32x4_t; 4];
}

/// `Σ scale[k / 16] · q[k] · a[k]`, see [`dot_codes`](crate::simd::Simd::dot_codes).
#[inline(always)]
pub(super) fn dot_codes<B: Bytes>(bytes: B, q: &[i8], scale: &[i16], a: &[i8]) -> i32 {
    let (q, a) = (q.as_chunks::<16>().0, a.as_chunks::<16>().0);
    // SAFETY: `bytes` proves NEON; 16 bytes can be read from each chunk.
    unsafe {
        let mut sum = vdupq_n_s32(0);
        for ((q, a), &scale) in q.iter().zip(a).zip(scale) {
            let (q, a) = (vld1q_s8(q.as_ptr()), vld1q_s8(a.as_ptr()));
            let part = bytes.dot(vdupq_n_s32(0), q, a);
            sum = vmlaq_n_s32(sum, part, i32::from(scale));
        }
        vaddvq_s32(sum)
    }
}

/// ARMv8.0: products in i16, then pairs and pairs of pairs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Plain {
    _checked: (),
}

/// `sdot`: four products per lane of i32.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DotProd {
    _checked: (),
}

/// `smmla`: two rows of eight times two rows of eight; and `sdot`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct I8mm {
    dot: DotProd,
}

impl Bytes for Plain {
    fn new() -> Option<Self> {
        is_aarch64_feature_detected!("neon").then_some(Plain { _checked: () })
    }

    fn enter<T: Task>(simd: Neon<Self>, task: T) -> T::Output {
        #[target_feature(enable = "neon")]
        #[inline(never)]
        fn region<T: Task>(simd: Neon<Plain>, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `simd` proves that the CPU has the feature.
        unsafe { region(simd, task) }
    }

    #[inline(always)]
    fn dot(self, sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves the features.
        unsafe {
            let low = vpaddlq_s16(vmull_s8(vget_low_s8(w), vget_low_s8(a)));
            let high = vpaddlq_s16(vmull_high_s8(w, a));
            vaddq_s32(sum, vpaddq_s32(low, high))
        }
    }

    #[inline(always)]
    fn cell(self, rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
        // SAFETY: `self` proves the features.
        unsafe { words(rows) }
    }

    #[inline(always)]
    fn multiply(
        self,
        sums: [int32x4_t; 4],
        cell: [int8x16_t; 4],
        a: [int8x16_t; 4],
    ) -> [int32x4_t; 4] {
        // SAFETY: `self` proves the features.
        let word = |a, j| unsafe {
            let a = vreinterpretq_s32_s8(a);
            vreinterpretq_s8_s32(match j {
                0 => vdupq_laneq_s32::<0>(a),
                1 => vdupq_laneq_s32::<1>(a),
                2 => vdupq_laneq_s32::<2>(a),
                _ => vdupq_laneq_s32::<3>(a),
            })
        };
        std::array::from_fn(|m| {
            (0..4).fold(sums[m], |sum, j| self.dot(sum, cell[j], word(a[m], j)))
        })
    }

    #[inline(always)]
    fn by_activation(self, sums: [int32x4_t; 4]) -> [int32x4_t; 4] {
        sums
    }
}

impl Bytes for DotProd {
    fn new() -> Option<Self> {
        let has = is_aarch64_feature_detected!("neon") && is_aarch64_feature_detected!("dotprod");
        has.then_some(DotProd { _checked: () })
    }

    fn enter<T: Task>(simd: Neon<Self>, task: T) -> T::Output {
        #[target_feature(enable = "neon,dotprod")]
        #[inline(never)]
        fn region<T: Task>(simd: Neon<DotProd>, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `simd` proves that the CPU has the features.
        unsafe { region(simd, task) }
    }

    #[inline(always)]
    fn dot(self, sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        // SAFETY: `self` proves the features.
        unsafe { sdot(sum, w, a) }
    }

    #[inline(always)]
    fn cell(self, rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
        // SAFETY: `self` proves the features.
        unsafe { words(rows) }
    }

    #[inline(always)]
    fn multiply(
        self,
        sums: [int32x4_t; 4],
        cell: [int8x16_t; 4],
        a: [int8x16_t; 4],
    ) -> [int32x4_t; 4] {
        // SAFETY: `self` proves the features.
        std::array::from_fn(|m| unsafe {
            let sum = sdot_word::<0>(sums[m], cell[0], a[m]);
            let sum = sdot_word::<1>(sum, cell[1], a[m]);
            let sum = sdot_word::<2>(sum, cell[2], a[m]);
            sdot_word::<3>(sum, cell[3], a[m])
        })
    }

    #[inline(always)]
    fn by_activation(self, sums: [int32x4_t; 4]) -> [int32x4_t; 4] {
        sums
    }
}

impl Bytes for I8mm {
    fn new() -> Option<Self> {
        let dot = DotProd::new()?;
        is_aarch64_feature_detected!("i8mm").then_some(I8mm { dot })
    }

    fn enter<T: Task>(simd: Neon<Self>, task: T) -> T::Output {
        #[target_feature(enable = "neon,dotprod,i8mm")]
        #[inline(never)]
        fn region<T: Task>(simd: Neon<I8mm>, task: T) -> T::Output {
            task.run(simd)
        }
        // SAFETY: `simd` proves that the CPU has the features.
        unsafe { region(simd, task) }
    }

    #[inline(always)]
    fn dot(self, sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
        self.dot.dot(sum, w, a)
    }

    /// Rows 0 and 1, rows 2 and 3, of codes 0..8; the same of codes 8..16.
    #[inline(always)]
    fn cell(self, rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
        // SAFETY: `self` proves the features.
        unsafe { halves(rows) }
    }

    /// Sums: weight rows 0–1 with activations 0–1, 2–3 with 0–1, 0–1 with 2–3,
    /// 2–3 with 2–3; lanes `[weight row][activations]`.
    #[inline(always)]
    fn multiply(
        self,
        sums: [int32x4_t; 4],
        cell: [int8x16_t; 4],
        a: [int8x16_t; 4],
    ) -> [int32x4_t; 4] {
        // SAFETY: `self` proves the features.
        unsafe {
            let a = halves(a);
            let of = |sum, w, m: usize| smmla(smmla(sum, cell[w], a[m]), cell[2 + w], a[2 + m]);
            [of(sums[0], 0, 0), of(sums[1], 1, 0), of(sums[2], 0, 1), of(sums[3], 1, 1)]
        }
    }

    #[inline(always)]
    fn by_activation(self, [a, b, c, d]: [int32x4_t; 4]) -> [int32x4_t; 4] {
        // SAFETY: `self` proves the features.
        unsafe { [vuzp1q_s32(a, b), vuzp2q_s32(a, b), vuzp1q_s32(c, d), vuzp2q_s32(c, d)] }
    }
}

/// A 4 × 4 transpose of words of four codes: register j has word j of each row.
#[inline]
#[target_feature(enable = "neon")]
fn words([a, b, c, d]: [int8x16_t; 4]) -> [int8x16_t; 4] {
    let word = |x| vreinterpretq_s32_s8(x);
    let pair = |x| vreinterpretq_s64_s32(x);
    let (ab0, ab1) = (pair(vtrn1q_s32(word(a), word(b))), pair(vtrn2q_s32(word(a), word(b))));
    let (cd0, cd1) = (pair(vtrn1q_s32(word(c), word(d))), pair(vtrn2q_s32(word(c), word(d))));
    [vtrn1q_s64(ab0, cd0), vtrn1q_s64(ab1, cd1), vtrn2q_s64(ab0, cd0), vtrn2q_s64(ab1, cd1)]
        .map(|x| vreinterpretq_s8_s64(x))
}

/// Codes 0..8 of rows 0 and 1, of rows 2 and 3; codes 8..16 of the same.
#[inline]
#[target_feature(enable = "neon")]
fn halves(rows: [int8x16_t; 4]) -> [int8x16_t; 4] {
    let [a, b, c, d] = rows.map(|x| vreinterpretq_s64_s8(x));
    [vtrn1q_s64(a, b), vtrn1q_s64(c, d), vtrn2q_s64(a, b), vtrn2q_s64(c, d)]
        .map(|x| vreinterpretq_s8_s64(x))
}

// The intrinsics of these three instructions are not stable in Rust 1.95. The
// functions name their extension in the assembly instead of `target_feature`:
// so they can be inlined always, closures included; as calls they were lost.

#[inline(always)]
unsafe fn sdot(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: registers only; the caller has proof of the instruction.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {w:v}.16b, {a:v}.16b",
            sum = inout(vreg) sum, w = in(vreg) w, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// [`sdot`] with word `J` of `a` for every word.
#[inline(always)]
unsafe fn sdot_word<const J: usize>(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: as in `sdot`.
    unsafe {
        asm!(
            ".arch_extension dotprod",
            "sdot {sum:v}.4s, {w:v}.16b, {a:v}.4b[{j}]",
            sum = inout(vreg) sum, w = in(vreg) w, a = in(vreg) a, j = const J,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

/// `sum[2i + j] + Σ w[8i + k] · a[8j + k]`, k = 0..8.
#[inline(always)]
unsafe fn smmla(mut sum: int32x4_t, w: int8x16_t, a: int8x16_t) -> int32x4_t {
    // SAFETY: as in `sdot`.
    unsafe {
        asm!(
            ".arch_extension i8mm",
            "smmla {sum:v}.4s, {w:v}.16b, {a:v}.16b",
            sum = inout(vreg) sum, w = in(vreg) w, a = in(vreg) a,
            options(pure, nomem, nostack, preserves_flags)
        );
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(x: &[i8; 16]) -> int8x16_t {
        // SAFETY: NEON is there on every aarch64 with std; 16 bytes can be read.
        unsafe { vld1q_s8(x.as_ptr()) }
    }

    fn lanes(x: int32x4_t) -> [i32; 4] {
        let mut out = [0; 4];
        // SAFETY: as in `load`; 16 bytes can be written.
        unsafe { vst1q_s32(out.as_mut_ptr(), x) };
        out
    }

    /// Four rows: random codes, and every pairing of the extremes.
    fn rows() -> Vec<[[i8; 16]; 4]> {
        let mut state = 1u32;
        let mut random = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 24) as i8
        };
        let mut rows: Vec<_> =
            (0..50).map(|_| std::array::from_fn(|_| std::array::from_fn(|_| random()))).collect();
        rows.push([[-128; 16], [127; 16], [0; 16], [-127; 16]]);
        rows.push([[-128; 16]; 4]);
        rows.push([[127; 16]; 4]);
        rows
    }

    fn check<B: Bytes>() {
        let Some(bytes) = B::new() else { return };
        let start = [7, -9, i32::MAX - 300_000, 0];
        // SAFETY: as in `load`.
        let (start_lanes, zero) = unsafe { (vld1q_s32(start.as_ptr()), vdupq_n_s32(0)) };
        for w in rows() {
            for a in rows() {
                let sums = lanes(bytes.dot(start_lanes, load(&w[0]), load(&a[0])));
                for i in 0..4 {
                    let span = 4 * i..4 * i + 4;
                    let exact: i32 =
                        span.map(|k| i32::from(w[0][k]) * i32::from(a[0][k])).sum::<i32>();
                    assert_eq!(sums[i], start[i] + exact);
                }
                let cell = bytes.cell(w.map(|row| load(&row)));
                let once = bytes.multiply([zero; 4], cell, a.map(|row| load(&row)));
                let twice = bytes.multiply(once, cell, a.map(|row| load(&row)));
                for (m, sums) in bytes.by_activation(twice).into_iter().enumerate() {
                    for (n, sum) in lanes(sums).into_iter().enumerate() {
                        let products = w[n].iter().zip(a[m]);
                        let exact: i32 = products.map(|(&w, a)| i32::from(w) * i32::from(a)).sum();
                        assert_eq!(sum, 2 * exact, "weight row {n}, activations {m}");
                    }
                }
            }
        }
    }

    #[test]
    fn sums_are_exact_on_every_set() {
        check::<Plain>();
        check::<DotProd>();
        check::<I8mm>();
    }
}
