//! Rotary position embedding (Su et al. 2021): pair i of a head is turned by
//! `position · frequency[i]`.

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

/// Cosines and sines for the rows of a batch.
#[derive(Debug, Default)]
pub(crate) struct Turns {
    /// `[rows, n_rot / 2]` of (cos, sin).
    table: Vec<(f32, f32)>,
    pairs: usize,
}

impl Rope {
    /// Computes the turns for `positions`, in f64: f32 angles would lose a
    /// digit every ten positions.
    pub fn turns(&self, positions: &[usize], out: &mut Turns) {
        out.pairs = self.frequencies.len();
        out.table.clear();
        for &position in positions {
            out.table.extend(self.frequencies.iter().map(|frequency| {
                let (sin, cos) = (position as f64 * frequency).sin_cos();
                (cos as f32, sin as f32)
            }));
        }
    }

    /// Turns every head of row `row` (`heads` = `[n, head_dim]`) in place.
    pub fn apply(&self, turns: &Turns, row: usize, heads: &mut [f32], head_dim: usize) {
        let turns = &turns.table[row * turns.pairs..(row + 1) * turns.pairs];
        for head in heads.chunks_exact_mut(head_dim) {
            match self.pairing {
                Pairing::Neighbours => {
                    for (pair, &(cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                        let [a, b] = *pair;
                        *pair = [a * cos - b * sin, a * sin + b * cos];
                    }
                }
            }
        }
    }
}
