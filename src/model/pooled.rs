//! Behind pooling: the vector of a text through its last matrices, or its score by the
//! classifier.

use crate::error::{Error, Result};
use crate::kernel::act::{Activate, Activation};
use crate::kernel::matmul::{Input, Product};
use crate::kernel::matrix::Matrix;

use super::layer::{multiply_one, norm_rows};
use super::plan::{Classifier, ClassifierActivation};
use super::transformer::Transformer;

impl Transformer {
    /// `vector` through the matrices that stand behind pooling; as it is without such.
    pub fn project(&self, vector: Vec<f32>) -> Vec<f32> {
        self.plan.pooled.dense.iter().fold(vector, |vector, matrix| self.times(matrix, &vector))
    }

    /// The score of a text whose pooled state is `state`.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a model without a classifier, [`Error::NonFinite`].
    pub fn classify(&self, state: Vec<f32>) -> Result<f32> {
        let Classifier { dense, activation, norm, output, softmax, .. } = self.classifier()?;
        let mut x = state;
        if let Some(dense) = dense {
            x = self.times(dense, &x);
            match activation {
                // A few values for a whole text; the standard function is the exacter one.
                ClassifierActivation::Tanh => {
                    x.iter_mut().for_each(|x| *x = tanh(*x));
                }
                ClassifierActivation::Gelu => {
                    self.isa.run(Activate { activation: Activation::Gelu, values: &mut x });
                }
            }
        }
        if let Some(norm) = norm {
            let whole = x.clone();
            let rows = std::iter::once(&*whole);
            self.pool.region(|team| norm_rows(team, self.isa, Some(norm), rows, &mut x));
        }
        let labels = self.times(output, &x);
        let score = if *softmax { share(&labels) } else { labels[0] };
        match score.is_finite() {
            true => Ok(score),
            false => Err(Error::NonFinite(
                "the score is NaN or infinite; the model file is damaged or unsuitable".into(),
            )),
        }
    }

    /// The classifier.
    ///
    /// # Errors
    /// [`Error::Misuse`] for a model without one.
    pub fn classifier(&self) -> Result<&Classifier> {
        self.plan.pooled.classifier.as_ref().ok_or_else(|| {
            Error::misuse("this model has no classifier; only rerankers give scores")
        })
    }

    fn times(&self, matrix: &Matrix, x: &[f32]) -> Vec<f32> {
        let mut input = Input::default();
        input.reset(1, x.len());
        input.twice = true;
        input.values.copy_from_slice(x);
        let mut out = vec![0.0; matrix.rows()];
        self.pool.region(|team| {
            multiply_one(team, self.isa, &mut input, &mut [Product::Store(matrix, &mut out)]);
        });
        out
    }
}

/// In f64 by the exponential function of [`exp`]: the system's differs between systems.
fn tanh(x: f32) -> f32 {
    // tanh(x) = 1 − 2 / (e²ˣ + 1)
    (1.0 - 2.0 / (exp(2.0 * f64::from(x)) + 1.0)) as f32
}

/// The first value's share of the softmax.
fn share(values: &[f32]) -> f32 {
    let max = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let of = |&value: &f32| exp(f64::from(value) - f64::from(max));
    (of(&values[0]) / values.iter().map(of).sum::<f64>()) as f32
}

/// `e^x`, with the operations of IEEE 754 alone: `x = n · ln 2 + r`, `e^r` by its series.
fn exp(x: f64) -> f64 {
    if x.is_nan() {
        return x;
    }
    let x = x.clamp(-700.0, 700.0);
    let n = (x * std::f64::consts::LOG2_E).round();
    let r = x - n * std::f64::consts::LN_2;
    let series = (1..=16).rev().fold(1.0, |sum, k| 1.0 + sum * r / f64::from(k));
    series * 2f64.powi(n as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn functions_of_scores_are_close() {
        for i in -3000..=3000 {
            let x = f64::from(i) / 100.0;
            assert!((exp(x) / x.exp() - 1.0).abs() < 1e-13, "{x}");
            let (ours, exact) = (f64::from(tanh(x as f32)), f64::from(x as f32).tanh());
            assert!((ours - exact).abs() < 1e-7, "{x}: {ours} {exact}");
        }
        assert!((tanh(1e9), tanh(-1e9)) == (1.0, -1.0) && tanh(f32::NAN).is_nan());
        assert_eq!(share(&[2.0, 2.0]), 0.5);
        assert!(share(&[1.0, 0.0]) > 0.731 && share(&[1.0, 0.0]) < 0.7311);
        assert_eq!(share(&[1000.0, 0.0]), 1.0);
    }
}
