//! Instruction sets, in tiers: one file or folder per tier, one small vocabulary for all.
//!
//! Kernels (in `src/kernel`) are written once, generic over `Simd`. An
//! [`Isa`] is a value: it exists only for a tier that this CPU has, is chosen
//! once, and is carried to where the work is. `Isa::run` enters a region
//! compiled for the tier, once per kernel call.
//!
//! # The same bits everywhere
//! The unit of f32 arithmetic is 16 lanes on every tier (two AVX registers, one
//! AVX-512 register, four NEON or SSE registers). `fma` rounds once on every
//! tier, sums over lanes use one fixed tree, and `max` is `a > b ? a : b`. So a
//! kernel gives the same bits on every tier, and tests compare with `==`.

#[cfg(target_arch = "x86_64")]
pub(crate) mod avx2;
#[cfg(target_arch = "x86_64")]
pub(crate) mod avx512;
#[cfg(target_arch = "aarch64")]
pub(crate) mod neon;
mod peak;
mod portable;

use crate::error::{Error, Result};
use crate::quant::wide::{ByTable, Signs};
#[cfg(target_arch = "x86_64")]
use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
use avx512::{Amx, Avx512};
#[cfg(target_arch = "aarch64")]
use neon::{DotProd, I8mm, Neon, Plain};
pub(crate) use portable::Portable;

/// A tier (an instruction set) that this CPU has.
///
/// ```
/// let isa = tramontane::Isa::detect();
/// assert!(tramontane::Isa::available().contains(&isa));
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(Tier);

/// The proofs that the CPU has an instruction set, one per tier.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tier {
    Portable(Portable),
    #[cfg(target_arch = "x86_64")]
    Avx2(Avx2),
    #[cfg(target_arch = "x86_64")]
    Avx512(Avx512),
    #[cfg(target_arch = "x86_64")]
    Amx(Amx),
    #[cfg(target_arch = "aarch64")]
    Neon(Neon<Plain>),
    #[cfg(target_arch = "aarch64")]
    NeonDotProd(Neon<DotProd>),
    #[cfg(target_arch = "aarch64")]
    NeonI8mm(Neon<I8mm>),
}

impl Isa {
    /// The environment variable that forces a tier, for tests and benches.
    pub const VARIABLE: &'static str = "TRAMONTANE_ISA";

    /// The best tier of this CPU.
    pub fn detect() -> Isa {
        Isa::available().last().copied().unwrap_or(Isa(Tier::Portable(Portable)))
    }

    /// Every tier of this CPU, from the plainest to the best. The first call asks Linux for
    /// AMX on a CPU that has it: a signal's frame is 8 KiB larger from then on, so a thread
    /// that brings a stack of its own for signals must have room.
    pub fn available() -> Vec<Isa> {
        let mut tiers = vec![Isa(Tier::Portable(Portable))];
        #[cfg(target_arch = "x86_64")]
        {
            tiers.extend(Avx2::new().map(|avx2| Isa(Tier::Avx2(avx2))));
            tiers.extend(Avx2::with_vnni().map(|avx2| Isa(Tier::Avx2(avx2))));
            tiers.extend(Avx512::new().map(|avx512| Isa(Tier::Avx512(avx512))));
            tiers.extend(Amx::new().map(|amx| Isa(Tier::Amx(amx))));
        }
        #[cfg(target_arch = "aarch64")]
        {
            tiers.extend(Neon::new().map(|neon| Isa(Tier::Neon(neon))));
            tiers.extend(Neon::new().map(|neon| Isa(Tier::NeonDotProd(neon))));
            tiers.extend(Neon::new().map(|neon| Isa(Tier::NeonI8mm(neon))));
        }
        tiers
    }

    /// The tier called `name`: `portable`; on x86-64 `avx2`, `avxvnni`, `avx512`,
    /// `amx` (AVX-512, and AMX for many rows); on aarch64 `neon`, `neon-dotprod`, `neon-i8mm`.
    ///
    /// # Errors
    /// [`Error::Misuse`] if there is no such tier or this CPU lacks it.
    pub fn named(name: &str) -> Result<Isa> {
        Isa::available().into_iter().find(|isa| isa.name() == name).ok_or_else(|| {
            let names: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
            Error::misuse(format!("instruction set {name:?}: this CPU has {}", names.join(", ")))
        })
    }

    /// The tier named by [`Isa::VARIABLE`] if that is set, else the best one.
    ///
    /// # Errors
    /// [`Error::Misuse`] if the variable names a tier that this CPU lacks.
    pub fn from_env() -> Result<Isa> {
        match std::env::var(Isa::VARIABLE) {
            Ok(name) if !name.is_empty() => Isa::named(&name),
            _ => Ok(Isa::detect()),
        }
    }

