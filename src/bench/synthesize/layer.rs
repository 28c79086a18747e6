//! Which tensors the file of a shape has.

use crate::gguf::TensorSpec;
use crate::quant::Format;

use super::mix::Mix;
use super::shape::{ExpertShape, Family, Shape};

/// Name (that of a weight if it has no end), dimensions, and as what the mix sees it; floats
/// are none.
pub(super) type Part = (&'static str, Vec<u64>, Option<&'static str>);

pub(super) fn matrix(name: &'static str, dims: &[u64]) -> Part {
    (name, dims.to_vec(), Some(name))
}

pub(super) fn float(name: &'static str, dims: &[u64]) -> Part {
    (name, dims.to_vec(), None)
}

impl Shape {
    /// Every tensor in the order of llama.cpp's quantizer, stored as `mix` says.
    pub fn tensors(&self, mix: &Mix) -> Vec<TensorSpec> {
        if matches!(self.family, Family::Bert) {
            return self.of_encoder(mix);
        }
        let mut tensors = Vec::new();
        let mut add = |name: String, dims: &[u64], format| {
            tensors.push(TensorSpec { name, dims: dims.into(), format });
        };
        let head =
            if mix.is_quantized() && mix.base != Format::Q8_0 { Format::Q6_K } else { mix.base };
        let head = Mix::fitting(head, self.dim);
        if !self.tied {
            add("output.weight".into(), &[self.dim, self.vocab], head);
        }
        let norm = match self.family {
            Family::Lfm2 { .. } => "token_embd_norm.weight",
            _ => "output_norm.weight",
        };
        add(norm.into(), &[self.dim], Format::F32);
        for &name in self.rope_factors() {
            add(name.into(), &[self.rope_pairs()], Format::F32);
        }
        let embd = if self.tied { head } else { Mix::fitting(mix.base, self.dim) };
        add("token_embd.weight".into(), &[self.dim, self.vocab], embd);
        if let Some(width) = self.layer_input() {
            let all = width * self.layers as u64;
            add("per_layer_token_embd.weight".into(), &[all, self.vocab], head);
            add("per_layer_model_proj.weight".into(), &[self.dim, all], Format::BF16);
            add("per_layer_proj_norm.weight".into(), &[width], Format::F32);
        }
        for layer in 0..self.layers {
            for (part, dims, like) in self.of_layer(layer) {
                let gqa = self.heads / self.heads_of(layer).0;
                let format = match like {
                    Some(_) if dims.len() == 3 && mix.of_experts().is_some() => {
                        mix.of_experts().unwrap_or(mix.base)
                    }
                    Some(like) => Mix::fitting(mix.format(like, layer, self.layers, gqa), dims[0]),
                    None => Format::F32,
                };
                let end = if part.contains('.') || part == "ssm_a" { "" } else { ".weight" };
                add(format!("blk.{layer}.{part}{end}"), &dims, format);
            }
        }
        tensors
    }

