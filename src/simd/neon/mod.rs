//! NEON: every aarch64 CPU. Three tiers, which differ in how they multiply bytes
//! ([`Bytes`]): plain ARMv8.0, `sdot` (ARMv8.2 option, 2018), `smmla` (ARMv8.6,
//! 2021).
//!
//! Right under emulation; not measured on hardware.
//!
//! Methods are a few instructions, `#[inline(always)]` into the one function
//! compiled for the tier ([`Bytes::enter`]).

mod bytes;

use std::arch::aarch64::*;
use std::arch::asm;

use super::{Simd, Task};

pub(crate) use bytes::{Bytes, DotProd, I8mm, Plain};

/// NEON with one way to multiply bytes; `bytes` is the proof that the CPU has both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Neon<B> {
    bytes: B,
}

impl<B: Bytes> Neon<B> {
    pub fn new() -> Option<Self> {
        Some(Neon { bytes: B::new()? })
    }

    /// The way to multiply bytes.
    pub fn bytes(self) -> B {
        self.bytes
    }

    /// Runs `task` in code compiled for this tier.
    pub fn enter<T: Task>(self, task: T) -> T::Output {
        B::enter(self, task)
    }
}

/// Lanes 0–3, 4–7, 8–11, 12–15.
#[derive(Clone, Copy)]
pub(crate) struct F32x16([float32x4_t; 4]);

impl F32x16 {
    #[inline(always)]
    fn each(f: impl Fn(usize) -> float32x4_t) -> Self {
        F32x16([f(0), f(1), f(2), f(3)])
    }
}

/// Lanes 0–3, 4–7, 8–11, 12–15.
#[derive(Clone, Copy)]
pub(crate) struct I32x16([int32x4_t; 4]);

/// Lanes 0–7, 8–15, 16–23, 24–31.
#[derive(Clone, Copy)]
pub(crate) struct I16x32([int16x8_t; 4]);

impl<B: Bytes> Simd for Neon<B> {
    type F32x16 = F32x16;
    type I32x16 = I32x16;
    type I16x32 = I16x32;
    const TILE: usize = 1;

    #[inline(always)]
    fn apart<T: Task>(self, task: T) -> T::Output {
        self.enter(task)
    }

