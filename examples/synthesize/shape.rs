//! Which tensors a model of a given shape has, and in which format.

use tramontane::gguf::TensorSpec;
use tramontane::quant::Format;

/// The numbers of a network.
pub struct Shape {
    pub name: &'static str,
    pub layers: usize,
    pub dim: usize,
    pub ffn: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub n_vocab: usize,
    pub context: u32,
    pub rope_base: f32,
    /// Whether the output matrix is the embedding.
    pub tied: bool,
    /// Whether the file has `rope_freqs`.
    pub rope_freqs: bool,
}

pub const SHAPES: [Shape; 3] = [
    Shape {
        name: "mistral-7b", // Mistral-7B-Instruct-v0.3
        layers: 32,
        dim: 4096,
        ffn: 14336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        n_vocab: 32768,
        context: 32768,
        rope_base: 1e6,
        tied: false,
        rope_freqs: false,
    },
    Shape {
        name: "llama-1b", // Llama-3.2-1B
        layers: 16,
        dim: 2048,
        ffn: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        n_vocab: 128_256,
        context: 131_072,
        rope_base: 5e5,
        tied: true,
        rope_freqs: true,
    },
    Shape {
        name: "tiny",
        layers: 2,
        dim: 256,
        ffn: 512,
        heads: 8,
        kv_heads: 2,
        head_dim: 32,
        n_vocab: 512,
        context: 2048,
        rope_base: 1e4,
        tied: false,
        rope_freqs: false,
    },
];

/// What llama.cpp's quantizer would store each role in.
#[derive(Clone, Copy)]
pub struct Mix {
    pub name: &'static str,
    /// llama.cpp's number of the file type, for `general.file_type`.
    pub file_type: u32,
    /// Most matrices.
    base: Format,
    /// The output matrix, or the embedding where it is tied.
    output: Format,
    attn_v: Format,
    attn_output: Format,
    ffn_down: Format,
    /// `attn_v` and `ffn_down` in the layers that get more bits.
    more: Format,
}

const fn pure(name: &'static str, file_type: u32, base: Format, output: Format) -> Mix {
    Mix {
        name,
        file_type,
        base,
        output,
        attn_v: base,
        attn_output: base,
        ffn_down: base,
        more: base,
    }
}

pub const MIXES: [Mix; 9] = [
    Mix { more: Format::Q6_K, ..pure("q4_k_m", 15, Format::Q4_K, Format::Q6_K) },
    Mix { more: Format::Q6_K, ..pure("q5_k_m", 17, Format::Q5_K, Format::Q6_K) },
    pure("q6_k", 18, Format::Q6_K, Format::Q6_K),
    pure("q8_0", 7, Format::Q8_0, Format::Q8_0),
    pure("q4_0", 2, Format::Q4_0, Format::Q6_K),
    Mix {
        attn_v: Format::Q4_K,
        attn_output: Format::Q3_K,
        ffn_down: Format::Q3_K,
        more: Format::Q3_K,
        ..pure("q2_k", 10, Format::Q2_K, Format::Q6_K)
    },
    pure("f16", 1, Format::F16, Format::F16),
    pure("bf16", 32, Format::BF16, Format::BF16),
    pure("f32", 0, Format::F32, Format::F32),
];

/// llama.cpp's `use_more_bits`: the first and last eighth of the layers, and every
/// third between.
fn more_bits(layer: usize, layers: usize) -> bool {
    layer < layers / 8 || layer >= 7 * layers / 8 || (layer - layers / 8) % 3 == 2
}

/// The tensors in the order of llama.cpp's files.
pub fn tensors(shape: &Shape, mix: &Mix) -> Vec<TensorSpec> {
    let mut all = Vec::new();
    let mut add = |name: String, dims: &[usize], format| {
        all.push(TensorSpec { name, dims: dims.iter().map(|&d| d as u64).collect(), format });
    };
    let Shape { dim, ffn, layers, n_vocab, .. } = *shape;
    let (q, kv) = (shape.heads * shape.head_dim, shape.kv_heads * shape.head_dim);
    if shape.rope_freqs {
        add("rope_freqs.weight".into(), &[shape.head_dim / 2], Format::F32);
    }
    let embedding = if shape.tied { mix.output } else { mix.base };
    add("token_embd.weight".into(), &[dim, n_vocab], embedding);
    for layer in 0..layers {
        let more = more_bits(layer, layers);
        let name = |part: &str| format!("blk.{layer}.{part}.weight");
        let k_quant_of_v = mix.attn_v != mix.base; // q2_k has one type for all layers
        let attn_v = if more && !k_quant_of_v { mix.more } else { mix.attn_v };
        add(name("attn_norm"), &[dim], Format::F32);
        add(name("attn_q"), &[dim, q], mix.base);
        add(name("attn_k"), &[dim, kv], mix.base);
        add(name("attn_v"), &[dim, kv], attn_v);
        add(name("attn_output"), &[q, dim], mix.attn_output);
        add(name("ffn_norm"), &[dim], Format::F32);
        add(name("ffn_gate"), &[dim, ffn], mix.base);
        add(name("ffn_up"), &[dim, ffn], mix.base);
        add(name("ffn_down"), &[ffn, dim], if more { mix.more } else { mix.ffn_down });
    }
    add("output_norm.weight".into(), &[dim], Format::F32);
    if !shape.tied {
        add("output.weight".into(), &[dim, n_vocab], mix.output);
    }
    all
}
