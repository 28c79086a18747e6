//! Experts by their usual keys and names: all of a layer in one tensor, gate and up in one
//! together, or one tensor for each.

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::matrix::Matrix;
use crate::kernel::route::{Probability, Routing};
use crate::model::plan::{Dense, Experts, Ffn, Shared};

use super::Source;
use super::decoder::{Sizes, blk};
use super::keys::{Keys, limit};

/// How many experts there are, and how rows choose.
#[derive(Debug, Clone)]
pub(super) struct Mixture {
    pub count: usize,
    /// Of each layer.
    used: Vec<u32>,
    width: Vec<u32>,
    shared: SharedWidth,
    /// Layers at the beginning that have one network for all rows.
    dense_layers: usize,
    pub activation: Activation,
    /// Whether experts have gates.
    gated: bool,
    /// Where the file does not say it: a sigmoid if experts are chosen with a bias, as those
    /// who use one do, else a softmax.
    probability: Option<Probability>,
    normalize: bool,
    scale: f32,
    /// Whether the network of all rows must have a gate.
    shared_gate: bool,
}

/// How wide the network of all rows is.
#[derive(Debug, Clone, Copy)]
enum SharedWidth {
    /// 0: there is none.
    Own(usize),
    /// As this many experts.
    Experts(usize),
}

impl Mixture {
    /// Of a file that must have experts. `normalize`: where the file does not say.
    pub fn required(keys: &Keys<'_>, sizes: &Sizes, normalize: bool) -> Result<Self> {
        keys.required("expert_count", 1..=limit::EXPERTS)?;
        match Mixture::read(keys, sizes, normalize)? {
            Some(mixture) => Ok(mixture),
            None => Err(Error::key(&keys.name("expert_count"), "is 0")),
        }
    }

    /// The same; none of a file without experts.
    pub fn read(keys: &Keys<'_>, sizes: &Sizes, normalize: bool) -> Result<Option<Self>> {
        let name = "leading_dense_block_count";
        if keys.optional(name, 0..=u32::MAX)?.is_some_and(|layers| layers > 0) {
            return Err(keys.unsupported(name, "is not supported for this architecture"));
        }
        Mixture::behind_dense_layers(keys, sizes, normalize)
    }

    /// The same; the first layers may have one network each.
    pub fn behind_dense_layers(
        keys: &Keys<'_>,
        sizes: &Sizes,
        normalize: bool,
    ) -> Result<Option<Self>> {
        let count = keys.optional("expert_count", 0..=limit::EXPERTS)?.unwrap_or(0);
        if u64::from(count) * sizes.layers as u64 > limit::ALL_EXPERTS {
            let problem = format!("is {count} for each of {} layers", sizes.layers);
            return Err(keys.unsupported("expert_count", &problem));
        }
        if count == 0 {
            return Ok(None);
        }
        let layers = sizes.layers;
        let dense_layers = keys.optional("leading_dense_block_count", 0..=layers as u32)?;
        // 0 in layers without experts.
        let Some(used) = keys.per_layer("expert_used_count", layers, 0..=count)? else {
            return Err(Error::key(&keys.name("expert_used_count"), "is missing"));
        };
        let width = keys.per_layer("expert_feed_forward_length", layers, 0..=limit::WIDTH)?;
        if keys.optional("expert_group_count", 0..=u32::MAX)?.is_some_and(|groups| groups > 1) {
            let problem = "groups of experts are not supported for this architecture";
            return Err(keys.unsupported("expert_group_count", problem));
        }
        keys.optional("expert_group_used_count", 0..=u32::MAX)?;
        let (probability, normalize) = Mixture::gating(keys, normalize)?;
        let scale = keys.finite("expert_weights_scale", 0.0)?;
        if scale < 0.0 {
            let name = keys.name("expert_weights_scale");
            return Err(Error::key(&name, format!("is {scale}; it must not be negative")));
        }
        Ok(Some(Mixture {
            count: count as usize,
            used,
            width: width.unwrap_or_else(|| vec![sizes.ffn_dim as u32; layers]),
            shared: SharedWidth::read(keys)?,
            dense_layers: dense_layers.unwrap_or(0) as usize,
            activation: Activation::Silu,
            gated: true,
            probability,
            normalize,
            scale: if scale == 0.0 { 1.0 } else { scale },
            shared_gate: false,
        }))
    }

    /// The same with another activation.
    pub fn with(self, activation: Activation) -> Self {
        Mixture { activation, ..self }
    }

    /// The same with another activation, and without gates.
    pub fn without_gates(self, activation: Activation) -> Self {
        Mixture { activation, gated: false, ..self }
    }

    /// The same, where the network of all rows must have a gate.
    pub fn with_shared_gate(self) -> Self {
        Mixture { shared_gate: true, ..self }
    }

    /// What logits become, if the file says it, and whether the weights of the chosen add up
    /// to 1.
    fn gating(keys: &Keys<'_>, normalize: bool) -> Result<(Option<Probability>, bool)> {
        let norm = keys.name("expert_weights_norm");
        let normalize = keys.metadata.opt_bool(&norm)?.unwrap_or(normalize);
        Ok(match keys.optional("expert_gating_func", 0..=u32::MAX)? {
            None | Some(0) => (None, normalize),
            Some(1) => (Some(Probability::Softmax), normalize),
            Some(2) => (Some(Probability::Sigmoid), normalize),
            // The softmax over the chosen logits is the normalized one over all.
            Some(3) => (Some(Probability::Softmax), true),
            Some(other) => {
                let problem = format!(
                    "is {other}; 1 (softmax), 2 (sigmoid) and 3 (softmax of the chosen) are \
                     supported"
                );
                return Err(keys.unsupported("expert_gating_func", &problem));
            }
        })
    }

