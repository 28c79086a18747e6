//! Rotary position embedding (Su et al. 2021): pair i of a head is turned by
//! `position · frequency[i]`.
//!
//! ```text
//! (a, b) ← (a·cos − b·sin, b·cos + a·sin)   as fma(b, ∓sin, a·cos), 8 pairs at once
//! ```

use super::math::padded;
use crate::simd::Simd;

/// Which values of a head form pair i.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// (2i, 2i + 1): what GGUF's `llama` files are permuted for.
    Neighbours,
}

/// How heads are turned: the same for every layer and token.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    pub pairing: Pairing,
    /// `[n_rot / 2]`: radians per position, scaling included.
    pub frequencies: Vec<f64>,
}

/// Cosines and sines for the rows of a batch, one for each turned value.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// `[rows, n_rot]`: each cosine twice.
    cos: Vec<f32>,
    /// `[rows, n_rot]`: −sin for the first of a pair, sin for the second.
    sin: Vec<f32>,
    n_rot: usize,
}

impl Rope {
    /// Computes the turns for `positions`, in f64: f32 angles would lose a
    /// digit every ten positions.
    pub fn turns(&self, positions: &[usize], out: &mut Turns) {
        let Pairing::Neighbours = self.pairing;
        out.n_rot = 2 * self.frequencies.len();
        out.cos.clear();
        out.sin.clear();
        for &position in positions {
            for frequency in &self.frequencies {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                out.cos.extend([cos as f32; 2]);
                out.sin.extend([-sin as f32, sin as f32]);
            }
        }
    }
}

impl Turns {
    /// Turns one head of row `row` in place.
    #[inline(always)]
    pub fn apply<S: Simd>(&self, simd: S, row: usize, head: &mut [f32]) {
        let span = row * self.n_rot..(row + 1) * self.n_rot;
        let (cos, cos_tail) = self.cos[span.clone()].as_chunks::<16>();
        let (sin, sin_tail) = self.sin[span].as_chunks::<16>();
        let turn = |x: &mut [f32; 16], cos: &[f32; 16], sin: &[f32; 16]| {
            let (lanes, cos, sin) = (simd.load(x), simd.load(cos), simd.load(sin));
            let turned = simd.fma(simd.swap_pairs(lanes), sin, simd.mul(lanes, cos));
            simd.store(turned, x);
        };
        let (head, tail) = head[..self.n_rot].as_chunks_mut::<16>();
        for ((x, cos), sin) in head.iter_mut().zip(cos).zip(sin) {
            turn(x, cos, sin);
        }
        if !tail.is_empty() {
            let mut x = padded(tail);
            turn(&mut x, &padded(cos_tail), &padded(sin_tail));
            tail.copy_from_slice(&x[..tail.len()]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::{Isa, Task};

    struct Apply<'a>(&'a Turns, usize, &'a mut [f32]);
    impl Task for Apply<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            self.0.apply(simd, self.1, self.2);
        }
    }

    #[test]
    fn turns_pairs_by_their_angles_and_leaves_the_rest() {
        for (head_dim, n_rot) in [(2, 2), (8, 8), (24, 20), (128, 128), (48, 32)] {
            let frequencies: Vec<f64> = (0..n_rot / 2).map(|i| 1.0 / f64::from(i + 1)).collect();
            let rope = Rope { pairing: Pairing::Neighbours, frequencies };
            let mut turns = Turns::default();
            rope.turns(&[5, 1000], &mut turns);
            let head: Vec<f32> = (0..head_dim).map(|i| (i as f32 * 0.7).sin()).collect();
            for (row, position) in [5.0, 1000.0].into_iter().enumerate() {
                let mut first: Option<Vec<f32>> = None;
                for isa in Isa::available() {
                    let mut out = head.clone();
                    isa.run(Apply(&turns, row, &mut out));
                    assert_eq!(out[n_rot as usize..], head[n_rot as usize..]);
                    for (pair, frequency) in rope.frequencies.iter().enumerate() {
                        let (sin, cos) = (position * frequency).sin_cos();
                        let [a, b] = [head[2 * pair], head[2 * pair + 1]].map(f64::from);
                        let exact = [a * cos - b * sin, a * sin + b * cos];
                        for (out, exact) in out[2 * pair..].iter().zip(exact) {
                            assert!((f64::from(*out) - exact).abs() < 2e-7, "{isa} {head_dim}");
                        }
                    }
                    assert_eq!(*first.get_or_insert_with(|| out.clone()), out, "{isa}");
                }
            }
        }
    }
}
