//! Rotary position embedding (Su et al. 2021): pair i of a head is rotated by
//! `position · frequency[i]`.
//!
//! ```text
//! (a, b) ← (a·cos − b·sin, b·cos + a·sin)   as fma(b, ∓sin, a·cos), 16 values at once
//! ```

use super::math::padded;
use crate::simd::Simd;

/// Which values of a head form pair i.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// (2i, 2i + 1)
    Neighbours,
    /// (i, i + n_rot / 2)
    Halves,
}

/// What the positions do to the heads of some layers.
#[derive(Debug, Clone)]
pub(crate) struct Rope {
    pub pairing: Pairing,
    /// `[n_rot / 2]`: radians per position, scaling included.
    pub frequencies: Vec<f64>,
    /// Other frequencies for long contexts.
    pub long: Option<LongRope>,
    /// Factor of cosines and sines (YaRN, LongRoPE); 1 without.
    pub attention_factor: f64,
    /// Factor of queries by position.
    pub temperature: Option<Temperature>,
}

/// Frequencies of contexts with more than `above` positions. They are chosen once for
/// a context: keys that were rotated with the others would be wrong.
#[derive(Debug, Clone)]
pub(crate) struct LongRope {
    pub above: usize,
    /// `[n_rot / 2]`
    pub frequencies: Vec<f64>,
}

/// Queries are multiplied by `1 + scale · ln(1 + ⌊position / original_context⌋)`.
#[derive(Debug, Clone)]
pub(crate) struct Temperature {
    pub scale: f64,
    pub original_context: usize,
}

/// Where a row of a batch stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place {
    pub position: usize,
    /// Whether its context takes the frequencies of [`LongRope`].
    pub long: bool,
}

/// The rotary cosine and sine table of a batch, one entry for each rotated value.
#[derive(Debug)]
pub(crate) struct RotaryTable {
    pairing: Pairing,
    n_rot: usize,
    /// `[rows, n_rot]`: the cosine at both values of a pair.
    cos: Vec<f32>,
    /// `[rows, n_rot]`: −sin at the first value of a pair, sin at the second.
    sin: Vec<f32>,
    /// `[rows]`, or empty: factors of the queries.
    query_scale: Vec<f32>,
}

impl Default for RotaryTable {
    /// Rotates nothing.
    fn default() -> Self {
        let (cos, sin, query_scale) = (Vec::new(), Vec::new(), Vec::new());
        RotaryTable { pairing: Pairing::Neighbours, n_rot: 0, cos, sin, query_scale }
    }
}

impl Rope {
    /// Computes the table of the rows at `places`, in f64: f32 angles would lose a
    /// digit every ten positions.
    pub fn table(&self, places: &[Place], out: &mut RotaryTable) {
        out.pairing = self.pairing;
        out.n_rot = 2 * self.frequencies.len();
        out.cos.clear();
        out.sin.clear();
        let mut half = Vec::with_capacity(self.frequencies.len());
        for place in places {
            let frequencies = match &self.long {
                Some(long) if place.long => &long.frequencies,
                _ => &self.frequencies,
            };
            half.clear();
            half.extend(frequencies.iter().map(|frequency| {
                let (sin, cos) = (place.position as f64 * frequency).sin_cos();
                let factor = self.attention_factor;
                ((cos * factor) as f32, (sin * factor) as f32)
            }));
            match self.pairing {
                Pairing::Neighbours => {
                    out.cos.extend(half.iter().flat_map(|&(cos, _)| [cos; 2]));
                    out.sin.extend(half.iter().flat_map(|&(_, sin)| [-sin, sin]));
                }
                Pairing::Halves => {
                    out.cos.extend(half.iter().chain(&half).map(|&(cos, _)| cos));
                    out.sin.extend(half.iter().map(|&(_, sin)| -sin));
                    out.sin.extend(half.iter().map(|&(_, sin)| sin));
                }
            }
        }
        out.query_scale.clear();
        if let Some(temperature) = &self.temperature {
            out.query_scale.extend(places.iter().map(|place| temperature.at(place.position)));
        }
    }
}

impl Temperature {
    fn at(&self, position: usize) -> f32 {
        let contexts = position / self.original_context.max(1);
        (1.0 + self.scale * (contexts as f64).ln_1p()) as f32
    }
}

impl RotaryTable {
    /// The factor of the queries of row `row`, if they have one.
    pub fn query_scale(&self, row: usize) -> Option<f32> {
        self.query_scale.get(row).copied()
    }

    /// Rotates one head of row `row` in place.
    #[inline(always)]
    pub fn rotate<S: Simd>(&self, simd: S, row: usize, head: &mut [f32]) {
        let span = row * self.n_rot..(row + 1) * self.n_rot;
        let (head, cos, sin) = (&mut head[..self.n_rot], &self.cos[span.clone()], &self.sin[span]);
        match self.pairing {
            Pairing::Neighbours => neighbours(simd, head, cos, sin),
            Pairing::Halves => halves(simd, head, cos, sin),
        }
    }
}

#[inline(always)]
fn neighbours<S: Simd>(simd: S, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let ((cos, cos_tail), (sin, sin_tail)) = (cos.as_chunks::<16>(), sin.as_chunks::<16>());
    let (head, tail) = head.as_chunks_mut::<16>();
    let rotate = |x: &mut [f32; 16], cos: &[f32; 16], sin: &[f32; 16]| {
        let (lanes, cos, sin) = (simd.load(x), simd.load(cos), simd.load(sin));
        let rotated = simd.fma(simd.swap_pairs(lanes), sin, simd.mul(lanes, cos));
        simd.store(rotated, x);
    };
    for ((x, cos), sin) in head.iter_mut().zip(cos).zip(sin) {
        rotate(x, cos, sin);
    }
    if !tail.is_empty() {
        let mut x = padded(tail);
        rotate(&mut x, &padded(cos_tail), &padded(sin_tail));
        tail.copy_from_slice(&x[..tail.len()]);
    }
}

