//! BERT and XLM-RoBERTa, Nomic BERT (without experts and with), ModernBERT.

use crate::error::Result;
use crate::kernel::act::Activation;
use crate::kernel::matrix::Matrix;
use crate::kernel::rope::Pairing;
use crate::model::plan::{
    Classifier, ClassifierActivation, Dense, Ffn, LayerPlan, Mixer, Norms, Plan, Pooling,
};

use super::Source;
use super::decoder::{NormKind, Sizes, blk};
use super::encoder::{EmbedParts, around};
use super::experts::Mixture;
use super::keys::limit;

/// Learned positions; the sum of stream and branch is normalized (Devlin et al. 2018).
pub(super) fn bert(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::with_norm(&keys, NormKind::Layer)?;
    let positions = Some(keys.required("context_length", 1..=limit::CONTEXT)? as usize);
    source.tensors.expect("token_embd_norm.bias")?;
    let parts = EmbedParts { types: true, positions, norm: true };
    source.encoder(&sizes, Vec::new(), parts, |source, index| {
        for part in ["attn_q", "attn_k", "attn_v", "attn_output"] {
            source.tensors.expect(&format!("{}.bias", blk(index, part)))?;
        }
        let attention = source.attention(&sizes, index)?;
        let mut attention = around(attention, None);
        attention.rope = None;
        let dense = source.plain(&sizes, index)?;
        source.post_normed(&sizes, index, Mixer::Attention(attention), Ffn::Dense(dense))
    })
}

/// Rotated heads, one matrix for queries, keys and values, a gated network (Nussbaum et al.
/// 2024).
pub(super) fn nomic_bert(source: &mut Source<'_>) -> Result<Plan> {
    let sizes = Sizes::with_norm(&source.keys, NormKind::Layer)?;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.tensors.expect("token_embd_norm.bias")?;
    let parts = EmbedParts { types: true, positions: None, norm: true };
    source.encoder(&sizes, vec![rope], parts, |source, index| {
        let qkv = source.fused_qkv(&sizes, index)?;
        let attention = around(source.attention_of(&sizes, index, qkv)?, None);
        let ffn = Ffn::Dense(source.gated(&sizes, index)?);
        source.post_normed(&sizes, index, Mixer::Attention(attention), ffn)
    })
}

/// The same with biases and without gates; some layers have experts, whose weights do not add
/// up to 1.
pub(super) fn nomic_bert_moe(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::with_norm(&keys, NormKind::Layer)?;
    let mixture = Mixture::required(&keys, &sizes, false)?.without_gates(Activation::Gelu);
    // With 1 no layer would have experts, in the models' own code as well.
    let period = keys.required("moe_every_n_layers", 2..=limit::LAYERS)? as usize;
    let rope = source.rope(&sizes, Pairing::Halves)?;
    source.tensors.expect("token_embd_norm.bias")?;
    let parts = EmbedParts { types: true, positions: None, norm: true };
    source.encoder(&sizes, vec![rope], parts, |source, index| {
        for part in ["attn_qkv", "attn_output"] {
            source.tensors.expect(&format!("{}.bias", blk(index, part)))?;
        }
        let qkv = source.fused_qkv(&sizes, index)?;
        let attention = around(source.attention_of(&sizes, index, qkv)?, None);
        let ffn = match index % period == 1 {
            true => Ffn::Experts(source.experts(&sizes, index, &mixture)?),
            false => Ffn::Dense(source.plain(&sizes, index)?),
        };
        source.post_normed(&sizes, index, Mixer::Attention(attention), ffn)
    })
}