    /// Experts that a row of layer `index` goes to, and how wide each is.
    fn sizes_of(&self, keys: &Keys<'_>, index: usize) -> Result<(usize, usize)> {
        let sizes = (self.used[index] as usize, self.width[index] as usize);
        for (name, size) in
            [("expert_used_count", sizes.0), ("expert_feed_forward_length", sizes.1)]
        {
            if size == 0 {
                let problem = format!("is 0 for layer {index}, which has experts");
                return Err(Error::key(&keys.name(name), problem));
            }
        }
        Ok(sizes)
    }
}

impl SharedWidth {
    fn read(keys: &Keys<'_>) -> Result<Self> {
        let width = keys.optional("expert_shared_feed_forward_length", 0..=limit::WIDTH)?;
        let count = keys.optional("expert_shared_count", 0..=limit::EXPERTS)?;
        Ok(match (width, count) {
            (Some(width), _) => SharedWidth::Own(width as usize),
            (None, count) => SharedWidth::Experts(count.unwrap_or(0) as usize),
        })
    }

    /// `width`: of an expert.
    fn of(self, width: usize) -> usize {
        match self {
            SharedWidth::Own(width) => width,
            SharedWidth::Experts(count) => count.saturating_mul(width),
        }
    }
}

impl Source<'_> {
    /// A gated network, or experts where `mixture` has some.
    pub fn ffn(&mut self, sizes: &Sizes, index: usize, mixture: Option<&Mixture>) -> Result<Ffn> {
        match mixture.filter(|mixture| index >= mixture.dense_layers) {
            None => self.gated(sizes, index).map(Ffn::Dense),
            Some(mixture) => self.experts(sizes, index, mixture).map(Ffn::Experts),
        }
    }

    /// The experts of a layer.
    pub fn experts(&mut self, sizes: &Sizes, index: usize, mixture: &Mixture) -> Result<Experts> {
        let Mixture { count, activation, probability, normalize, scale, .. } = *mixture;
        let (used, width) = mixture.sizes_of(&self.keys, index)?;
        let dim = sizes.dim;
        let bias = blk(index, "exp_probs_b.bias");
        let selection_bias = match self.tensors.has(&bias) {
            true => Some(self.tensors.vector(&bias, count)?),
            false => None,
        };
        let probability = probability.unwrap_or(match selection_bias.is_some() {
            true => Probability::Sigmoid,
            false => Probability::Softmax,
        });
        let fused = blk(index, "ffn_gate_up_exps");
        let (gates, ups) = match self.tensors.has(&format!("{fused}.weight")) {
            true => {
                let [gates, ups] = self.tensors.experts_parts(&fused, count, [width; 2], dim)?;
                (gates, ups)
            }
            false => {
                let gates = match mixture.gated {
                    true => self.matrices_of_experts(index, "ffn_gate", count, width, dim)?,
                    false => Vec::new(),
                };
                (gates, self.matrices_of_experts(index, "ffn_up", count, width, dim)?)
            }
        };
        let downs = self.matrices_of_experts(index, "ffn_down", count, dim, width)?;
        let gates = gates.into_iter().map(Some).chain(std::iter::repeat_with(|| None));
        let experts = gates.zip(ups).zip(downs);
        let experts = experts.map(|((gate, up), down)| Dense { activation, gate, up, down });
        Ok(Experts {
            experts: experts.collect(),
            router: self.tensors.matrix(&blk(index, "ffn_gate_inp"), count, dim)?,
            selection_bias,
            routing: Routing { used, probability, normalize, scale },
            scales: None,
            shared: self.shared(sizes, index, mixture.shared.of(width), mixture)?,
        })
    }

    /// The matrices `part` of the experts of a layer. Old files have a tensor for each.
    fn matrices_of_experts(
        &mut self,
        index: usize,
        part: &str,
        count: usize,
        rows: usize,
        cols: usize,
    ) -> Result<Vec<Matrix>> {
        let of_expert = |expert: usize| format!("{}.{expert}", blk(index, part));
        if self.tensors.has(&format!("{}.weight", of_expert(0))) {
            return (0..count).map(|e| self.tensors.matrix(&of_expert(e), rows, cols)).collect();
        }
        self.tensors.experts(&format!("{}_exps", blk(index, part)), count, rows, cols)
    }

    /// The network of all rows, if it has a width.
    fn shared(
        &mut self,
        sizes: &Sizes,
        index: usize,
        width: usize,
        mixture: &Mixture,
    ) -> Result<Option<Shared>> {
        if width == 0 {
            return Ok(None);
        }
        let dim = sizes.dim;
        let gate = blk(index, "ffn_gate_inp_shexp.weight");
        let gate = match mixture.shared_gate || self.tensors.has(&gate) {
            true => Some(self.tensors.row(&gate, dim)?),
            false => None,
        };
        let dense = Dense {
            activation: mixture.activation,
            gate: match mixture.gated {
                true => Some(self.tensors.matrix(&blk(index, "ffn_gate_shexp"), width, dim)?),
                false => None,
            },
            up: self.tensors.matrix(&blk(index, "ffn_up_shexp"), width, dim)?,
            down: self.tensors.matrix(&blk(index, "ffn_down_shexp"), dim, width)?,
        };
        Ok(Some(Shared { dense, gate }))
    }
}
