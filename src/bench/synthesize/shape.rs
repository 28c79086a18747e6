//! The shapes of published models. Which tensors a file has stands in `layer.rs`, what its
//! metadata says in `keys.rs`.

/// The numbers of a network.
#[derive(Debug, Clone)]
pub struct Shape {
    /// As in `--shape`.
    pub name: &'static str,
    /// `general.architecture`.
    pub arch: &'static str,
    /// The model that has this shape.
    pub of: &'static str,
    /// Transformer layers.
    pub layers: usize,
    /// Width of the residual stream.
    pub dim: u64,
    /// Width inside the feed-forward part.
    pub ffn: u64,
    /// Query heads.
    pub heads: u64,
    /// Heads of keys and values.
    pub kv_heads: u64,
    /// Width of a head.
    pub head_dim: u64,
    /// Tokens of the vocabulary.
    pub vocab: u64,
    /// Positions of the training.
    pub context: u32,
    /// Base of the rotary frequencies.
    pub freq_base: f32,
    /// No output matrix: the embedding is used twice.
    pub tied: bool,
    /// Whether the file says the size of a head.
    pub says_head_dim: bool,
    /// Factor of Llama 3's frequency scaling, for files with `rope_freqs`.
    pub rope_factor: Option<f32>,
    /// Whether there are norms of query and key heads.
    pub head_norms: bool,
    /// In the place of one feed-forward network, or beside it.
    pub experts: Option<ExpertShape>,
    /// What else there is.
    pub family: Family,
}

/// What is particular to a family of networks.
#[derive(Debug, Clone, Copy)]
pub enum Family {
    /// Nothing.
    Llama,
    /// Fused matrices, LongRoPE.
    Phi {
        /// Values of a head that rotate.
        n_rot: u64,
    },
    /// Norms behind the branches, windows.
    Gemma {
        /// Positions that are seen.
        window: u64,
        /// Every so many layers one sees everything.
        period: usize,
    },
    /// The same, and more.
    Gemma4 {
        /// Positions that are seen.
        window: u64,
        /// Every so many layers one sees everything.
        period: usize,
        /// What differs from layer to layer.
        more: Gemma4Shape,
    },
    /// Biases, sinks, YaRN; a window in every other layer.
    GptOss,
    /// An encoder.
    Bert,
    /// The gated delta rule in most layers; attention has a gate.
    Qwen35 {
        /// Heads of queries and keys.
        key_heads: u64,
        /// Heads of values.
        value_heads: u64,
        /// Width of these heads.
        state: u64,
        /// Every so many layers one has attention.
        period: usize,
        /// Values of a head that rotate.
        n_rot: u64,
    },
    /// Short convolutions in most layers.
    Lfm2 {
        /// The layers with attention.
        attention: &'static [usize],
        /// Rows that a convolution sees.
        taps: u64,
    },
}

/// What differs from layer to layer in Gemma 4. [`Shape::head_dim`] and
/// [`Shape::kv_heads`] are of layers with a window.
#[derive(Debug, Clone, Copy)]
pub struct Gemma4Shape {
    /// Width of a head in layers without a window.
    pub full_head_dim: u64,
    /// Heads of keys and values there.
    pub full_kv_heads: u64,
    /// Whether the values there are the keys.
    pub keys_are_values: bool,
    /// The last layers, which read the keys and values of others, and have a network twice as
    /// wide.
    pub sharing: usize,
    /// Width of what each layer reads beside the residual stream; 0: nothing.
    pub layer_input: u64,
}

/// The numbers of a layer's experts.
#[derive(Debug, Clone, Copy)]
pub struct ExpertShape {
    /// How many there are.
    pub count: u64,
    /// How many a row goes to.
    pub used: u64,
    /// Width inside each.
    pub ffn: u64,
}

/// What the shapes below do not say.
const LLAMA: Shape = Shape {
    name: "",
    arch: "llama",
    of: "",
    layers: 0,
    dim: 0,
    ffn: 0,
    heads: 0,
    kv_heads: 0,
    head_dim: 0,
    vocab: 0,
    context: 0,
    freq_base: 1e4,
    tied: false,
    says_head_dim: true,
    rope_factor: None,
    head_norms: false,
    experts: None,
    family: Family::Llama,
};

/// What the shapes of encoders do not say.
const BERT: Shape = Shape { arch: "bert", tied: true, family: Family::Bert, ..LLAMA };

