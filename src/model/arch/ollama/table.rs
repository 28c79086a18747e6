//! What files of Ollama's converter have otherwise, a row per architecture.
//!
//! The facts are those of `llama/compat/llama-ollama-compat.cpp` in
//! github.com/ollama/ollama. What is not here Ollama writes as llama.cpp does, among others
//! `qwen2` and `qwen3`. Tensors of other modalities (`v.`, `mm.`, `a.`, `mtp.`) are left out
//! of every file, whoever wrote it.

/// One architecture.
pub(super) struct Translation {
    /// Ollama's name.
    pub from: &'static str,
    /// llama.cpp's.
    pub to: &'static str,
    /// One of these shows who wrote a file; where there is none, the name does.
    pub marks: &'static [Mark],
    /// Keys by other names, without the architecture's.
    pub keys: &'static [(&'static str, &'static str)],
    /// Beginnings of the names of keys that say nothing about a text.
    pub unread: &'static [&'static str],
    /// Keys that the file has otherwise or not at all.
    pub given: &'static [(&'static str, When, Given)],
    /// Tensors by other names: a whole name, its end, or a part between dots.
    pub tensors: &'static [(&'static str, &'static str)],
    /// What is to be done to the vocabulary.
    pub vocabulary: &'static [Rule],
}