    /// Tensors with divisors of rotary frequencies.
    fn rope_factors(&self) -> &'static [&'static str] {
        match self.family {
            Family::Phi { .. } => &["rope_factors_long.weight", "rope_factors_short.weight"],
            Family::Gemma4 { .. } => &["rope_freqs.weight"],
            _ if self.rope_factor.is_some() => &["rope_freqs.weight"],
            _ => &[],
        }
    }

    /// How many frequencies there are.
    pub(super) fn rope_pairs(&self) -> u64 {
        match self.family {
            Family::Phi { n_rot } | Family::Qwen35 { n_rot, .. } => n_rot / 2,
            Family::Gemma4 { more, .. } => more.full_head_dim / 2,
            _ => self.head_dim / 2,
        }
    }

    /// The width of what each layer reads beside the residual stream.
    fn layer_input(&self) -> Option<u64> {
        match self.family {
            Family::Gemma4 { more, .. } if more.layer_input > 0 => Some(more.layer_input),
            _ => None,
        }
    }

    fn of_layer(&self, index: usize) -> Vec<Part> {
        let (dim, (kv_heads, head_dim)) = (self.dim, self.heads_of(index));
        let mut tensors = match self.family {
            Family::Phi { .. } => return self.fused_layer(),
            _ if self.is_recurrent(index) => self.recurrent_mixer(),
            _ => self.attention(index),
        };
        match (self.experts, self.family) {
            (None, _) => tensors.extend(self.dense(index)),
            (Some(experts), Family::Llama) => {
                tensors.extend(self.experts(experts));
                tensors.push(float("ffn_norm", &[dim]));
            }
            (Some(experts), Family::Gemma4 { .. }) => {
                tensors.extend(self.dense(index));
                tensors.extend(self.experts_beside(experts));
            }
            (Some(experts), _) => tensors.extend(self.experts(experts)),
        }
        let in_attention = matches!(self.family, Family::Qwen35 { .. } | Family::Lfm2 { .. });
        if self.head_norms || in_attention && !self.is_recurrent(index) {
            tensors.extend(["attn_k_norm", "attn_q_norm"].map(|name| float(name, &[head_dim])));
        }
        if let Family::Gemma { .. } | Family::Gemma4 { .. } = self.family {
            tensors
                .extend(["post_attention_norm", "post_ffw_norm"].map(|name| float(name, &[dim])));
        }
        if let Family::Gemma4 { .. } = self.family {
            tensors.push(float("layer_output_scale", &[1]));
        }
        if let Family::Qwen35 { .. } = self.family {
            let norm = tensors.iter_mut().find(|(name, ..)| *name == "ffn_norm");
            norm.into_iter().for_each(|(name, ..)| *name = "post_attention_norm");
        }
        if let Some(width) = self.layer_input() {
            tensors.extend([
                matrix("inp_gate", &[dim, width]),
                matrix("proj", &[width, dim]),
                float("post_norm", &[dim]),
            ]);
        }
        if let (Family::GptOss, Some(ExpertShape { count, ffn, .. })) = (self.family, self.experts)
        {
            let (q, kv) = (self.heads * head_dim, kv_heads * head_dim);
            tensors.extend([
                float("post_attention_norm", &[dim]),
                float("attn_sinks", &[self.heads]),
                float("attn_q.bias", &[q]),
                float("attn_k.bias", &[kv]),
                float("attn_v.bias", &[kv]),
                float("attn_output.bias", &[dim]),
                float("ffn_gate_inp.bias", &[count]),
                float("ffn_gate_exps.bias", &[ffn, count]),
                float("ffn_up_exps.bias", &[ffn, count]),
                float("ffn_down_exps.bias", &[dim, count]),
            ]);
        }
        tensors
    }

    /// Also of layers that read the keys and values of others: files have what nothing reads.
    fn attention(&self, index: usize) -> Vec<Part> {
        let (dim, (kv_heads, head_dim)) = (self.dim, self.heads_of(index));
        let (q, kv) = (self.heads * head_dim, kv_heads * head_dim);
        let keys_are_values = match self.family {
            Family::Gemma4 { more, .. } => more.keys_are_values && !self.has_window(index),
            _ => false,
        };
        let gates = if matches!(self.family, Family::Qwen35 { .. }) { q } else { 0 };
        let mut tensors = vec![
            matrix("attn_k", &[dim, kv]),
            float("attn_norm", &[dim]),
            matrix("attn_output", &[q, dim]),
            matrix("attn_q", &[dim, q + gates]),
            matrix("attn_v", &[dim, kv]),
        ];
        tensors.retain(|(name, ..)| *name != "attn_v" || !keys_are_values);
        tensors
    }

    fn dense(&self, index: usize) -> Vec<Part> {
        let (dim, ffn) = (self.dim, self.ffn_of(index));
        vec![
            matrix("ffn_down", &[ffn, dim]),
            matrix("ffn_gate", &[dim, ffn]),
            float("ffn_norm", &[dim]),
            matrix("ffn_up", &[dim, ffn]),
        ]
    }

    /// Queries, keys and values in one matrix, gate and up in another.
    fn fused_layer(&self) -> Vec<Part> {
        let (dim, ffn) = (self.dim, self.ffn);
        let (q, kv) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        vec![
            float("attn_norm", &[dim]),
            matrix("attn_output", &[q, dim]),
            ("attn_qkv", vec![dim, q + 2 * kv], Some("attn_v")),
            matrix("ffn_down", &[ffn, dim]),
            float("ffn_norm", &[dim]),
            matrix("ffn_up", &[dim, 2 * ffn]),
        ]
    }

    fn experts(&self, ExpertShape { count, ffn, .. }: ExpertShape) -> Vec<Part> {
        let dim = self.dim;
        vec![
            ("ffn_down_exps", vec![ffn, dim, count], Some("ffn_down")),
            ("ffn_gate_exps", vec![dim, ffn, count], Some("ffn_gate")),
            float("ffn_gate_inp", &[dim, count]),
            ("ffn_up_exps", vec![dim, ffn, count], Some("ffn_up")),
        ]
    }

    /// Experts with norms of their own, gate and up in one matrix.
    fn experts_beside(&self, ExpertShape { count, ffn, .. }: ExpertShape) -> Vec<Part> {
        let dim = self.dim;
        vec![
            ("ffn_down_exps", vec![ffn, dim, count], Some("ffn_down")),
            float("ffn_down_exps.scale", &[count]),
            ("ffn_gate_up_exps", vec![dim, 2 * ffn, count], Some("ffn_gate")),
            float("ffn_gate_inp", &[dim, count]),
            float("ffn_gate_inp.scale", &[dim]),
            float("post_ffw_norm_1", &[dim]),
            float("post_ffw_norm_2", &[dim]),
            float("pre_ffw_norm_2", &[dim]),
        ]
    }
}
