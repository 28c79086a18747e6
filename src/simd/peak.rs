//! How fast each tier multiplies int8 codes when nothing else is done: chains of
//! its multiply instructions, all in registers. What [`crate::machine`] measures.
//!
//! Every function returns the number of multiply-adds that it did. Chains are
//! independent, enough of them to hide the latency; each product depends on its
//! chain, so that the compiler can neither drop nor hoist it.

use std::hint::black_box;

use super::Simd;

/// The dot product that every tier has, on codes in the nearest cache.
#[inline(always)]
pub(super) fn dot_codes<S: Simd>(simd: S, rounds: usize) -> u64 {
    let (q, scale, a) = black_box(([3i8; 2048], [1i16; 128], [5i8; 2048]));
    for _ in 0..rounds.div_ceil(64) {
        black_box(simd.dot_codes(black_box(&q), &scale, &a));
    }
    (rounds.div_ceil(64) * q.len()) as u64
}

#[cfg(target_arch = "x86_64")]
pub(super) use x86::{avx2, avx512, avxvnni};

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// More than two instructions per cycle times five cycles of latency.
    const CHAINS: usize = 12;

    /// `maddubs` into i16, eight times before `madd` widens: as many products of
    /// 4-bit codes fit (8 · 2 · 15 · 127 = 30,480). Formats with more bits need
    /// `madd` more often and cannot reach this.
    #[target_feature(enable = "avx2")]
    pub fn avx2(rounds: usize) -> u64 {
        const SUMS: usize = 8;
        let weights = black_box(_mm256_set1_epi8(3));
        let ones = black_box(_mm256_set1_epi16(1));
        let mut chains = black_box([_mm256_set1_epi8(5); CHAINS]);
        let mut sum = _mm256_setzero_si256();
        for _ in 0..rounds {
            for _ in 0..SUMS {
                for chain in &mut chains {
                    *chain = _mm256_add_epi16(*chain, _mm256_maddubs_epi16(weights, *chain));
                }
            }
            for chain in chains {
                sum = _mm256_add_epi32(sum, _mm256_madd_epi16(chain, ones));
            }
        }
        black_box((chains, sum));
        (rounds * SUMS * CHAINS * 32) as u64
    }

    /// `dpbusd` on half registers: 32 multiply-adds each.
    #[target_feature(enable = "avx2,avxvnni")]
    pub fn avxvnni(rounds: usize) -> u64 {
        let weights = black_box(_mm256_set1_epi8(3));
        let activations = black_box(_mm256_set1_epi8(5));
        let mut chains = black_box([_mm256_setzero_si256(); CHAINS]);
        for _ in 0..rounds {
            for chain in &mut chains {
                *chain = _mm256_dpbusd_avx_epi32(*chain, weights, activations);
            }
        }
        black_box(chains);
        (rounds * CHAINS * 32) as u64
    }

    /// `dpbusd` on whole registers: 64 multiply-adds each.
    #[target_feature(enable = "avx512f,avx512vnni")]
    pub fn avx512(rounds: usize) -> u64 {
        let weights = black_box(_mm512_set1_epi8(3));
        let activations = black_box(_mm512_set1_epi8(5));
        let mut chains = black_box([_mm512_setzero_si512(); CHAINS]);
        for _ in 0..rounds {
            for chain in &mut chains {
                *chain = _mm512_dpbusd_epi32(*chain, weights, activations);
            }
        }
        black_box(chains);
        (rounds * CHAINS * 64) as u64
    }
}