/// What shows that Ollama's converter wrote a file.
#[derive(Clone, Copy)]
pub(super) enum Mark {
    /// A key of the architecture, which is there, or is not.
    Key(&'static str),
    NoKey(&'static str),
    /// Any key, with its whole name.
    Global(&'static str),
    /// The kind of the vocabulary.
    Vocabulary(&'static str),
    /// A tensor, tensors that begin so, and those that end so.
    Tensor(&'static str),
    Tensors(&'static str),
    TensorEnd(&'static str),
    /// A token.
    Token(u32, &'static str),
}

/// When a key is given.
#[derive(Clone, Copy)]
pub(super) enum When {
    Always,
    Missing,
    /// Where it is missing from a model with a context of at least this length.
    MissingFrom(u32),
}

/// The value of a key.
#[derive(Clone, Copy)]
pub(super) enum Given {
    Number(f32),
    Count(u32),
    Word(&'static str),
    /// That of another key, or the sum of two.
    Same(&'static str),
    Sum(&'static str, &'static str),
    /// A dimension of a tensor.
    Dim(&'static str, usize),
}

/// A change of the vocabulary's keys.
#[derive(Clone, Copy)]
pub(super) enum Rule {
    /// The name of the way to cut texts: this in any case, or where none but "default" is
    /// named.
    Pre(&'static str),
    PreUnlessNamed(&'static str),
    /// The kind of the vocabulary is the second, not the first.
    Model(&'static str, &'static str),
    /// No more tokens than the embedding has rows.
    AsManyAsRows,
    /// The token of the end is the second, not the first.
    Eos(u32, u32),
    /// The normalizer's table stands as base64, one text per letter: it becomes bytes.
    CharsmapOfTexts,
}

const NONE: Translation = Translation {
    from: "",
    to: "",
    marks: &[],
    keys: &[],
    unread: &[],
    given: &[],
    tensors: &[],
    vocabulary: &[],
};

/// Marks, keys and tensors of Qwen 3.5, with experts and without. The heads of keys and
/// values are an array in these files, with 0 for layers without; that is read as it is.
const QWEN35: Translation = Translation {
    marks: &[
        Mark::Key("vision.block_count"),
        Mark::Key("image_token_id"),
        Mark::Key("ssm.v_head_reordered"),
        Mark::Key("rope.mrope_interleaved"),
        Mark::Tensors("mtp."),
        Mark::Tensors("v."),
        Mark::TensorEnd(".ssm_dt"),
    ],
    unread: &[
        "vision",
        "image_token_id",
        "video_token_id",
        "mrope_sections",
        "rope.mrope_section",
        "norm_top_k_prob",
        "ssm.v_head_reordered",
        "rope.mrope_interleaved",
        "mtp",
    ],
    tensors: &[(".ssm_dt", ".ssm_dt.bias")],
    ..NONE
};

/// Every row; the first that fits counts.
pub(super) const TABLE: &[Translation] = &[
    Translation {
        from: "bert",
        to: "bert",
        marks: &[Mark::Vocabulary("t5")],
        vocabulary: &[Rule::CharsmapOfTexts],
        ..NONE
    },
    // EmbeddingGemma.
    Translation {
        from: "gemma3",
        to: "gemma-embedding",
        marks: &[Mark::Tensor("dense.0.weight")],
        unread: &["attention.causal", "attention.sliding_window_pattern", "mm."],
        keys: &[
            ("rope.global.freq_base", "rope.freq_base"),
            ("rope.local.freq_base", "rope.freq_base_swa"),
        ],
        given: &[
            ("rope.freq_base_swa", When::Missing, Given::Number(10_000.0)),
            ("dense_2_feat_in", When::Always, Given::Dim("dense.0.weight", 0)),
            ("dense_2_feat_out", When::Always, Given::Dim("dense.0.weight", 1)),
            ("dense_3_feat_in", When::Always, Given::Dim("dense.1.weight", 0)),
            ("dense_3_feat_out", When::Always, Given::Dim("dense.1.weight", 1)),
        ],
        tensors: &[
            ("dense.0.weight", "dense_2.weight"),
            ("dense.1.weight", "dense_3.weight"),
            ("norm.weight", "output_norm.weight"),
        ],
        ..NONE
    },
    // The weights of norms have 1 added already.
    Translation {
        from: "gemma3",
        to: "gemma3",
        marks: &[
            Mark::Key("mm.tokens_per_image"),
            Mark::Tensors("v."),
            Mark::Tensors("mm."),
            Mark::Key("rope.global.freq_base"),
            Mark::Key("rope.local.freq_base"),
            Mark::Global("tokenizer.ggml.add_padding_token"),
            Mark::Global("tokenizer.ggml.add_unknown_token"),
            Mark::NoKey("attention.layer_norm_rms_epsilon"),
        ],
        keys: &[
            ("rope.global.freq_base", "rope.freq_base"),
            ("rope.local.freq_base", "rope.freq_base_swa"),
            ("rope.scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
            ("rope.scaling.beta_slow", "rope.scaling.yarn_beta_slow"),
            ("rope.scaling.extrapolation_factor", "rope.scaling.yarn_ext_factor"),
        ],
        given: &[
            ("attention.layer_norm_rms_epsilon", When::Missing, Given::Number(1e-6)),
            ("rope.freq_base", When::Missing, Given::Number(1e6)),
            ("rope.freq_base_swa", When::Missing, Given::Number(1e4)),
            ("rope.scaling.type", When::MissingFrom(131_072), Given::Word("linear")),
            ("rope.scaling.factor", When::MissingFrom(131_072), Given::Number(8.0)),
        ],
        vocabulary: &[Rule::AsManyAsRows],
        ..NONE
    },
    Translation {
        from: "gemma4",
        to: "gemma4",
        marks: &[
            Mark::Tensors("a."),
            Mark::Tensors("v."),
            Mark::Tensors("mm."),
            Mark::Tensors("model.vision_tower."),
            Mark::Vocabulary("llama"),
        ],
        unread: &["vision", "audio", "mm."],
        tensors: &[(".ffn_gate_inp.per_expert_scale", ".ffn_down_exps.scale")],
        vocabulary: &[Rule::Model("llama", "gemma4")],
        ..NONE
    },
    // Multi-head latent attention with the sizes of one head, not of what is cached.
    Translation {
        from: "glm4moelite",
        to: "deepseek2",
        given: &[
            ("attention.head_count_kv", When::Always, Given::Count(1)),
            (
                "attention.key_length",
                When::Always,
                Given::Sum("attention.kv_lora_rank", "rope.dimension_count"),
            ),
            ("attention.value_length", When::Always, Given::Same("attention.kv_lora_rank")),
            ("attention.key_length_mla", When::Always, Given::Same("attention.key_length")),
            ("attention.value_length_mla", When::Always, Given::Same("attention.key_length")),
            ("expert_group_count", When::Missing, Given::Count(1)),
            ("expert_group_used_count", When::Missing, Given::Count(1)),
        ],
        vocabulary: &[Rule::Pre("glm4")],
        ..NONE
    },
    Translation {
        from: "gptoss",
        to: "gpt-oss",
        given: &[
            (
                "expert_feed_forward_length",
                When::Missing,
                Given::Dim("blk.0.ffn_gate_exps.weight", 1),
            ),
            ("rope.scaling.type", When::Missing, Given::Word("yarn")),
        ],
        tensors: &[
            (".attn_out.", ".attn_output."),
            (".attn_sinks", ".attn_sinks.weight"),
            (".ffn_norm.", ".post_attention_norm."),
        ],
        vocabulary: &[Rule::Pre("gpt-4o")],
        ..NONE
    },
    // The file may say another width of the feed-forward network than it has.
    Translation {
        from: "lfm2",
        to: "lfm2",
        marks: &[Mark::Tensor("output_norm.weight")],
        given: &[("feed_forward_length", When::Always, Given::Dim("blk.0.ffn_gate.weight", 1))],
        tensors: &[("output_norm.weight", "token_embd_norm.weight")],
        vocabulary: &[Rule::Pre("lfm2")],
        ..NONE
    },
    // Llama 3 of the first weeks: the way to cut texts was not named, and the end that is
    // named is that of a text, not that of a turn.
    Translation {
        from: "llama",
        to: "llama",
        marks: &[Mark::Token(128_009, "<|eot_id|>")],
        vocabulary: &[Rule::PreUnlessNamed("llama-bpe"), Rule::Eos(128_001, 128_009)],
        ..NONE
    },
    Translation {
        from: "mistral3",
        to: "mistral3",
        marks: &[
            Mark::Tensors("v."),
            Mark::Tensors("mm."),
            Mark::Key("rope.scaling.beta_fast"),
            Mark::Key("rope.scaling.mscale_all_dim"),
            Mark::Key("rope.scaling_beta"),
        ],
        keys: &[
            ("rope.scaling.beta_fast", "rope.scaling.yarn_beta_fast"),
            ("rope.scaling.beta_slow", "rope.scaling.yarn_beta_slow"),
            ("rope.scaling.mscale_all_dim", "rope.scaling.yarn_log_multiplier"),
            ("rope.scaling_beta", "attention.temperature_scale"),
        ],
        unread: &["rope.scaling.mscale", "image_token_index", "spatial_merge_size"],
        vocabulary: &[Rule::PreUnlessNamed("tekken")],
        ..NONE
    },
    Translation { from: "olmo3", to: "olmo2", ..NONE },
    Translation {
        from: "qwen25vl",
        to: "qwen2vl",
        keys: &[("rope.mrope_section", "rope.dimension_sections")],
        unread: &["vision"],
        ..NONE
    },
    // The weights of the chosen experts are normalized in any case.
    Translation {
        from: "qwen3moe",
        to: "qwen3moe",
        marks: &[Mark::Key("norm_top_k_prob")],
        unread: &["norm_top_k_prob"],
        ..NONE
    },
    Translation { from: "qwen35", to: "qwen35", ..QWEN35 },
    Translation { from: "qwen35moe", to: "qwen35moe", ..QWEN35 },
    Translation {
        from: "qwen3next",
        to: "qwen3next",
        marks: &[Mark::TensorEnd(".ssm_dt")],
        tensors: &[(".ssm_dt", ".ssm_dt.bias")],
        ..NONE
    },
];
