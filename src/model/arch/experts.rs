//! Experts by their usual keys and names.

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::route::{Probability, Routing};
use crate::model::plan::{Dense, Experts, Ffn, Shared};

use super::Source;
use super::decoder::{Sizes, blk};
use super::keys::{Keys, limit};

/// How many experts there are, and how rows choose.
#[derive(Debug, Clone, Copy)]
pub(super) struct Mixture {
    count: usize,
    used: usize,
    width: usize,
    shared_width: Option<usize>,
    pub probability: Probability,
    normalize: bool,
    scale: f32,
    /// Layers at the beginning that have one network for all rows.
    dense_layers: usize,
    pub activation: Activation,
    /// Whether the network of all rows must have a gate.
    shared_gate: bool,
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
        let count = keys.optional("expert_count", 0..=limit::EXPERTS)?.unwrap_or(0);
        if count == 0 {
            return Ok(None);
        }
        let used = keys.required("expert_used_count", 1..=count)?;
        let width = keys.optional("expert_feed_forward_length", 1..=limit::WIDTH)?;
        let shared = keys.optional("expert_shared_feed_forward_length", 0..=limit::WIDTH)?;
        let norm = keys.name("expert_weights_norm");
        let normalize = keys.metadata.opt_bool(&norm)?.unwrap_or(normalize);
        let (probability, normalize) = match keys.optional("expert_gating_func", 0..=u32::MAX)? {
            None | Some(0 | 1) => (Probability::Softmax, normalize),
            Some(2) => (Probability::Sigmoid, normalize),
            // The softmax over the chosen logits is the normalized one over all.
            Some(3) => (Probability::Softmax, true),
            Some(other) => {
                let problem = format!(
                    "is {other}; 1 (softmax), 2 (sigmoid) and 3 (softmax of the chosen) are \
                     supported"
                );
                return Err(keys.unsupported("expert_gating_func", &problem));
            }
        };
        let scale = keys.finite("expert_weights_scale", 0.0)?;
        if scale < 0.0 {
            let name = keys.name("expert_weights_scale");
            return Err(Error::key(&name, format!("is {scale}; it must not be negative")));
        }
        if keys.optional("expert_group_count", 0..=u32::MAX)?.is_some_and(|groups| groups > 1) {
            let problem = "is more than 1; groups of experts are not supported";
            return Err(keys.unsupported("expert_group_count", problem));
        }
        let dense_layers = keys.optional("leading_dense_block_count", 0..=limit::LAYERS)?;
        Ok(Some(Mixture {
            count: count as usize,
            used: used as usize,
            width: width.map_or(sizes.ffn_dim, |width| width as usize),
            shared_width: shared.filter(|&width| width > 0).map(|width| width as usize),
            probability,
            normalize,
            scale: if scale == 0.0 { 1.0 } else { scale },
            dense_layers: dense_layers.unwrap_or(0) as usize,
            activation: Activation::Silu,
            shared_gate: false,
        }))
    }
}

impl Mixture {
    /// The same, where the network of all rows must have a gate.
    pub fn with_shared_gate(self) -> Self {
        Mixture { shared_gate: true, ..self }
    }

    /// Whether experts have gates: those with `relu²` have none.
    fn is_gated(&self) -> bool {
        self.activation != Activation::ReluSquared
    }
}

impl Source<'_> {
    /// A gated network, or experts where `mixture` says so.
    pub fn ffn(&mut self, sizes: &Sizes, index: usize, mixture: Option<&Mixture>) -> Result<Ffn> {
        match mixture {
            Some(mixture) if index >= mixture.dense_layers => {
                self.experts(sizes, index, mixture).map(Ffn::Experts)
            }
            _ => self.gated(sizes, index).map(Ffn::Dense),
        }
    }

    /// The experts of a layer.
    pub fn experts(&mut self, sizes: &Sizes, index: usize, mixture: &Mixture) -> Result<Experts> {
        let Mixture { count, used, width, probability, normalize, scale, activation, .. } =
            *mixture;
        let dim = sizes.dim;
        let bias = blk(index, "exp_probs_b.bias");
        let selection_bias = match self.tensors.has(&bias) {
            true => Some(self.tensors.vector(&bias, count)?),
            false => None,
        };
        let mut of =
            |part: &str, rows, cols| self.tensors.experts(&blk(index, part), count, rows, cols);
        let ups = of("ffn_up_exps", width, dim)?;
        let downs = of("ffn_down_exps", dim, width)?;
        let gates = match mixture.is_gated() {
            true => of("ffn_gate_exps", width, dim)?.into_iter().map(Some).collect(),
            false => (0..count).map(|_| None).collect::<Vec<_>>(),
        };
        let experts = gates.into_iter().zip(ups).zip(downs);
        let experts = experts.map(|((gate, up), down)| Dense { activation, gate, up, down });
        Ok(Experts {
            experts: experts.collect(),
            router: self.tensors.matrix(&blk(index, "ffn_gate_inp"), count, dim)?,
            selection_bias,
            routing: Routing { used, probability, normalize, scale },
            shared: self.shared(sizes, index, mixture)?,
        })
    }

    /// The network of all rows, if the file has one.
    fn shared(&mut self, sizes: &Sizes, index: usize, mixture: &Mixture) -> Result<Option<Shared>> {
        let Some(width) = mixture.shared_width else { return Ok(None) };
        let dim = sizes.dim;
        let gate = blk(index, "ffn_gate_inp_shexp.weight");
        let gate = match mixture.shared_gate || self.tensors.has(&gate) {
            true => Some(self.tensors.row(&gate, dim)?),
            false => None,
        };
        let dense = Dense {
            activation: mixture.activation,
            gate: match mixture.is_gated() {
                true => Some(self.tensors.matrix(&blk(index, "ffn_gate_shexp"), width, dim)?),
                false => None,
            },
            up: self.tensors.matrix(&blk(index, "ffn_up_shexp"), width, dim)?,
            down: self.tensors.matrix(&blk(index, "ffn_down_shexp"), dim, width)?,
        };
        Ok(Some(Shared { dense, gate }))
    }
}
