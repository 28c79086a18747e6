//! Qwen2, Qwen2.5 and QwQ: biases of queries, keys and values, which every matrix may
//! have. Qwen3: RMS norm of each head of queries and keys. Both also with experts.

use crate::error::Result;
use crate::kernel::rope::Pairing;
use crate::model::plan::{Attention, Classifier, ClassifierActivation, Mixer, Plan, Pooling};

use super::Source;
use super::decoder::Sizes;
use super::experts::Mixture;

type OfLayer<'a> = fn(&mut Source<'a>, &Sizes, usize) -> Result<Attention>;

pub(super) fn qwen2(source: &mut Source<'_>) -> Result<Plan> {
    of_attention(source, Source::attention, None)
}

/// Rerankers have two rows of the output matrix as a classifier: "yes" and "no".
pub(super) fn qwen3(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::read(&source.keys)?;
    let activation = ClassifierActivation::Tanh;
    let classifier = source.classifier(&sizes, Pooling::Last, activation)?;
    let mut plan = of_attention(source, Source::normed_attention, None)?;
    plan.pooled.classifier = classifier.map(|classifier| {
        let softmax = classifier.output.rows() > 1;
        Classifier { softmax, ..classifier }
    });
    Ok(plan)
}

/// The weights of the chosen experts do not add up to 1; one more network has a gate.
pub(super) fn qwen2moe(source: &mut Source<'_>) -> Result<Plan> {
    of_attention(source, Source::attention, Some(false))
}

pub(super) fn qwen3moe(source: &mut Source<'_>) -> Result<Plan> {
    of_attention(source, Source::normed_attention, Some(true))
}

/// `experts`: whether their weights are normalized.
fn of_attention<'a>(
    source: &mut Source<'a>,
    attention: OfLayer<'a>,
    experts: Option<bool>,
) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::read(&keys)?;
    let mixture = match experts {
        Some(normalize) => Some(Mixture::required(&keys, &sizes, normalize)?.with_shared_gate()),
        None => None,
    };
    let rope = source.rope(&sizes, Pairing::Halves)?;
    let window = source.window()?;
    source.decoder(&sizes, vec![rope], |source, index| {
        let attention = attention(source, &sizes, index)?;
        let mixer = Mixer::Attention(Attention { window, ..attention });
        let ffn = source.ffn(&sizes, index, mixture.as_ref())?;
        source.layer_of(&sizes, index, mixer, ffn)
    })
}
