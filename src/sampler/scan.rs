//! One pass over the logits: are they sound, and which is the highest?

use crate::{Error, Result};

/// Accumulators side by side, so that the compiler may use vector registers.
const LANES: usize = 16;
/// Where the best is remembered only by block, and looked up at the end.
const BLOCK: usize = 64 * LANES;

/// The token with the highest logit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Best {
    pub(super) token: u32,
    pub(super) logit: f32,
}

/// The highest logit, of equal ones that of the lowest token id.
pub(super) fn highest(logits: &[f32]) -> Result<Best> {
    let mut best = f32::NEG_INFINITY;
    let mut best_block = 0;
    let mut any_nan = false;
    for (index, block) in logits.chunks(BLOCK).enumerate() {
        let (top, nan) = survey(block);
        any_nan |= nan;
        if top > best {
            best = top;
            best_block = index;
        }
    }
    if any_nan || best == f32::INFINITY {
        return Err(unsound(logits));
    }
    let start = best_block * BLOCK;
    let within = logits.iter().skip(start).position(|&logit| logit == best);
    match within {
        Some(offset) if best > f32::NEG_INFINITY => {
            Ok(Best { token: (start + offset) as u32, logit: best })
        }
        _ => Err(Error::NonFinite(
            "every token is masked (all logits are -inf), so none can be chosen".to_owned(),
        )),
    }
}

/// The highest number of a block, and whether any is NaN.
fn survey(block: &[f32]) -> (f32, bool) {
    let mut top = [f32::NEG_INFINITY; LANES];
    let mut nan = [false; LANES];
    let (rows, rest) = block.as_chunks::<LANES>();
    for row in rows {
        for ((top, nan), &logit) in top.iter_mut().zip(&mut nan).zip(row) {
            *top = if logit > *top { logit } else { *top };
            *nan |= logit.is_nan();
        }
    }
    let top = top.iter().chain(rest).fold(f32::NEG_INFINITY, |a, &b| if b > a { b } else { a });
    (top, nan.contains(&true) || rest.iter().any(|logit| logit.is_nan()))
}

#[cold]
fn unsound(logits: &[f32]) -> Error {
    let found = logits.iter().position(|&logit| logit.is_nan() || logit == f32::INFINITY);
    let token = found.unwrap_or_default();
    let value = logits.get(token).copied().unwrap_or(f32::NAN);
    Error::NonFinite(format!(
        "the model computed {value} as the logit of token {token}: its weights are damaged, \
         or this is a bug in tramontane"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    // Around the lanes, around the blocks, and odd tails.
    const LENGTHS: [usize; 10] = [1, 2, 15, 16, 17, 1023, 1024, 1025, 2048, 3001];

    #[test]
    fn finds_the_top_wherever_it_is() {
        for len in LENGTHS {
            for at in [0, len / 2, len - 1] {
                let mut logits = vec![-3.0; len];
                logits[at] = -1.0;
                let best = highest(&logits).unwrap();
                assert_eq!(best, Best { token: at as u32, logit: -1.0 }, "length {len}");
            }
        }
    }

    #[test]
    fn names_the_unsound_logit_wherever_it_is() {
        for len in LENGTHS {
            for at in [0, len / 2, len - 1] {
                for bad in [f32::NAN, -f32::NAN, f32::INFINITY] {
                    let mut logits = vec![1.0; len];
                    logits[at] = bad;
                    let error = highest(&logits).unwrap_err();
                    assert!(matches!(error, Error::NonFinite(_)));
                    assert!(error.to_string().contains(&format!("token {at}:")), "{error}");
                }
            }
        }
    }

    #[test]
    fn refuses_when_all_are_masked() {
        for len in [0, 1, 5000] {
            let error = highest(&vec![f32::NEG_INFINITY; len]).unwrap_err();
            assert!(error.to_string().contains("every token is masked"), "{error}");
        }
    }

    #[test]
    fn zeros_of_both_signs_are_equal() {
        assert_eq!(highest(&[-0.0, 0.0]).unwrap().token, 0);
        assert_eq!(highest(&[0.0, -0.0]).unwrap().token, 0);
    }

    proptest! {
        #[test]
        fn ties_go_to_the_lower_token(logits in prop::collection::vec(-3i8..3, 1..3000)) {
            let logits: Vec<f32> = logits.into_iter().map(f32::from).collect();
            let mut naive = 0;
            for (token, &logit) in logits.iter().enumerate() {
                if logit > logits[naive] {
                    naive = token;
                }
            }
            prop_assert_eq!(highest(&logits).unwrap().token as usize, naive);
        }
    }
}
