//! Jina BERT 2: BERT without rows of positions, whose scores fall with the distance (ALiBi),
//! and with a gated network (Günther et al. 2023). The model for code has norms of queries
//! and keys, and adds the stream to the mixer's result once more.

use crate::error::Result;
use crate::kernel::act::Activation;
use crate::model::plan::{Attention, Dense, Ffn, LayerPlan, Mixer, Norm, Plan};

use super::Source;
use super::decoder::{NormKind, Sizes, blk};
use super::encoder::{EmbedParts, around};

/// No converter writes what the models were trained with.
const MAX_BIAS: f32 = 8.0;

pub(super) fn jina_bert_v2(source: &mut Source<'_>) -> Result<Plan> {
    let keys = source.keys;
    let sizes = Sizes::with_norm(&keys, NormKind::Layer)?;
    let max_bias = keys.positive("attention.max_alibi_bias", Some(MAX_BIAS))?;
    let slopes = slopes(sizes.heads, max_bias);
    source.tensors.expect("token_embd_norm.bias")?;
    let parts = EmbedParts { types: true, positions: None, norm: true };
    source.encoder(&sizes, Vec::new(), parts, |source, index| {
        for part in ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_down"] {
            source.tensors.expect(&format!("{}.bias", blk(index, part)))?;
        }
        let normed = source.has_norm(index, &["attn_q_norm", "attn_k_norm"]);
        let row_norms = match normed {
            true => {
                let of_q = Sizes { dim: sizes.q_dim(), ..sizes };
                let of_k = Sizes { dim: sizes.kv_dim(), ..sizes };
                let q_norm = source.biased_norm(&of_q, index, "attn_q_norm")?;
                Some([q_norm, source.biased_norm(&of_k, index, "attn_k_norm")?])
            }
            false => None,
        };
        let attention = around(source.attention(&sizes, index)?, None);
        let slopes = Some(slopes.clone());
        let attention = Attention { rope: None, row_norms, slopes, ..attention };
        let ffn = Ffn::Dense(source.jina_ffn(&sizes, index, normed)?);
        source.twice_normed(&sizes, index, Mixer::Attention(attention), ffn)
    })
}

/// What a score loses per position of distance, for each of `heads` (Press et al. 2021): a
/// geometric sequence for the largest power of two in `heads`; the others take every second
/// number of the sequence for twice as many.
fn slopes(heads: usize, max_bias: f32) -> Vec<f32> {
    let power = 1usize << heads.max(1).ilog2();
    let exponent = |head: usize| match head < power {
        true => (head + 1) as f64,
        false => (2 * (head - power) + 1) as f64 / 2.0,
    };
    let of_head = |head| (-f64::from(max_bias) / power as f64 * exponent(head)).exp2() as f32;
    (0..heads).map(of_head).collect()
}

impl Source<'_> {
    /// Whether the file has a part of one of these norms.
    fn has_norm(&self, index: usize, norms: &[&str]) -> bool {
        let parts =
            norms.iter().flat_map(|norm| [format!("{norm}.weight"), format!("{norm}.bias")]);
        parts.into_iter().any(|part| self.tensors.has(&blk(index, &part)))
    }

    /// The norm `name` of a layer, which has a bias.
    fn biased_norm(&mut self, sizes: &Sizes, index: usize, name: &str) -> Result<Norm> {
        let name = blk(index, name);
        self.tensors.expect(&format!("{name}.bias"))?;
        self.norm(&name, sizes)
    }

    /// Gate and up apart, or one behind the other in `ffn_up`.
    fn jina_ffn(&mut self, sizes: &Sizes, index: usize, gate_last: bool) -> Result<Dense> {
        let Sizes { dim, ffn_dim, .. } = *sizes;
        let (gate, up) = (blk(index, "ffn_gate"), blk(index, "ffn_up"));
        let (gate, up) = if self.tensors.rows(&format!("{up}.weight")) == Some(2 * ffn_dim) {
            let [first, last] = self.tensors.matrices(&up, [ffn_dim; 2], dim)?;
            // The model for code was trained with the gate behind (`up_gated_layer`), the
            // others with the gate in front (`gated_layers`). llama.cpp takes the first half
            // for the gate of either; what it converted before 2025 has both apart.
            if gate_last { (last, first) } else { (first, last) }
        } else {
            let gate = self.tensors.matrix(&gate, ffn_dim, dim)?;
            (gate, self.tensors.matrix(&up, ffn_dim, dim)?)
        };
        let down = self.tensors.matrix(&blk(index, "ffn_down"), dim, ffn_dim)?;
        Ok(Dense { activation: Activation::Gelu, gate: Some(gate), up, down })
    }

    /// A layer that normalizes the stream behind each of its two branches, and where the file
    /// has `attn_norm_2` a second time behind the first.
    fn twice_normed(
        &mut self,
        sizes: &Sizes,
        index: usize,
        mixer: Mixer,
        ffn: Ffn,
    ) -> Result<LayerPlan> {
        let mut layer = self.post_normed(sizes, index, mixer, ffn)?;
        if self.has_norm(index, &["attn_norm_2"]) {
            layer.norms.second_sum = Some(self.biased_norm(sizes, index, "attn_norm_2")?);
        }
        Ok(layer)
    }
}

#[cfg(test)]
mod tests {
    use super::slopes;

    #[test]
    fn slopes_are_those_of_the_paper() {
        let eight: Vec<f32> = (1..=8).map(|i| 0.5f32.powi(i)).collect();
        assert_eq!(slopes(8, 8.0), eight);
        assert_eq!(slopes(1, 8.0), [1.0 / 256.0]);
        // Of 12 heads the last four have those of 16 heads.
        let of_16 = [0, 2, 4, 6].map(|i| slopes(16, 8.0)[i]);
        assert_eq!(slopes(12, 8.0), [&eight[..], &of_16].concat());
    }
}
