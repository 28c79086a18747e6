//! Files in both layouts: the names of one become those of the other.

use super::*;
use crate::gguf::{Array, Strings, TensorSpec, Writer};
use crate::quant::Format;

type Keys<'a> = [(&'a str, Value)];
type Tensors<'a> = [(&'a str, &'a [u64])];

/// A file with these keys and tensors of zeros.
fn file(keys: &Keys, tensors: &Tensors) -> Gguf {
    let mut metadata = Metadata::new();
    for (key, value) in keys {
        metadata.push(*key, value.clone()).unwrap();
    }
    let spec = |(name, dims): &(&str, &[u64])| TensorSpec {
        name: (*name).to_owned(),
        dims: dims.to_vec(),
        format: Format::F32,
    };
    let specs: Vec<TensorSpec> = tensors.iter().map(spec).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
    for spec in &specs {
        writer.write(&vec![0; spec.byte_len().unwrap()]).unwrap();
    }
    writer.finish().unwrap();
    Gguf::from_bytes(bytes).unwrap()
}

fn text(word: &str) -> Value {
    Value::String(word.into())
}

/// What the row of `from` makes of a file, whether or not anything runs it.
fn seen(file: &Gguf, from: &str) -> (Vec<(String, Value)>, Vec<String>) {
    let fits = |row: &&Translation| {
        row.from == from
            && (row.marks.is_empty() || row.marks.iter().any(|mark| mark.is_in(file, from)))
    };
    let row = TABLE.iter().find(fits).unwrap();
    let mut keys: Vec<(String, Value)> = keys(row, file)
        .unwrap()
        .iter()
        .map(|(key, value)| (key.to_owned(), value.clone()))
        .collect();
    keys.sort_by(|a, b| a.0.cmp(&b.0));
    let tensors = tensors(row, file).iter().map(|tensor| tensor.name().to_owned()).collect();
    (keys, tensors)
}

#[track_caller]
fn becomes(ollama: (&Keys, &Tensors), from: &str, keys: &[(&str, Value)], tensors: &[&str]) {
    let (found, names) = seen(&file(ollama.0, ollama.1), from);
    let mut expected: Vec<(String, Value)> =
        keys.iter().map(|(key, value)| ((*key).to_owned(), value.clone())).collect();
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found, expected);
    assert_eq!(names, tensors);
}

#[test]
fn gpt_oss() {
    let keys = [
        ("general.architecture", text("gptoss")),
        ("gptoss.block_count", Value::U32(1)),
        ("gptoss.rope.freq_base", Value::F32(150_000.0)),
        ("tokenizer.ggml.pre", text("default")),
    ];
    let tensors: [(&str, &[u64]); 5] = [
        ("blk.0.attn_out.weight", &[8, 4]),
        ("blk.0.attn_out.bias", &[4]),
        ("blk.0.attn_sinks", &[2]),
        ("blk.0.ffn_norm.weight", &[4]),
        ("blk.0.ffn_gate_exps.weight", &[4, 6, 2]),
    ];
    let expected = [
        ("general.architecture", text("gpt-oss")),
        ("gpt-oss.block_count", Value::U32(1)),
        ("gpt-oss.rope.freq_base", Value::F32(150_000.0)),
        ("gpt-oss.expert_feed_forward_length", Value::U32(6)),
        ("gpt-oss.rope.scaling.type", text("yarn")),
    ];
    let names = [
        "blk.0.attn_output.weight",
        "blk.0.attn_output.bias",
        "blk.0.attn_sinks.weight",
        "blk.0.post_attention_norm.weight",
        "blk.0.ffn_gate_exps.weight",
    ];
    becomes((&keys, &tensors), "gptoss", &expected, &names);
}