    /// The name that [`Isa::named`] takes.
    pub fn name(self) -> &'static str {
        match self.0 {
            Tier::Portable(_) => "portable",
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(simd) if simd.has_vnni() => "avxvnni",
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(_) => "avx2",
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(_) => "avx512",
            #[cfg(target_arch = "x86_64")]
            Tier::Amx(_) => "amx",
            #[cfg(target_arch = "aarch64")]
            Tier::Neon(_) => "neon",
            #[cfg(target_arch = "aarch64")]
            Tier::NeonDotProd(_) => "neon-dotprod",
            #[cfg(target_arch = "aarch64")]
            Tier::NeonI8mm(_) => "neon-i8mm",
        }
    }

    /// The tier for loops of look-ups in tables: AVX2 where there is AVX-512, for which LLVM
    /// makes gathers of them, on Zen 5 up to half as slow again.
    pub(crate) fn for_tables(self) -> Isa {
        match self.0 {
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(_) | Tier::Amx(_) => {
                Avx2::new().map_or(self, |avx2| Isa(Tier::Avx2(avx2)))
            }
            _ => self,
        }
    }

    pub(crate) fn tier(&self) -> &Tier {
        &self.0
    }

    /// Runs `task` compiled for this tier.
    pub(crate) fn run<T: Task>(self, task: T) -> T::Output {
        match self.0 {
            Tier::Portable(simd) => task.run(simd),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx2(simd) => simd.enter(task),
            #[cfg(target_arch = "x86_64")]
            Tier::Avx512(simd) => simd.enter(task),
            #[cfg(target_arch = "x86_64")]
            Tier::Amx(simd) => simd.avx512().enter(task),
            #[cfg(target_arch = "aarch64")]
            Tier::Neon(simd) => simd.enter(task),
            #[cfg(target_arch = "aarch64")]
            Tier::NeonDotProd(simd) => simd.enter(task),
            #[cfg(target_arch = "aarch64")]
            Tier::NeonI8mm(simd) => simd.enter(task),
        }
    }
}

impl std::fmt::Display for Isa {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// A kernel: code that is compiled once per instruction set.
///
/// Implementations mark `run` and all that it calls `#[inline(always)]`; what
/// is not inlined into [`Isa::run`]'s region is compiled for the plain CPU.
pub(crate) trait Task {
    type Output;
    fn run<S: Simd>(self, simd: S) -> Self::Output;
}

/// What kernels are written in. Methods are total: no index can be wrong.
pub(crate) trait Simd: Copy + Send + Sync + 'static {
    /// 16 lanes of f32.
    type F32x16: Copy;
    /// 16 lanes of i32.
    type I32x16: Copy;
    /// 32 lanes of i16: pair i is lanes 2i and 2i + 1.
    type I16x32: Copy;
    /// How many `I32x16` side by side a tile of 4 rows keeps in registers
    /// together with its operands: 1 or 4.
    const TILE: usize;

    /// Runs `task` in a function of its own, compiled for the tier. A kernel per format goes
    /// there: all of them in one function took LLVM, whose time per loop grows with the
    /// function, three quarters of the crate's compilation.
    fn apart<T: Task>(self, task: T) -> T::Output;

    fn splat(self, x: f32) -> Self::F32x16;
    fn load(self, x: &[f32; 16]) -> Self::F32x16;
    fn store(self, x: Self::F32x16, out: &mut [f32; 16]);
    fn add(self, a: Self::F32x16, b: Self::F32x16) -> Self::F32x16;
    fn mul(self, a: Self::F32x16, b: Self::F32x16) -> Self::F32x16;
    /// `a · b + c`, rounded once.
    fn fma(self, a: Self::F32x16, b: Self::F32x16, c: Self::F32x16) -> Self::F32x16;
    fn div(self, a: Self::F32x16, b: Self::F32x16) -> Self::F32x16;
    /// `a > b ? a : b`: with a NaN on either side, `b`.
    fn max(self, a: Self::F32x16, b: Self::F32x16) -> Self::F32x16;
    /// `a < b ? a : b`: with a NaN on either side, `b`.
    fn min(self, a: Self::F32x16, b: Self::F32x16) -> Self::F32x16;
    /// `2^n` for the integer n in the low bits of each lane's pattern, that is
    /// `f32::from_bits((bits + 127) << 23)`; n in −126..=127.
    fn pow2(self, bits: Self::F32x16) -> Self::F32x16;
    /// The sum of the lanes as a tree: i + (i + 8), then + 4, + 2, + 1.
    fn sum(self, x: Self::F32x16) -> f32;
    /// [`sum`](Simd::sum) of each.
    #[inline(always)]
    fn sums(self, x: [Self::F32x16; 4]) -> [f32; 4] {
        let [a, b, c, d] = x;
        [self.sum(a), self.sum(b), self.sum(c), self.sum(d)]
    }
    /// The largest lane, by [`max`](Simd::max) over the tree of
    /// [`sum`](Simd::sum), the lower lane first.
    fn max_lane(self, x: Self::F32x16) -> f32;
    /// Lane 2i and lane 2i + 1 change places.
    fn swap_pairs(self, x: Self::F32x16) -> Self::F32x16;

