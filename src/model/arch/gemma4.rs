//! Gemma 4: heads of another width and another rotary base in layers with a window; scores
//! that are not scaled; values with a norm; last layers that read the keys and values of
//! earlier ones; parts of each token for each layer; experts beside the usual network.

use crate::error::{Error, Result};
use crate::kernel::act::Activation;
use crate::kernel::rope::Pairing;
use crate::model::plan::{
    Attention, Beside, Experts, Ffn, HeadNorm, LayerInput, LayerInputs, LayerPlan, Mixer, Norm,
    Plan, Vector,
};

use super::Source;
use super::decoder::{NormKind, Sizes, blk};
use super::experts::Mixture;
use super::gemma::{dense, norms, with_scaled_embedding};
use super::keys::{Keys, limit};

/// How many of the last layers have no keys and values.
const SHARED: &str = "attention.shared_kv_layers";

/// What differs from layer to layer.
struct Layers {
    sizes: Vec<Sizes>,
    windows: Vec<Option<usize>>,
    /// Those with keys and values of their own.
    writing: usize,
}

pub(super) fn gemma4(source: &mut Source<'_>) -> Result<Plan> {
    const BASE_OF_WINDOWS: f32 = 10_000.0;
    let keys = source.keys;
    let common = Sizes::common(&keys, NormKind::Rms, "attention.layer_norm_rms_epsilon")?;
    keys.required("attention.sliding_window", 1..=u32::MAX)?;
    let windows = source.windows(common.layers, None, 6)?;
    let head_dims = [
        common.head_dim_of(&keys, "attention.key_length", "attention.value_length")?,
        common.head_dim_of(&keys, "attention.key_length_swa", "attention.value_length_swa")?,
    ];
    let shared = keys.optional(SHARED, 0..=common.layers as u32 - 1)?.unwrap_or(0);
    let layers = Layers {
        sizes: sizes(&keys, common, &windows, head_dims)?,
        writing: common.layers - shared as usize,
        windows,
    };
    let mixture = Mixture::read(&keys, &layers.sizes[0], true)?;
    let mixture = mixture.map(|mixture| mixture.with(Activation::GeluTanh));
    let n_rot = keys.n_rot(head_dims[0])?;
    let n_rot_of_windows = keys.n_rot_by("rope.dimension_count_swa", head_dims[1])?;
    // 10³⁰ for the pairs that do not turn.
    let factors = source.tensors.rope_factors("rope_freqs.weight", n_rot / 2)?;
    let ropes = vec![
        keys.rope(Pairing::Halves, n_rot, factors.as_deref())?,
        keys.window_rope(Pairing::Halves, n_rot_of_windows, BASE_OF_WINDOWS)?,
    ];
    let width = keys.optional("embedding_length_per_layer_input", 0..=limit::HEAD_DIM)?;
    let width = width.unwrap_or(0) as usize;
    let mut plan = source.decoder(&common, ropes, |source, index| {
        layer(source, &layers, index, mixture.as_ref(), width)
    })?;
    if width > 0 {
        plan.embed.layer_inputs = Some(layer_inputs(source, &common, plan.n_vocab(), width)?);
    }
    let soft_cap = keys.finite("final_logit_softcapping", 0.0)?;
    plan.head.soft_cap = (soft_cap > 0.0).then_some(soft_cap);
    Ok(with_scaled_embedding(plan))
}

/// `head_dims`: of layers without and with a window.
fn sizes(
    keys: &Keys<'_>,
    common: Sizes,
    windows: &[Option<usize>],
    head_dims: [usize; 2],
) -> Result<Vec<Sizes>> {
    let layers = common.layers;
    let kv_heads = keys.per_layer("attention.head_count_kv", layers, 1..=limit::HEADS)?;
    let ffn_dims = keys.per_layer("feed_forward_length", layers, 1..=limit::WIDTH)?;
    let Some(ffn_dims) = ffn_dims else {
        return Err(Error::key(&keys.name("feed_forward_length"), "is missing"));
    };
    let of_layer = |(index, ffn_dim): (usize, u32)| {
        let kv_heads = kv_heads.as_ref().map(|heads| heads[index]);
        let kv_heads = common.kv_heads_of(keys, kv_heads)?;
        let head_dim = head_dims[usize::from(windows[index].is_some())];
        Ok(Sizes { kv_heads, head_dim, ffn_dim: ffn_dim as usize, ..common })
    };
    ffn_dims.into_iter().enumerate().map(of_layer).collect()
}

