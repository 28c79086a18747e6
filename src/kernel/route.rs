//! Which experts a row goes to, and with what weights.
//!
//! ```text
//! p[e] = softmax(logits)[e]            or sigmoid(logits[e])
//! chosen: the largest p[e] + bias[e], the lower index of equal ones first
//! weight[e] = p[e]  / max(Σ of the chosen, 2⁻¹⁴) if normalized  · scale
//! ```
//! The softmax over the chosen logits only is the normalized one over all.

use super::math::{exp, map};
use crate::simd::{Simd, Task};

/// How logits become probabilities.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Probability {
    Softmax,
    Sigmoid,
}

/// How experts are chosen and weighed.
#[derive(Debug)]
pub(crate) struct Routing {
    /// Experts per row.
    pub used: usize,
    pub probability: Probability,
    /// Whether the weights of the chosen add up to 1.
    pub normalize: bool,
    pub scale: f32,
}

/// An expert of a row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Choice {
    pub expert: usize,
    pub weight: f32,
}

/// Chooses for one row.
pub(crate) struct Route<'a> {
    pub routing: &'a Routing,
    /// `[experts]`; overwritten with the probabilities.
    pub logits: &'a mut [f32],
    /// `[experts]`: counts for the choice, not for the weights.
    pub bias: Option<&'a [f32]>,
    /// `[used]`, the likeliest first.
    pub choices: &'a mut [Choice],
}

/// Least sum that weights are divided by: the smallest normal number of f16, as llama.cpp
/// has it.
const LEAST_SUM: f32 = 6.103_515_6e-5;

impl Task for Route<'_> {
    type Output = ();

    #[inline(always)]
    fn run<S: Simd>(self, simd: S) {
        let Route { routing, logits, bias, choices } = self;
        match routing.probability {
            Probability::Softmax => {
                let max = logits.iter().fold(f32::NEG_INFINITY, |max, &x| max.max(x));
                let minus_max = simd.splat(-max);
                map(simd, logits, |x| exp(simd, simd.add(x, minus_max)));
                let sum: f32 = logits.iter().sum();
                logits.iter_mut().for_each(|p| *p /= sum);
            }
            Probability::Sigmoid => {
                let one = simd.splat(1.0);
                map(simd, logits, |x| {
                    let e = exp(simd, simd.mul(x, simd.splat(-1.0)));
                    simd.div(one, simd.add(one, e))
                });
            }
        }
        choose(logits, bias, choices);
        let sum: f32 = choices.iter().map(|choice| choice.weight).sum();
        for choice in choices {
            if routing.normalize {
                choice.weight /= sum.max(LEAST_SUM);
            }
            choice.weight *= routing.scale;
        }
    }
}

/// The likeliest experts by insertion: few of up to some hundred.
fn choose(probabilities: &[f32], bias: Option<&[f32]>, choices: &mut [Choice]) {
    let score = |expert: usize| probabilities[expert] + bias.map_or(0.0, |bias| bias[expert]);
    let mut count = 0;
    for (expert, &weight) in probabilities.iter().enumerate() {
        let own = score(expert);
        let before = |choice: &Choice| score(choice.expert).total_cmp(&own).is_ge();
        let at = choices[..count].iter().take_while(|choice| before(choice)).count();
        if at == choices.len() {
            continue;
        }
        count = choices.len().min(count + 1);
        choices[at..count].rotate_right(1);
        choices[at] = Choice { expert, weight };
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simd::Isa;

    fn route(routing: &Routing, logits: &[f32], bias: Option<&[f32]>) -> Vec<Choice> {
        let mut first: Option<Vec<Choice>> = None;
        for isa in Isa::available() {
            let mut logits = logits.to_vec();
            let mut choices = vec![Choice { expert: 0, weight: 0.0 }; routing.used];
            isa.run(Route { routing, logits: &mut logits, bias, choices: &mut choices });
            assert_eq!(*first.get_or_insert_with(|| choices.clone()), choices, "{isa}");
        }
        first.unwrap_or_default()
    }

    #[test]
    fn weights_are_those_of_the_definition() {
        let logits = [0.5, -1.0, 2.0, 2.0, 0.0];
        let softmax = |normalize, scale| {
            let probability = Probability::Softmax;
            route(&Routing { used: 3, probability, normalize, scale }, &logits, None)
        };
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        let chosen = softmax(false, 1.0);
        assert_eq!(chosen.iter().map(|choice| choice.expert).collect::<Vec<_>>(), [2, 3, 0]);
        for choice in &chosen {
            let exact = f64::from(logits[choice.expert]).exp() / sum;
            assert!((f64::from(choice.weight) - exact).abs() < 1e-6);
        }
        let scaled: f32 = softmax(true, 2.5).iter().map(|choice| choice.weight).sum();
        assert!((scaled - 2.5).abs() < 1e-6);
    }

    #[test]
    fn a_bias_changes_the_choice_and_not_the_weights() {
        let routing =
            Routing { used: 1, probability: Probability::Sigmoid, normalize: false, scale: 1.0 };
        let chosen = route(&routing, &[1.0, 0.0, -1.0], Some(&[0.0, 0.0, 5.0]));
        assert_eq!(chosen[0].expert, 2);
        assert!((f64::from(chosen[0].weight) - 1.0 / (1.0 + 1f64.exp())).abs() < 1e-6);
    }
}