    fn zero_i32(self) -> Self::I32x16;
    fn load_i16(self, x: &[i16; 32]) -> Self::I16x32;
    fn store_i16(self, x: Self::I16x32, out: &mut [i16; 32]);
    /// 256 · x.
    fn load_i8_high(self, x: &[i8; 32]) -> Self::I16x32;
    /// `pair` in each of the 16 pairs.
    fn splat_pair(self, pair: &[i16; 2]) -> Self::I16x32;
    /// `acc[i] + a[2i] · b[2i] + a[2i + 1] · b[2i + 1]`, wrapping; not all four
    /// factors −32,768.
    fn dot_pairs(self, acc: Self::I32x16, a: Self::I16x32, b: Self::I16x32) -> Self::I32x16;
    /// `(a · b + 2¹⁴) >> 15` per lane; not both −32,768.
    fn mul_q15(self, a: Self::I16x32, b: Self::I16x32) -> Self::I16x32;
    /// To the nearest f32, ties to even.
    fn to_f32(self, x: Self::I32x16) -> Self::F32x16;
    /// To the nearest integer, ties to even: lanes 0–15 from `low`, 16–31 from
    /// `high`. A lane that is NaN or rounds outside i16 becomes any number.
    fn round_i16(self, low: Self::F32x16, high: Self::F32x16) -> Self::I16x32;
    /// 16 numbers of half precision, little-endian, exactly.
    #[inline(always)]
    fn load_f16(self, x: &[u8; 32]) -> Self::F32x16 {
        let mut values = [0.0; 16];
        crate::quant::float::f16_row(x, &mut values);
        self.load(&values)
    }
    /// Asks for the cache line at `x`, which may lie anywhere, ahead of its use;
    /// changes nothing.
    #[inline(always)]
    fn prefetch(self, _x: *const u8) {}
    /// Asks for a line of a long stream: `far` is used much later, `near`, which was `far`
    /// once, soon. Sets that fetch in one step look at `far` only.
    #[inline(always)]
    fn prefetch_stream(self, far: *const u8, _near: *const u8) {
        self.prefetch(far);
    }

    /// `Σ scale[k / 16] · q[k] · a[k]` over `q.len()` = a multiple of 32 codes.
    ///
    /// Any `q`; `a` in −127..=127; `|scale| ≤ 128`. Products of a pair fit i16
    /// (2 · 128 · 127 = 32,512), and the sum over 256 codes fits i32
    /// (256 · 128 · 127 · 128 = 5.3 · 10⁸).
    fn dot_codes(self, q: &[i8], scale: &[i16], a: &[i8]) -> i32;

    /// `Σ min[i] · sums[i]`.
    #[inline(always)]
    fn dot_mins(self, min: &[i16], sums: &[i16]) -> i32 {
        let products = min.iter().zip(sums).map(|(&m, &s)| i32::from(m) * i32::from(s));
        products.sum()
    }

    /// Writes the bytes of `magnitudes`, 64 to 127, and 128 less those whose bit of `signs`
    /// is set: codes with their signs, + 64.
    #[inline(always)]
    fn put_signs(self, magnitudes: [u64; 4], signs: u32, out: &mut [u8; 32]) {
        ByTable.put(magnitudes, signs, out);
    }

    /// Multiplies int8 codes in registers for about `rounds` · 1,000
    /// multiply-adds and returns how many it did: for [`crate::machine`].
    #[inline(always)]
    fn multiply_chains(self, rounds: usize) -> u64 {
        peak::dot_codes(self, rounds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whoever forces a tier, as CI does under emulation, learns here that it is missing.
    #[test]
    fn the_tier_of_the_environment_is_there() {
        let isa = Isa::from_env().unwrap();
        assert!(Isa::available().contains(&isa));
        assert_eq!(Isa::named(isa.name()).unwrap(), isa);
    }
}