#[test]
fn gemma_4_and_embeddinggemma() {
    let keys =
        [("general.architecture", text("gemma4")), ("gemma4.audio.block_count", Value::U32(9))];
    let tensors: [(&str, &[u64]); 2] =
        [("a.x", &[1]), ("blk.0.ffn_gate_inp.per_expert_scale", &[2])];
    let expected = [("general.architecture", text("gemma4"))];
    becomes((&keys, &tensors), "gemma4", &expected, &["a.x", "blk.0.ffn_down_exps.scale"]);

    let keys = [
        ("general.architecture", text("gemma3")),
        ("gemma3.attention.causal", Value::Bool(false)),
        ("gemma3.block_count", Value::U32(1)),
    ];
    let tensors: [(&str, &[u64]); 3] =
        [("dense.0.weight", &[4, 8]), ("dense.1.weight", &[8, 4]), ("norm.weight", &[4])];
    let expected = [
        ("general.architecture", text("gemma-embedding")),
        ("gemma-embedding.block_count", Value::U32(1)),
        ("gemma-embedding.rope.freq_base_swa", Value::F32(10_000.0)),
        ("gemma-embedding.dense_2_feat_in", Value::U32(4)),
        ("gemma-embedding.dense_2_feat_out", Value::U32(8)),
        ("gemma-embedding.dense_3_feat_in", Value::U32(8)),
        ("gemma-embedding.dense_3_feat_out", Value::U32(4)),
    ];
    let names = ["dense_2.weight", "dense_3.weight", "output_norm.weight"];
    becomes((&keys, &tensors), "gemma3", &expected, &names);
}

#[test]
fn qwen_35_and_qwen3_next() {
    let tensors: [(&str, &[u64]); 2] = [("blk.0.ssm_dt", &[2]), ("mtp.fc.weight", &[2])];
    let names = ["blk.0.ssm_dt.bias", "mtp.fc.weight"];
    for arch in ["qwen35", "qwen35moe", "qwen3next"] {
        let keys = [("general.architecture", text(arch))];
        becomes((&keys, &tensors), arch, &keys, &names);
    }
    let keys = [
        ("general.architecture", text("qwen35")),
        ("qwen35.ssm.v_head_reordered", Value::Bool(true)),
        ("qwen35.vision.block_count", Value::U32(27)),
    ];
    becomes(
        (&keys, &[("v.x", &[1])]),
        "qwen35",
        &[("general.architecture", text("qwen35"))],
        &["v.x"],
    );
}

#[test]
fn lfm2_and_glm() {
    let keys =
        [("general.architecture", text("lfm2")), ("lfm2.feed_forward_length", Value::U32(12))];
    let tensors: [(&str, &[u64]); 2] =
        [("output_norm.weight", &[4]), ("blk.0.ffn_gate.weight", &[4, 8])];
    let expected =
        [("general.architecture", text("lfm2")), ("lfm2.feed_forward_length", Value::U32(8))];
    becomes(
        (&keys, &tensors),
        "lfm2",
        &expected,
        &["token_embd_norm.weight", "blk.0.ffn_gate.weight"],
    );

    let keys = [
        ("general.architecture", text("glm4moelite")),
        ("glm4moelite.attention.head_count_kv", Value::U32(20)),
        ("glm4moelite.attention.key_length", Value::U32(256)),
        ("glm4moelite.attention.key_length_mla", Value::U32(576)),
        ("glm4moelite.attention.kv_lora_rank", Value::U32(512)),
        ("glm4moelite.rope.dimension_count", Value::U32(64)),
    ];
    let expected = [
        ("general.architecture", text("deepseek2")),
        ("deepseek2.attention.head_count_kv", Value::U32(1)),
        ("deepseek2.attention.key_length", Value::U32(576)),
        ("deepseek2.attention.value_length", Value::U32(512)),
        ("deepseek2.attention.key_length_mla", Value::U32(256)),
        ("deepseek2.attention.value_length_mla", Value::U32(256)),
        ("deepseek2.attention.kv_lora_rank", Value::U32(512)),
        ("deepseek2.rope.dimension_count", Value::U32(64)),
        ("deepseek2.expert_group_count", Value::U32(1)),
        ("deepseek2.expert_group_used_count", Value::U32(1)),
    ];
    becomes((&keys, &[]), "glm4moelite", &expected, &[]);
}

/// A file that nothing here wrote stays as it is, and so does one that nothing here runs.
#[test]
fn others_stay() {
    for (arch, marked) in [("lfm2", "token_embd_norm.weight"), ("gemma3", "output_norm.weight")] {
        let epsilon = format!("{arch}.attention.layer_norm_rms_epsilon");
        let keys = [("general.architecture", text(arch)), (&*epsilon, Value::F32(1e-6))];
        assert!(translation(&file(&keys, &[(marked, &[4])])).is_none(), "{arch}");
    }
    let unknown = file(&[("general.architecture", text("qwen25vl"))], &[]);
    let error = read(&unknown).unwrap_err().to_string();
    assert!(error.contains("architecture \"qwen25vl\" is not supported"), "{error}");
    assert!(error.contains("llama, "), "{error}");
}

