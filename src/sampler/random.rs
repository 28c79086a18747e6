//! A small random generator that is the same on every platform.
//!
//! SplitMix64: G. Steele, D. Lea, C. Flood, "Fast splittable pseudorandom
//! number generators", OOPSLA 2014, with the mixing constants of D. Stafford's
//! variant 13. One 64-bit counter and a bijective mix; it passes BigCrush, every
//! seed is as good as another, and a draw per token needs no longer period.

use std::hash::{BuildHasher, RandomState};

#[derive(Debug, Clone)]
pub(super) struct Random {
    state: u64,
}

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    fn bits(&mut self) -> u64 {
        // 2^64 divided by the golden ratio, made odd.
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Uniform in `[0, 1)`: the upper 53 bits, all that an f64 can hold.
    pub(super) fn unit(&mut self) -> f64 {
        const STEP: f64 = 1.0 / (1u64 << 53) as f64;
        (self.bits() >> 11) as f64 * STEP
    }
}

/// An unpredictable seed: the standard library keys its hash maps
/// from the operating system's entropy, and hashing tells that key's worth.
pub(super) fn seed_from_entropy() -> u64 {
    RandomState::new().hash_one(0u8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matches_the_published_first_outputs() {
        // Seed 1234567, as listed with the reference implementations.
        let mut random = Random::new(1_234_567);
        let drawn: Vec<u64> = (0..3).map(|_| random.bits()).collect();
        assert_eq!(drawn, [6457827717110365317, 3203168211198807973, 9817491932198370423]);
    }

    #[test]
    fn unit_stays_below_one_and_is_even() {
        let mut random = Random::new(0);
        let drawn: Vec<f64> = (0..100_000).map(|_| random.unit()).collect();
        assert!(drawn.iter().all(|u| (0.0..1.0).contains(u)));
        let mean = drawn.iter().sum::<f64>() / drawn.len() as f64;
        assert!((mean - 0.5).abs() < 0.005, "mean {mean}");
    }

    #[test]
    fn entropy_differs() {
        assert_ne!(seed_from_entropy(), seed_from_entropy());
    }
}