/// The shapes that there are.
pub const SHAPES: [Shape; 16] = [
    Shape {
        name: "tiny",
        of: "the tests' tiny Mistral",
        layers: 2,
        dim: 256,
        ffn: 512,
        heads: 8,
        kv_heads: 2,
        head_dim: 32,
        vocab: 512,
        context: 512,
        ..LLAMA
    },
    Shape {
        name: "llama-1b",
        of: "Llama 3.2 1B",
        layers: 16,
        dim: 2048,
        ffn: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        vocab: 128_256,
        context: 131_072,
        freq_base: 5e5,
        tied: true,
        rope_factor: Some(32.0),
        ..LLAMA
    },
    Shape {
        name: "llama-8b",
        of: "Llama 3.1 8B",
        layers: 32,
        dim: 4096,
        ffn: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 128_256,
        context: 131_072,
        freq_base: 5e5,
        rope_factor: Some(8.0),
        ..LLAMA
    },
    Shape {
        name: "mistral-7b",
        of: "Mistral 7B v0.3",
        layers: 32,
        dim: 4096,
        ffn: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 32_768,
        context: 32_768,
        freq_base: 1e6,
        says_head_dim: false,
        ..LLAMA
    },
    Shape {
        name: "mistral-nemo",
        of: "Mistral Nemo 12B",
        layers: 40,
        dim: 5120,
        ffn: 14_336,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 131_072,
        context: 1_024_000,
        freq_base: 1e6,
        ..LLAMA
    },
    Shape {
        name: "qwen3-8b",
        arch: "qwen3",
        of: "Qwen3 8B",
        layers: 36,
        dim: 4096,
        ffn: 12_288,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        vocab: 151_936,
        context: 40_960,
        freq_base: 1e6,
        head_norms: true,
        ..LLAMA
    },
    Shape {
        name: "qwen3-30b-a3b",
        arch: "qwen3moe",
        of: "Qwen3 30B A3B",
        layers: 48,
        dim: 2048,
        ffn: 6144,
        heads: 32,
        kv_heads: 4,
        head_dim: 128,
        vocab: 151_936,
        context: 40_960,
        freq_base: 1e6,
        head_norms: true,
        experts: Some(ExpertShape { count: 128, used: 8, ffn: 768 }),
        ..LLAMA
    },
    Shape {
        name: "phi-4-mini",
        arch: "phi3",
        of: "Phi-4-mini",
        layers: 32,
        dim: 3072,
        ffn: 8192,
        heads: 24,
        kv_heads: 8,
        head_dim: 128,
        vocab: 200_064,
        context: 131_072,
        tied: true,
        says_head_dim: false,
        family: Family::Phi { n_rot: 96 },
        ..LLAMA
    },
    Shape {
        name: "gemma-3-4b",
        arch: "gemma3",
        of: "Gemma 3 4B",
        layers: 34,
        dim: 2560,
        ffn: 10_240,
        heads: 8,
        kv_heads: 4,
        head_dim: 256,
        vocab: 262_144,
        context: 131_072,
        freq_base: 1e6,
        tied: true,
        head_norms: true,
        family: Family::Gemma { window: 1024, period: 6 },
        ..LLAMA
    },
    Shape {
        name: "gemma-4-e2b",
        arch: "gemma4",
        of: "Gemma 4 E2B",
        layers: 35,
        dim: 1536,
        ffn: 6144,
        heads: 8,
        kv_heads: 1,
        head_dim: 256,
        vocab: 262_144,
        context: 131_072,
        freq_base: 1e6,
        tied: true,
        head_norms: true,
        family: Family::Gemma4 {
            window: 512,
            period: 5,
            more: Gemma4Shape {
                full_head_dim: 512,
                full_kv_heads: 1,
                keys_are_values: false,
                sharing: 20,
                layer_input: 256,
            },
        },
        ..LLAMA
    },
    Shape {
        name: "gemma-4-26b-a4b",
        arch: "gemma4",
        of: "Gemma 4 26B A4B",
        layers: 30,
        dim: 2816,
        ffn: 2112,
        heads: 16,
        kv_heads: 8,
        head_dim: 256,
        vocab: 262_144,
        context: 262_144,
        freq_base: 1e6,
        tied: true,
        head_norms: true,
        experts: Some(ExpertShape { count: 128, used: 8, ffn: 704 }),
        family: Family::Gemma4 {
            window: 1024,
            period: 6,
            more: Gemma4Shape {
                full_head_dim: 512,
                full_kv_heads: 2,
                keys_are_values: true,
                sharing: 0,
                layer_input: 0,
            },
        },
        ..LLAMA
    },
    Shape {
        name: "gpt-oss-20b",
        arch: "gpt-oss",
        of: "gpt-oss 20B",
        layers: 24,
        dim: 2880,
        ffn: 2880,
        heads: 64,
        kv_heads: 8,
        head_dim: 64,
        vocab: 201_088,
        context: 131_072,
        freq_base: 1.5e5,
        experts: Some(ExpertShape { count: 32, used: 4, ffn: 2880 }),
        family: Family::GptOss,
        ..LLAMA
    },
    Shape {
        name: "qwen3.5-4b",
        arch: "qwen35",
        of: "Qwen3.5 4B",
        layers: 32,
        dim: 2560,
        ffn: 9216,
        heads: 16,
        kv_heads: 4,
        head_dim: 256,
        vocab: 248_320,
        context: 262_144,
        freq_base: 1e7,
        tied: true,
        family: Family::Qwen35 { key_heads: 16, value_heads: 32, state: 128, period: 4, n_rot: 64 },
        ..LLAMA
    },
    Shape {
        name: "lfm2-1.2b",
        arch: "lfm2",
        of: "LFM2 1.2B",
        layers: 16,
        dim: 2048,
        ffn: 8192,
        heads: 32,
        kv_heads: 8,
        head_dim: 64,
        vocab: 65_536,
        context: 128_000,
        freq_base: 1e6,
        tied: true,
        says_head_dim: false,
        family: Family::Lfm2 { attention: &[2, 5, 8, 10, 12, 14], taps: 3 },
        ..LLAMA
    },
    Shape {
        name: "all-minilm",
        of: "all-MiniLM-L6-v2",
        layers: 6,
        dim: 384,
        ffn: 1536,
        heads: 12,
        kv_heads: 12,
        head_dim: 32,
        vocab: 30_522,
        context: 512,
        ..BERT
    },
    Shape {
        name: "bge-m3",
        of: "bge-m3",
        layers: 24,
        dim: 1024,
        ffn: 4096,
        heads: 16,
        kv_heads: 16,
        head_dim: 64,
        vocab: 250_002,
        context: 8192,
        ..BERT
    },
];

