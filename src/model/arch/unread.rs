//! Keys that no reader reads. Those that are known to change the result are refused, as
//! tensors are that no role claims; of others there is a warning.

use crate::error::{Error, Result, Warning};

use super::keys::Keys;

/// The value with which a key changes nothing.
#[derive(Debug, Clone, Copy)]
enum Neutral {
    Number(f32),
    /// 0 stands for "not set".
    ZeroOrOne,
    Bool(bool),
    /// One of these words.
    Word(&'static [&'static str]),
    /// The value of another key, which has a default.
    Same(&'static str, f32),
}

/// Keys that change what a network computes, and with what value they do not.
const CHANGES: &[(&str, Neutral)] = &[
    ("attention.causal", Neutral::Bool(true)),
    ("attention.scale", Neutral::Number(0.0)),
    ("attention.output_scale", Neutral::ZeroOrOne),
    ("attention.clamp_kqv", Neutral::Number(0.0)),
    ("attention.max_alibi_bias", Neutral::Number(0.0)),
    ("attention.temperature_scale", Neutral::Number(0.0)),
    ("attn_logit_softcapping", Neutral::Number(0.0)),
    ("final_logit_softcapping", Neutral::Number(0.0)),
    ("logit_scale", Neutral::ZeroOrOne),
    ("embedding_scale", Neutral::ZeroOrOne),
    ("residual_scale", Neutral::ZeroOrOne),
    ("use_parallel_residual", Neutral::Bool(false)),
    ("swin_norm", Neutral::Bool(false)),
    ("expert_count", Neutral::Number(0.0)),
    ("moe_every_n_layers", Neutral::Number(0.0)),
    ("nextn_predict_layers", Neutral::Number(0.0)),
    ("no_rope_layer_interval", Neutral::Number(0.0)),
    ("no_rope_layer_step", Neutral::Number(0.0)),
    ("rope.freq_base_swa", Neutral::Same("rope.freq_base", 10_000.0)),
    ("rope.scaling.yarn_ext_factor", Neutral::Number(1.0)),
    ("hidden_activation", Neutral::Word(&["silu", "swish", "swiglu"])),
    ("hidden_act", Neutral::Word(&["silu", "swish", "swiglu"])),
];

/// Keys that change nothing in a network that was read, or that others read.
const HARMLESS: &[&str] = &[
    "vocab_size",
    "tensor_data_layout",
    "pooling_type",
    "embedding_length_out",
    "attention.layer_norm_epsilon",
    "attention.layer_norm_rms_epsilon",
    "classifier.pooling_type",
    "classifier.output_labels",
    "attention.temperature_length",
    "expert_used_count",
    "expert_feed_forward_length",
    "expert_shared_feed_forward_length",
    "expert_weights_scale",
    "expert_weights_norm",
    "expert_gating_func",
    "expert_shared_count",
    "expert_group_count",
    "expert_group_used_count",
    "leading_dense_block_count",
    "interleave_moe_layer_step",
    // Sections of M-RoPE turn alike where there are only texts.
    "rope.dimension_sections",
    "rope.scaling.finetuned",
    "rope.scaling.factor",
    "rope.scaling.attn_factor",
    "rope.scaling.original_context_length",
    "rope.scaling.yarn_log_multiplier",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
    "image_token_index",
    "spatial_merge_size",
];

/// Beginnings of the names of keys that belong to parts which are not run.
const OTHER_PARTS: &[&str] = &["vision.", "audio.", "mm.", "clip."];

impl Neutral {
    /// Whether the key `name` has the value, or cannot be read as one.
    fn holds(self, keys: &Keys<'_>, name: &str) -> Result<bool> {
        let key = format!("{}.{name}", keys.arch);
        let number = || Ok::<_, Error>(keys.metadata.opt_f32(&key)?.unwrap_or(0.0));
        Ok(match self {
            Neutral::Number(neutral) => number()? == neutral,
            Neutral::ZeroOrOne => matches!(number()?, 0.0 | 1.0),
            Neutral::Bool(neutral) => keys.metadata.opt_bool(&key)? == Some(neutral),
            Neutral::Word(words) => {
                keys.metadata.opt_str(&key)?.is_some_and(|word| words.contains(&word))
            }
            Neutral::Same(other, default) => {
                let other = format!("{}.{other}", keys.arch);
                number()? == keys.metadata.opt_f32(&other)?.unwrap_or(default)
            }
        })
    }
}

/// # Errors
/// [`Error::Unsupported`] for a key that changes what the network computes, and that this
/// crate does not. `computed` are those that the architecture's reader reads.
pub(super) fn refuse(keys: &Keys<'_>, computed: &[&str]) -> Result<()> {
    for &(name, neutral) in CHANGES {
        let Some(value) = keys.metadata.get(&format!("{}.{name}", keys.arch)) else { continue };
        if computed.contains(&name) || neutral.holds(keys, name)? {
            continue;
        }
        let value = shorten(&value.to_string());
        let problem = format!(
            "is {value}, which is not supported for this architecture; the result would be wrong"
        );
        return Err(keys.unsupported(name, &problem));
    }
    Ok(())
}

/// What to say about the keys that nothing has read.
pub(super) fn warnings(keys: &Keys<'_>) -> Vec<Warning> {
    let read = keys.read.borrow();
    let unknown = keys.metadata.iter().filter_map(|(key, _)| {
        let name = key.strip_prefix(keys.arch)?.strip_prefix('.')?;
        let known = read.contains(name)
            || HARMLESS.contains(&name)
            || CHANGES.iter().any(|(other, _)| *other == name)
            || OTHER_PARTS.iter().any(|part| name.starts_with(part));
        (!known).then_some(key)
    });
    let problem = "is not known to this version and ignored; if it changes what the model \
                   computes, the text is wrong";
    unknown.map(|key| Warning::key(key, problem)).collect()
}

/// What of a value fits a sentence.
fn shorten(value: &str) -> String {
    value.chars().take(40).collect()
}
