//! Causal convolution of each channel with its own few weights, over the rows of a text:
//!
//! ```text
//! out[r][c] = activation(bias[c] + Σ_j weight[j][c] · x[r − (taps − 1) + j][c])
//! ```
//! The rows before the first one are the state: `[taps − 1][channels]`, the oldest first,
//! zeros at the beginning of a text.

use std::ops::Range;

use super::act::Activation;
use super::math::padded;
use super::pool::Team;
use crate::kv_cache::StatePass;
use crate::simd::{Isa, Simd, Task};

/// A convolution.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Conv<'a> {
    pub channels: usize,
    /// `[taps][channels]`
    pub weight: &'a [f32],
    /// `[channels]`
    pub bias: Option<&'a [f32]>,
    pub activation: Option<Activation>,
}

impl Conv<'_> {
    /// Rows of the past that it sees.
    fn past(&self) -> usize {
        self.weight.len() / self.channels - 1
    }

    /// `out ← conv(x)`, both `[rows, channels]`, and the states of the texts behind it.
    /// `texts`: this step's part of each text's state, and its rows.
    pub fn run(
        &self,
        team: &Team<'_>,
        isa: Isa,
        texts: Vec<(StatePass<'_>, Range<usize>)>,
        x: &[f32],
        out: &mut [f32],
    ) {
        let channels = self.channels;
        let mut items = Vec::new();
        let mut outs = out.chunks_exact_mut(channels);
        for (StatePass { before, after, mark }, rows) in texts {
            let text = Text { before, x: &x[rows.start * channels..rows.end * channels], channels };
            text.write_past(self.past(), rows.len(), after);
            if let Some((rows, mark)) = mark {
                text.write_past(self.past(), rows, mark);
            }
            items.extend((0..rows.len()).zip(&mut outs).map(|(row, out)| (text, row, out)));
        }
        team.for_each(&mut items, |_, (text, row, out)| {
            isa.run(Row { conv: self, text: *text, row: *row, out });
        });
    }
}

/// The rows of one text in a pass, and those before.
#[derive(Clone, Copy)]
struct Text<'a> {
    before: Option<&'a [f32]>,
    /// `[rows, channels]`
    x: &'a [f32],
    channels: usize,
}

impl Text<'_> {
    /// Row `row + ahead − past`; none before the text.
    #[inline(always)]
    fn row(&self, past: usize, row: usize, ahead: usize) -> Option<&[f32]> {
        let (rows, at) = match (row + ahead).checked_sub(past) {
            Some(row) => (self.x, row),
            None => (self.before?, row + ahead),
        };
        Some(&rows[at * self.channels..][..self.channels])
    }

    /// The `past` rows before row `row`: the state there.
    fn write_past(&self, past: usize, row: usize, out: &mut [f32]) {
        for (ahead, out) in out.chunks_exact_mut(self.channels).enumerate() {
            match self.row(past, row, ahead) {
                Some(row) => out.copy_from_slice(row),
                None => out.fill(0.0),
            }
        }
    }
}

/// One row of the result.
struct Row<'a, 'o> {
    conv: &'a Conv<'a>,
    text: Text<'a>,
    row: usize,
    out: &'a mut &'o mut [f32],
}

impl Task for Row<'_, '_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Row { conv: Conv { channels, weight, bias, activation }, text, row, out } = self;
        let past = weight.len() / channels - 1;
        match bias {
            Some(bias) => out.copy_from_slice(bias),
            None => out.fill(0.0),
        }
        for ahead in 0..=past {
            let Some(x) = text.row(past, row, ahead) else { continue };
            let weight = &weight[ahead * channels..][..*channels];
            let ((x16, x_tail), (w16, w_tail)) = (x.as_chunks::<16>(), weight.as_chunks::<16>());
            let (out16, out_tail) = out.as_chunks_mut::<16>();
            for ((out, x), w) in out16.iter_mut().zip(x16).zip(w16) {
                simd.store(simd.fma(simd.load(w), simd.load(x), simd.load(out)), out);
            }
            for ((out, x), w) in out_tail.iter_mut().zip(x_tail).zip(w_tail) {
                let sum = simd.load(&padded(&[*out]));
                let sum = simd.fma(simd.splat(*w), simd.splat(*x), sum);
                let mut lanes = [0.0; 16];
                simd.store(sum, &mut lanes);
                *out = lanes[0];
            }
        }
        if let Some(activation) = activation {
            super::act::Activate { activation: *activation, values: out }.run(simd);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::pool::Pool;

    const CHANNELS: usize = 21;
    const TAPS: usize = 4;
    const ROWS: usize = 9;

    fn numbers(seed: usize, len: usize) -> Vec<f32> {
        (0..len).map(|i| ((i * 7919 + seed * 104_729) % 1000) as f32 / 500.0 - 1.0).collect()
    }

    #[test]
    fn equals_the_definition_however_it_is_cut_on_every_set() {
        let (x, weight) = (numbers(1, ROWS * CHANNELS), numbers(2, TAPS * CHANNELS));
        let bias = numbers(3, CHANNELS);
        let activation = None;
        let conv = Conv { channels: CHANNELS, weight: &weight, bias: Some(&bias), activation };
        let run = |isa: Isa, chunk: usize| {
            let mut before: Option<Vec<f32>> = None;
            let mut result = Vec::new();
            for x in x.chunks(chunk * CHANNELS) {
                let rows = x.len() / CHANNELS;
                let mut after = vec![f32::NAN; (TAPS - 1) * CHANNELS];
                let mut out = vec![f32::NAN; x.len()];
                let state = StatePass { before: before.as_deref(), after: &mut after, mark: None };
                let texts = vec![(state, 0..rows)];
                let pool = Pool::new(2).unwrap();
                pool.region(|team| conv.run(team, isa, texts, x, &mut out));
                before = Some(after);
                result.extend(out);
            }
            result
        };
        let first = run(Isa::detect(), ROWS);
        for (i, &ours) in first.iter().enumerate() {
            let (row, c) = (i / CHANNELS, i % CHANNELS);
            let tap = |j: usize| {
                let at = (row + j).checked_sub(TAPS - 1);
                let x = at.map_or(0.0, |at| f64::from(x[at * CHANNELS + c]));
                x * f64::from(weight[j * CHANNELS + c])
            };
            let exact = f64::from(bias[c]) + (0..TAPS).map(tap).sum::<f64>();
            assert!((f64::from(ours) - exact).abs() < 1e-6, "row {row}: {ours} {exact}");
        }
        for isa in Isa::available() {
            for chunk in [ROWS, 1, 2, 4] {
                assert_eq!(run(isa, chunk), first, "{isa} {chunk}");
            }
        }
    }
}