impl Shape {
    /// The shape called `name`.
    ///
    /// # Errors
    /// Which shapes there are.
    pub fn find(name: &str) -> Result<Shape, String> {
        SHAPES.into_iter().find(|shape| shape.name == name).ok_or_else(|| {
            format!("possible shapes: {}", SHAPES.map(|shape| shape.name).join(", "))
        })
    }

    /// Whether layer `index` has a window, where some have.
    pub(super) fn has_window(&self, index: usize) -> bool {
        match self.family {
            Family::Llama
            | Family::Phi { .. }
            | Family::Bert
            | Family::Qwen35 { .. }
            | Family::Lfm2 { .. } => false,
            Family::Gemma { period, .. } | Family::Gemma4 { period, .. } => {
                !(index + 1).is_multiple_of(period)
            }
            Family::GptOss => index.is_multiple_of(2),
        }
    }

    /// Heads of keys and values of layer `index`, and the width of a head.
    pub(super) fn heads_of(&self, index: usize) -> (u64, u64) {
        match self.family {
            Family::Gemma4 { more, .. } if !self.has_window(index) => {
                (more.full_kv_heads, more.full_head_dim)
            }
            _ => (self.kv_heads, self.head_dim),
        }
    }

    /// Whether layer `index` reads the keys and values of an earlier one.
    pub(super) fn is_sharing(&self, index: usize) -> bool {
        index >= self.layers - self.sharing()
    }

    /// How many of the last layers do. Of fewer layers than the model's as many as leave one
    /// of each kind.
    pub(super) fn sharing(&self) -> usize {
        match self.family {
            Family::Gemma4 { more, period, .. } => {
                more.sharing.min(self.layers.saturating_sub(period))
            }
            _ => 0,
        }
    }

    /// Width inside the feed-forward part of layer `index`.
    pub(super) fn ffn_of(&self, index: usize) -> u64 {
        if self.is_sharing(index) { 2 * self.ffn } else { self.ffn }
    }
}