/// Norms before the branches, but none before the first; windows but on every third layer,
/// with a rotary base of their own; a gated network with GELU (Warner et al. 2024).
pub(super) fn modern_bert(source: &mut Source<'_>) -> Result<Plan> {
    const PERIOD: usize = 3;
    const BASE_OF_WINDOWS: f32 = 10_000.0;
    let keys = source.keys;
    let sizes = Sizes::with_norm(&keys, NormKind::Layer)?;
    let windows = source.windows_from_second(sizes.layers, PERIOD)?;
    let activation = source.activation()?;
    let n_rot = keys.n_rot(sizes.head_dim)?;
    let ropes = vec![
        keys.rope(Pairing::Halves, n_rot, None)?,
        keys.window_rope(Pairing::Halves, n_rot, BASE_OF_WINDOWS)?,
    ];
    let parts = EmbedParts { types: false, positions: None, norm: true };
    let mut plan = source.encoder(&sizes, ropes, parts, |source, index| {
        let Sizes { dim, ffn_dim, .. } = sizes;
        let qkv = source.fused_qkv(&sizes, index)?;
        let mut attention = source.attention_of(&sizes, index, qkv)?;
        attention.rope = Some(usize::from(windows[index].is_some()));
        let mixer = Mixer::Attention(around(attention, windows[index]));
        let [gate, up] = source.tensors.matrices(&blk(index, "ffn_up"), [ffn_dim; 2], dim)?;
        let down = source.tensors.matrix(&blk(index, "ffn_down"), dim, ffn_dim)?;
        let norms = Norms {
            // The embedding is normalized already.
            before_mixer: match index {
                0 => None,
                _ => Some(source.norm(&blk(index, "attn_norm"), &sizes)?),
            },
            before_ffn: Some(source.norm(&blk(index, "ffn_norm"), &sizes)?),
            ..Norms::default()
        };
        let ffn = Ffn::Dense(Dense { activation, gate: Some(gate), up, down });
        Ok(LayerPlan::new(norms, mixer, ffn))
    })?;
    plan.head.norm = Some(source.norm("output_norm", &sizes)?);
    if let Some(classifier) = plan.pooled.classifier.take() {
        let pooling = match keys.optional("classifier.pooling_type", 1..=2)? {
            Some(2) => Pooling::Cls,
            _ => Pooling::Mean,
        };
        let activation = ClassifierActivation::Gelu;
        plan.pooled.classifier = Some(Classifier { pooling, activation, ..classifier });
    }
    Ok(plan)
}

impl Source<'_> {
    /// A layer that normalizes the stream behind each of its two branches.
    pub fn post_normed(
        &mut self,
        sizes: &Sizes,
        index: usize,
        mixer: Mixer,
        ffn: Ffn,
    ) -> Result<LayerPlan> {
        for part in ["attn_output_norm", "layer_output_norm"] {
            self.tensors.expect(&format!("{}.bias", blk(index, part)))?;
        }
        let norms = Norms {
            mixer_sum: Some(self.norm(&blk(index, "attn_output_norm"), sizes)?),
            ffn_sum: Some(self.norm(&blk(index, "layer_output_norm"), sizes)?),
            ..Norms::default()
        };
        Ok(LayerPlan::new(norms, mixer, ffn))
    }

    /// A network with GELU and biases, and without a gate.
    fn plain(&mut self, sizes: &Sizes, index: usize) -> Result<Dense> {
        let Sizes { dim, ffn_dim, .. } = *sizes;
        for part in ["ffn_up", "ffn_down"] {
            self.tensors.expect(&format!("{}.bias", blk(index, part)))?;
        }
        Ok(Dense {
            activation: Activation::Gelu,
            gate: None,
            up: self.tensors.matrix(&blk(index, "ffn_up"), ffn_dim, dim)?,
            down: self.tensors.matrix(&blk(index, "ffn_down"), dim, ffn_dim)?,
        })
    }

    /// Queries, keys and values in one matrix.
    fn fused_qkv(&mut self, sizes: &Sizes, index: usize) -> Result<[Matrix; 3]> {
        let rows = [sizes.q_dim(), sizes.kv_dim(), sizes.kv_dim()];
        self.tensors.matrices(&blk(index, "attn_qkv"), rows, sizes.dim)
    }

    /// What `hidden_activation` names.
    fn activation(&self) -> Result<Activation> {
        match self.keys.metadata.opt_str(&self.keys.name("hidden_activation"))? {
            None | Some("gelu") => Ok(Activation::Gelu),
            Some("silu" | "swish" | "swiglu") => Ok(Activation::Silu),
            Some(other) => {
                let shown: String = other.chars().take(40).collect();
                let problem = format!("is {shown:?}; \"gelu\" and \"silu\" are supported");
                Err(self.keys.unsupported("hidden_activation", &problem))
            }
        }
    }
}