/// `width`: of the layer's part of the [`LayerInputs`]; 0 without.
fn layer(
    source: &mut Source<'_>,
    layers: &Layers,
    index: usize,
    mixture: Option<&Mixture>,
    width: usize,
) -> Result<LayerPlan> {
    let sizes = &layers.sizes[index];
    let mixer = Mixer::Attention(attention(source, layers, index)?);
    let dense = dense(source, sizes, index)?;
    let ffn = match mixture {
        None => Ffn::Dense(dense),
        Some(mixture) => {
            let mut norm = |part: &str| source.norm(&blk(index, part), sizes);
            let [after_dense, before_experts, after_experts] =
                [norm("post_ffw_norm_1")?, norm("pre_ffw_norm_2")?, norm("post_ffw_norm_2")?];
            let before_router = before_router(source, sizes, index)?;
            let scales = blk(index, "ffn_down_exps.scale");
            let scales = Some(source.tensors.vector(&scales, mixture.count)?);
            let experts = Experts { scales, ..source.experts(sizes, index, mixture)? };
            Ffn::Beside(Beside {
                dense,
                after_dense,
                before_router,
                before_experts,
                experts,
                after_experts,
            })
        }
    };
    let scale = blk(index, "layer_output_scale.weight");
    let output_scale = match source.tensors.has(&scale) {
        true => source.tensors.vector(&scale, 1)?[0],
        false => 1.0,
    };
    let input = (width > 0).then(|| layer_input(source, sizes, index, width)).transpose()?;
    let norms = norms(source, sizes, index)?;
    Ok(LayerPlan { input, output_scale, ..LayerPlan::new(norms, mixer, ffn) })
}

fn attention(source: &mut Source<'_>, layers: &Layers, index: usize) -> Result<Attention> {
    let (sizes, window) = (&layers.sizes[index], layers.windows[index]);
    let epsilon = sizes.epsilon;
    let norm = |source: &mut Source<'_>, name: &str| -> Result<Option<HeadNorm>> {
        let weight = source.tensors.vector(&blk(index, name), sizes.head_dim)?;
        Ok(Some(HeadNorm { weight, epsilon }))
    };
    let q_norm = norm(source, "attn_q_norm.weight")?;
    let rope = Some(usize::from(window.is_some()));
    if index >= layers.writing {
        for part in ["attn_k.weight", "attn_v.weight", "attn_k_norm.weight"] {
            source.tensors.ignore(&blk(index, part));
        }
        let cache = cache_of(source, layers, index)?;
        let attention = source.reading_attention(sizes, index, cache)?;
        return Ok(Attention { window, rope, q_norm, divisor: 1.0, ..attention });
    }
    let k_norm = norm(source, "attn_k_norm.weight")?;
    let v_norm = Some(HeadNorm::unweighted(sizes.head_dim, epsilon));
    let q = source.tensors.matrix(&blk(index, "attn_q"), sizes.q_dim(), sizes.dim)?;
    let k = source.tensors.matrix(&blk(index, "attn_k"), sizes.kv_dim(), sizes.dim)?;
    let v = blk(index, "attn_v");
    // Layers without a window of the larger models have none.
    let v = match window.is_some() || source.tensors.has(&format!("{v}.weight")) {
        true => Some(source.tensors.matrix(&v, sizes.kv_dim(), sizes.dim)?),
        false => None,
    };
    let attention = source.attention_of_some(sizes, index, q, [Some(k), v])?;
    Ok(Attention { window, rope, q_norm, k_norm, v_norm, divisor: 1.0, ..attention })
}

/// Which layer's keys and values layer `index` reads: those of the last one of its kind that
/// has some.
fn cache_of(source: &Source<'_>, layers: &Layers, index: usize) -> Result<usize> {
    let has_window = |layer: usize| layers.windows[layer].is_some();
    let of_kind = (0..layers.writing).rev().find(|&layer| has_window(layer) == has_window(index));
    of_kind.ok_or_else(|| {
        let problem = format!("leaves no layer whose keys and values layer {index} could read");
        Error::key(&source.keys.name(SHARED), problem)
    })
}

/// The router reads the residual stream through a norm without weights, times 1 / √width,
/// times a vector.
fn before_router(source: &mut Source<'_>, sizes: &Sizes, index: usize) -> Result<Norm> {
    let name = blk(index, "ffn_gate_inp.scale");
    let scale = source.tensors.vector(&name, sizes.dim)?;
    let root = (sizes.dim as f32).sqrt();
    let values = scale.iter().map(|scale| scale / root).collect();
    Ok(Norm::Rms { weight: Vector { name: name.into(), values }, epsilon: sizes.epsilon })
}

fn layer_input(
    source: &mut Source<'_>,
    sizes: &Sizes,
    index: usize,
    width: usize,
) -> Result<LayerInput> {
    Ok(LayerInput {
        index,
        gate: source.tensors.matrix(&blk(index, "inp_gate"), width, sizes.dim)?,
        activation: Activation::GeluTanh,
        projection: source.tensors.matrix(&blk(index, "proj"), sizes.dim, width)?,
        norm: source.norm(&blk(index, "post_norm"), sizes)?,
    })
}

fn layer_inputs(
    source: &mut Source<'_>,
    sizes: &Sizes,
    n_vocab: usize,
    width: usize,
) -> Result<LayerInputs> {
    let (all, tensors) = (sizes.layers * width, &mut source.tensors);
    let weight = tensors.vector("per_layer_proj_norm.weight", width)?;
    Ok(LayerInputs {
        table: tensors.table("per_layer_token_embd.weight", n_vocab, all)?,
        scale: (width as f32).sqrt(),
        projection: tensors.matrix("per_layer_model_proj", all, sizes.dim)?,
        projection_scale: 1.0 / (sizes.dim as f32).sqrt(),
        norm: HeadNorm { weight, epsilon: sizes.epsilon },
    })
}