/// Errors name what the file has, not what it stands for.
#[test]
fn errors_have_the_names_of_the_file() {
    let row = |from| TABLE.iter().find(|row: &&Translation| row.from == from).unwrap();
    let view = |from| View {
        row: row(from),
        file: file(&[], &[]),
        named: vec![true; row(from).tensors.len()],
    };
    let place = |from, at| view(from).place(at).to_string();
    let key = |name: &str| Place::Key(name.to_owned());
    let tensor = |name: &str| Place::Tensor(name.to_owned());
    assert_eq!(place("olmo3", key("olmo2.block_count")), r#"key "olmo3.block_count""#);
    assert_eq!(
        place("mistral3", key("mistral3.rope.scaling.yarn_beta_fast")),
        r#"key "mistral3.rope.scaling.beta_fast""#
    );
    assert_eq!(place("olmo3", key("general.architecture")), r#"key "general.architecture""#);
    assert_eq!(
        place("gptoss", tensor("blk.3.attn_output.bias")),
        r#"tensor "blk.3.attn_out.bias""#
    );
    assert_eq!(place("gptoss", tensor("blk.3.attn_sinks.weight")), r#"tensor "blk.3.attn_sinks""#);
    assert_eq!(place("gptoss", tensor("output.weight")), r#"tensor "output.weight""#);
    let missing = file(&[("general.architecture", text("olmo3"))], &[]);
    let error = read(&missing).unwrap_err().to_string();
    assert!(error.contains("olmo3.context_length"), "{error}");
}

#[test]
fn vocabularies() {
    let tokens = |count: usize| -> Strings { vec!["a"; count].into_iter().collect() };
    // Gemma 3: more tokens than rows.
    let keys = [
        ("general.architecture", text("gemma3")),
        ("gemma3.mm.tokens_per_image", Value::U32(256)),
        ("tokenizer.ggml.tokens", Value::Array(Array::String(tokens(6)))),
        ("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; 6]))),
        ("tokenizer.ggml.token_type", Value::Array(Array::I32(vec![1; 6]))),
    ];
    let gemma = file(&keys, &[("token_embd.weight", &[2, 4])]);
    let seen = vocabulary(&gemma).unwrap();
    assert_eq!(seen.strings("tokenizer.ggml.tokens").unwrap().len(), 4);
    assert_eq!(seen.opt_f32s("tokenizer.ggml.scores").unwrap().unwrap().len(), 4);
    assert_eq!(seen.opt_i32s("tokenizer.ggml.token_type").unwrap().unwrap().len(), 4);

    // Llama 3: 128,010 tokens, of which two matter.
    let all = (0..128_010).map(|id| if id == 128_009 { "<|eot_id|>" } else { "" });
    let all = Value::Array(Array::String(all.collect()));
    let keys = |arch, pre: &[(&'static str, Value)]| {
        let mut keys = vec![
            ("general.architecture", text(arch)),
            ("tokenizer.ggml.tokens", all.clone()),
            ("tokenizer.ggml.eos_token_id", Value::U32(128_001)),
        ];
        keys.extend(pre.iter().cloned());
        file(&keys, &[])
    };
    for (pre, expected) in [(None, "llama-bpe"), (Some("default"), "llama-bpe"), (Some("x"), "x")] {
        let pre: Vec<_> = pre.map(|pre| ("tokenizer.ggml.pre", text(pre))).into_iter().collect();
        let llama = keys("llama", &pre);
        let seen = vocabulary(&llama).unwrap();
        assert_eq!(seen.str("tokenizer.ggml.pre").unwrap(), expected);
        assert_eq!(seen.u32("tokenizer.ggml.eos_token_id").unwrap(), 128_009);
    }
    let other = keys("qwen3", &[]);
    assert_eq!(*vocabulary(&other).unwrap(), *other.metadata());

    let letters: Strings = ["S", "G", "k", "="].into_iter().collect();
    assert_eq!(vocabulary::base64(&letters).unwrap(), b"Hi");
}
