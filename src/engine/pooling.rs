//! One vector for a text: from the hidden states of its tokens.

use crate::error::{Error, Place, Result};
use crate::gguf::Metadata;
use crate::model::transformer::Transformer;

pub use crate::model::plan::Pooling;

impl Pooling {
    /// What the file's `{architecture}.pooling_type` says, `default` without that key, or
    /// with 0 there.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for 4 (ranking), [`Error::File`] for an unknown number.
    pub(crate) fn of(metadata: &Metadata, default: Pooling) -> Result<Pooling> {
        let key = format!("{}.pooling_type", metadata.str("general.architecture")?);
        match metadata.opt_u32(&key)? {
            None | Some(0) => Ok(default),
            Some(3) => Ok(Pooling::Last),
            Some(1) => Ok(Pooling::Mean),
            Some(2) => Ok(Pooling::Cls),
            Some(4) => Err(Error::unsupported(
                Place::Key(key),
                "is 4 (ranking), which gives scores and no vector: ask for those; mean (1), cls (2) \
                 and last (3) give vectors",
            )),
            Some(other) => Err(Error::key(&key, format!("is {other}; 0 to 4 is possible"))),
        }
    }
}

/// Gathers the hidden states of a text, in order of position, however it is cut.
///
/// Sums are f64, row after row, so that a long text loses nothing and no cut of the
/// text changes a bit.
#[derive(Debug, Clone)]
pub(crate) struct Pool {
    pooling: Pooling,
    /// `[dim]`
    sum: Vec<f64>,
    rows: usize,
}

impl Pool {
    /// Nothing yet, of width `dim`.
    pub fn new(pooling: Pooling, dim: usize) -> Self {
        Pool { pooling, sum: vec![0.0; dim], rows: 0 }
    }

    /// The next hidden states, `[rows, dim]`.
    pub fn add(&mut self, hidden: &[f32]) {
        for row in hidden.chunks_exact(self.sum.len()) {
            let pairs = self.sum.iter_mut().zip(row);
            match self.pooling {
                Pooling::Mean => pairs.for_each(|(sum, &x)| *sum += f64::from(x)),
                Pooling::Cls if self.rows > 0 => {}
                Pooling::Cls | Pooling::Last => pairs.for_each(|(sum, &x)| *sum = f64::from(x)),
            }
            self.rows += 1;
        }
    }

    /// The vector; with `normalize` of length 1. A vector of zeros stays zero. `model` has
    /// the last matrices.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a value is NaN or infinite.
    pub fn vector(self, model: &Transformer, normalize: bool) -> Result<Vec<f32>> {
        if model.plan.pooled.dense.is_empty() {
            return self.finish(normalize);
        }
        let vector = model.project(self.finish(false)?);
        let mut whole = Pool::new(Pooling::Last, vector.len());
        whole.add(&vector);
        whole.finish(normalize)
    }

    /// The pooled state; with `normalize` of length 1. A vector of zeros stays zero.
    ///
    /// # Errors
    /// [`Error::NonFinite`] if a value is NaN or infinite.
    pub fn finish(self, normalize: bool) -> Result<Vec<f32>> {
        let Pool { pooling, sum: mut vector, rows } = self;
        let rows = if pooling == Pooling::Mean { rows.max(1) } else { 1 };
        vector.iter_mut().for_each(|x| *x /= rows as f64);
        if !vector.iter().all(|x| x.is_finite()) {
            return Err(Error::NonFinite(
                "the pooled state contains NaN or infinity; the model file is damaged or unsuitable"
                    .into(),
            ));
        }
        let length = vector.iter().fold(0.0, |sum, x| sum + x * x).sqrt();
        let divisor = if normalize && length > 0.0 { length } else { 1.0 };
        Ok(vector.into_iter().map(|x| (x / divisor) as f32).collect())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed expectation is the report")]

    use super::*;
    use crate::gguf::Value;

    const ROWS: [[f32; 3]; 4] =
        [[1.0, -2.0, 0.5], [3.0, 1e-7, -0.25], [0.1, 0.2, 0.3], [-1.5, 2.0, 1e8]];

    fn pooled(pooling: Pooling, cut: usize, normalize: bool) -> Vec<f32> {
        let mut pool = Pool::new(pooling, 3);
        ROWS.chunks(cut).for_each(|rows| pool.add(rows.as_flattened()));
        pool.finish(normalize).unwrap()
    }

    #[test]
    fn each_pooling_takes_its_rows_whatever_the_cut() {
        let mean: Vec<f32> = (0..3)
            .map(|i| (ROWS.iter().map(|row| f64::from(row[i])).sum::<f64>() / 4.0) as f32)
            .collect();
        for cut in 1..=5 {
            assert_eq!(pooled(Pooling::Mean, cut, false), mean);
            assert_eq!(pooled(Pooling::Cls, cut, false), ROWS[0]);
            assert_eq!(pooled(Pooling::Last, cut, false), ROWS[3]);
        }
    }

    #[test]
    fn normalized_vectors_have_length_1_and_zeros_stay_zeros() {
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
            let vector = pooled(pooling, 2, true);
            let length: f64 = vector.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
            assert!((length - 1.0).abs() < 1e-6, "{pooling:?}: {length}");
            let mut zeros = Pool::new(pooling, 2);
            zeros.add(&[0.0; 4]);
            assert_eq!(zeros.finish(true).unwrap(), [0.0; 2]);
        }
        // Squares far beyond f32 are no overflow.
        let mut large = Pool::new(Pooling::Last, 2);
        large.add(&[3e38, 0.0]);
        assert_eq!(large.finish(true).unwrap(), [1.0, 0.0]);
    }

    #[test]
    fn nan_and_infinity_are_errors() {
        for bad in [f32::NAN, f32::INFINITY] {
            let mut pool = Pool::new(Pooling::Mean, 2);
            pool.add(&[1.0, bad]);
            assert!(matches!(pool.finish(true), Err(Error::NonFinite(_))));
            // A row that is not taken does no harm.
            let mut pool = Pool::new(Pooling::Last, 2);
            pool.add(&[1.0, bad, 3.0, 4.0]);
            assert!(pool.finish(true).is_ok());
        }
    }

    #[test]
    fn the_file_says_which() {
        let of = |number: Option<u32>| {
            let mut metadata = Metadata::new();
            metadata.push("general.architecture", Value::String("any".into())).unwrap();
            if let Some(number) = number {
                metadata.push("any.pooling_type", Value::U32(number)).unwrap();
            }
            Pooling::of(&metadata, Pooling::Mean)
        };
        for (number, pooling) in [
            (None, Pooling::Mean),
            (Some(0), Pooling::Mean),
            (Some(1), Pooling::Mean),
            (Some(2), Pooling::Cls),
            (Some(3), Pooling::Last),
        ] {
            assert_eq!(of(number).unwrap(), pooling);
        }
        assert!(matches!(of(Some(4)), Err(Error::Unsupported { .. })));
        assert!(matches!(of(Some(5)), Err(Error::File { .. })));
    }
}