    #[inline(always)]
    fn splat(self, x: f32) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|_| unsafe { vdupq_n_f32(x) })
    }

    #[inline(always)]
    fn load(self, x: &[f32; 16]) -> F32x16 {
        // SAFETY: `self` proves the features; i is below 4, and 16 floats can be
        // read from `x`.
        F32x16::each(|i| unsafe { vld1q_f32(x.as_ptr().add(4 * i)) })
    }

    #[inline(always)]
    fn store(self, x: F32x16, out: &mut [f32; 16]) {
        for (x, out) in x.0.into_iter().zip(out.as_chunks_mut::<4>().0) {
            // SAFETY: `self` proves the features; 4 floats can be written to `out`.
            unsafe { vst1q_f32(out.as_mut_ptr(), x) }
        }
    }

    #[inline(always)]
    fn add(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vaddq_f32(a.0[i], b.0[i]) })
    }

    #[inline(always)]
    fn mul(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vmulq_f32(a.0[i], b.0[i]) })
    }

    #[inline(always)]
    fn fma(self, a: F32x16, b: F32x16, c: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vfmaq_f32(c.0[i], a.0[i], b.0[i]) })
    }

    #[inline(always)]
    fn div(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vdivq_f32(a.0[i], b.0[i]) })
    }

    /// Compare and select: `fmax` would give NaN for NaN.
    #[inline(always)]
    fn max(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vbslq_f32(vcgtq_f32(a.0[i], b.0[i]), a.0[i], b.0[i]) })
    }

    #[inline(always)]
    fn min(self, a: F32x16, b: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vbslq_f32(vcltq_f32(a.0[i], b.0[i]), a.0[i], b.0[i]) })
    }

    #[inline(always)]
    fn pow2(self, bits: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe {
            let n = vaddq_s32(vreinterpretq_s32_f32(bits.0[i]), vdupq_n_s32(127));
            vreinterpretq_f32_s32(vshlq_n_s32::<23>(n))
        })
    }

    #[inline(always)]
    fn sum(self, x: F32x16) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let four = vaddq_f32(vaddq_f32(x.0[0], x.0[2]), vaddq_f32(x.0[1], x.0[3]));
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }

    #[inline(always)]
    fn max_lane(self, x: F32x16) -> f32 {
        // SAFETY: `self` proves the features.
        unsafe {
            let max = |a, b| vbslq_f32(vcgtq_f32(a, b), a, b);
            let four = max(max(x.0[0], x.0[2]), max(x.0[1], x.0[3]));
            let two = max(four, vextq_f32::<2>(four, four));
            vgetq_lane_f32::<0>(max(two, vextq_f32::<1>(two, two)))
        }
    }

    #[inline(always)]
    fn swap_pairs(self, x: F32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vrev64q_f32(x.0[i]) })
    }

    #[inline(always)]
    fn zero_i32(self) -> I32x16 {
        // SAFETY: `self` proves the features.
        I32x16([unsafe { vdupq_n_s32(0) }; 4])
    }

    #[inline(always)]
    fn load_i16(self, x: &[i16; 32]) -> I16x32 {
        // SAFETY: `self` proves the features; i is below 4, and 64 bytes can be
        // read from `x`.
        I16x32(std::array::from_fn(|i| unsafe { vld1q_s16(x.as_ptr().add(8 * i)) }))
    }

    #[inline(always)]
    fn store_i16(self, x: I16x32, out: &mut [i16; 32]) {
        for (x, out) in x.0.into_iter().zip(out.as_chunks_mut::<8>().0) {
            // SAFETY: `self` proves the features; 16 bytes can be written to `out`.
            unsafe { vst1q_s16(out.as_mut_ptr(), x) }
        }
    }

    #[inline(always)]
    fn load_i8_high(self, x: &[i8; 32]) -> I16x32 {
        // SAFETY: `self` proves the features; i is below 4, and 32 bytes can be
        // read from `x`.
        I16x32(std::array::from_fn(|i| unsafe {
            vshlq_n_s16::<8>(vmovl_s8(vld1_s8(x.as_ptr().add(8 * i))))
        }))
    }

    #[inline(always)]
    fn splat_pair(self, pair: &[i16; 2]) -> I16x32 {
        // SAFETY: `self` proves the features; 4 bytes can be read from `pair`.
        let x = unsafe { vdupq_n_s32(pair.as_ptr().cast::<i32>().read_unaligned()) };
        // SAFETY: `self` proves the features.
        I16x32([unsafe { vreinterpretq_s16_s32(x) }; 4])
    }

    /// Eight products in i32, neighbours added, then `acc`: all wrap.
    #[inline(always)]
    fn dot_pairs(self, acc: I32x16, a: I16x32, b: I16x32) -> I32x16 {
        let (a, b) = (a.0, b.0);
        // SAFETY: `self` proves the features.
        I32x16(std::array::from_fn(|i| unsafe {
            let low = vmull_s16(vget_low_s16(a[i]), vget_low_s16(b[i]));
            let high = vmull_high_s16(a[i], b[i]);
            vaddq_s32(acc.0[i], vpaddq_s32(low, high))
        }))
    }

    /// `sqrdmulh` is `(2 · a · b + 2¹⁵) >> 16`.
    #[inline(always)]
    fn mul_q15(self, a: I16x32, b: I16x32) -> I16x32 {
        // SAFETY: `self` proves the features.
        I16x32(std::array::from_fn(|i| unsafe { vqrdmulhq_s16(a.0[i], b.0[i]) }))
    }

    #[inline(always)]
    fn to_f32(self, x: I32x16) -> F32x16 {
        // SAFETY: `self` proves the features.
        F32x16::each(|i| unsafe { vcvtq_f32_s32(x.0[i]) })
    }

    /// `fcvtns` rounds ties to even.
    #[inline(always)]
    fn round_i16(self, low: F32x16, high: F32x16) -> I16x32 {
        // SAFETY: `self` proves the features.
        let pack =
            |a, b| unsafe { vmovn_high_s32(vmovn_s32(vcvtnq_s32_f32(a)), vcvtnq_s32_f32(b)) };
        let (low, high) = (low.0, high.0);
        I16x32([
            pack(low[0], low[1]),
            pack(low[2], low[3]),
            pack(high[0], high[1]),
            pack(high[2], high[3]),
        ])
    }

    /// The intrinsic is not stable in Rust 1.95.
    #[inline(always)]
    fn prefetch(self, x: *const u8) {
        // SAFETY: a hint; it reads nothing and faults nowhere.
        unsafe {
            asm!("prfm pldl1keep, [{x}]", x = in(reg) x, options(readonly, nostack, preserves_flags));
        }
    }

    #[inline(always)]
    fn dot_codes(self, q: &[i8], scale: &[i16], a: &[i8]) -> i32 {
        bytes::dot_codes(self.bytes, q, scale, a)
    }
}