#[inline(always)]
fn halves<S: Simd>(simd: S, head: &mut [f32], cos: &[f32], sin: &[f32]) {
    let half = head.len() / 2;
    let (first, second) = head.split_at_mut(half);
    // Both values of a pair have the same cosine, and sines of opposite signs.
    let (cos, sin) = (&cos[..half], &sin[half..]);
    let ((first, first_tail), (second, second_tail)) =
        (first.as_chunks_mut::<16>(), second.as_chunks_mut::<16>());
    let ((cos, cos_tail), (sin, sin_tail)) = (cos.as_chunks::<16>(), sin.as_chunks::<16>());
    for (((a, b), cos), sin) in first.iter_mut().zip(second).zip(cos).zip(sin) {
        rotate_pairs(simd, a, b, cos, sin);
    }
    if !first_tail.is_empty() {
        let (mut a, mut b) = (padded(first_tail), padded(second_tail));
        rotate_pairs(simd, &mut a, &mut b, &padded(cos_tail), &padded(sin_tail));
        first_tail.copy_from_slice(&a[..first_tail.len()]);
        second_tail.copy_from_slice(&b[..second_tail.len()]);
    }
}

/// Rotates 16 pairs.
#[inline(always)]
fn rotate_pairs<S: Simd>(
    simd: S,
    a: &mut [f32; 16],
    b: &mut [f32; 16],
    cos: &[f32; 16],
    sin: &[f32; 16],
) {
    let (x, y, cos, sin) = (simd.load(a), simd.load(b), simd.load(cos), simd.load(sin));
    let minus_sin = simd.mul(sin, simd.splat(-1.0));
    simd.store(simd.fma(y, minus_sin, simd.mul(x, cos)), a);
    simd.store(simd.fma(x, sin, simd.mul(y, cos)), b);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::simd::{Isa, Task};

    /// A rope of the plainest kind.
    pub(crate) fn plain(pairing: Pairing, frequencies: Vec<f64>) -> Rope {
        Rope { pairing, frequencies, long: None, attention_factor: 1.0, temperature: None }
    }

    struct Rotate<'a>(&'a RotaryTable, usize, &'a mut [f32]);
    impl Task for Rotate<'_> {
        type Output = ();
        #[inline(always)]
        fn run<S: Simd>(self, simd: S) {
            self.0.rotate(simd, self.1, self.2);
        }
    }

    fn at(position: usize) -> Place {
        Place { position, long: false }
    }

    #[test]
    fn pairs_are_rotated_by_their_angles_and_the_rest_is_left() {
        let sizes = [(2, 2), (8, 8), (24, 20), (128, 128), (48, 32), (32, 24), (96, 96)];
        for (pairing, (head_dim, n_rot)) in [Pairing::Neighbours, Pairing::Halves]
            .into_iter()
            .flat_map(|pairing| sizes.map(|size| (pairing, size)))
        {
            let frequencies: Vec<f64> = (0..n_rot / 2).map(|i| 1.0 / f64::from(i + 1)).collect();
            let rope = plain(pairing, frequencies);
            let mut table = RotaryTable::default();
            rope.table(&[at(5), at(1000)], &mut table);
            let head: Vec<f32> = (0..head_dim).map(|i| (i as f32 * 0.7).sin()).collect();
            for (row, position) in [5.0, 1000.0].into_iter().enumerate() {
                let mut first: Option<Vec<f32>> = None;
                for isa in Isa::available() {
                    let mut out = head.clone();
                    isa.run(Rotate(&table, row, &mut out));
                    assert_eq!(out[n_rot as usize..], head[n_rot as usize..]);
                    for (pair, frequency) in rope.frequencies.iter().enumerate() {
                        let places = match pairing {
                            Pairing::Neighbours => [2 * pair, 2 * pair + 1],
                            Pairing::Halves => [pair, pair + n_rot as usize / 2],
                        };
                        let (sin, cos) = (position * frequency).sin_cos();
                        let [a, b] = places.map(|place| f64::from(head[place]));
                        let exact = [a * cos - b * sin, a * sin + b * cos];
                        for (place, exact) in places.into_iter().zip(exact) {
                            let error = (f64::from(out[place]) - exact).abs();
                            assert!(error < 2e-7, "{isa} {pairing:?} {head_dim}");
                        }
                    }
                    assert_eq!(*first.get_or_insert_with(|| out.clone()), out, "{isa}");
                }
            }
        }
    }

    /// Rows of one batch may belong to short and long contexts.
    #[test]
    fn factors_and_frequencies_go_by_the_row() {
        let long = Some(LongRope { above: 10, frequencies: vec![0.25] });
        let temperature = Some(Temperature { scale: 0.1, original_context: 64 });
        let rope =
            Rope { long, temperature, attention_factor: 2.0, ..plain(Pairing::Halves, vec![0.5]) };
        let mut table = RotaryTable::default();
        let places = [at(3), Place { position: 3, long: true }, at(63), at(64)];
        rope.table(&places, &mut table);
        assert_eq!(table.cos[..2], [(2.0 * 1.5f64.cos()) as f32; 2]);
        assert_eq!(table.cos[2..4], [(2.0 * 0.75f64.cos()) as f32; 2]);
        let scales = [0, 1, 2, 3].map(|row| table.query_scale(row).unwrap());
        assert_eq!(scales, [1.0, 1.0, 1.0, (1.0 + 0.1 * 2f64.ln()) as f32]);
        plain(Pairing::Halves, vec![0.5]).table(&places, &mut table);
        assert_eq!(table.query_scale(0), None);
    }
}
