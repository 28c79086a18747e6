//! Hostile files of single architectures: keys that must be there, and values that do not go
//! together, are refused by name. What holds for all is in `hostile_architectures.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, data};
use tramontane::gguf::{Array, Metadata, TensorSpec, Value, Writer};
use tramontane::{Gguf, Model};

/// What may be done to the files of one folder of `tests/data/arch`.
struct Family {
    folder: &'static str,
    arch: &'static str,
    /// Keys that the files must have, beside those of every decoder.
    required: &'static [&'static str],
    /// Tensors that files of the architecture may lack, by the ends of their names.
    optional: &'static [&'static str],
}

/// Keys that the files of every decoder must have.
const REQUIRED: [&str; 4] =
    ["context_length", "block_count", "embedding_length", "attention.head_count"];

impl Family {
    fn file(&self) -> Gguf {
        Gguf::open(data(&format!("arch/{}/mini-f32.gguf", self.folder))).unwrap()
    }

    /// Opens the file after `change` was made to its keys and tensors.
    fn open(
        &self,
        change: impl FnOnce(&mut Metadata, &mut Vec<(TensorSpec, Vec<u8>)>),
    ) -> tramontane::Result<Model> {
        let file = self.file();
        let mut metadata = file.metadata().clone();
        let mut tensors: Vec<_> = file
            .tensors()
            .iter()
            .map(|tensor| (TensorSpec::from(tensor), tensor.bytes().to_vec()))
            .collect();
        change(&mut metadata, &mut tensors);
        let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
        tensors.iter().for_each(|(_, bytes)| writer.write(bytes).unwrap());
        writer.finish().unwrap();
        Model::from_gguf(Gguf::from_bytes(bytes)?, &Way::whole().options())
    }

    /// The sentence with which the file is refused.
    fn sentence(
        &self,
        change: impl FnOnce(&mut Metadata, &mut Vec<(TensorSpec, Vec<u8>)>),
        what: &str,
    ) -> String {
        match self.open(change) {
            Ok(_) => panic!("{}: {what} is accepted", self.folder),
            Err(error) => {
                let sentence = error.to_string();
                assert!(!sentence.contains('\n'), "{sentence}");
                sentence
            }
        }
    }

    /// That the key with this value is refused by name.
    fn refuse(&self, name: &str, value: Value) {
        let key = format!("{}.{name}", self.arch);
        let what = format!("{key} = {value}");
        let sentence = self.sentence(|metadata, _| metadata.set(&*key, value).unwrap(), &what);
        assert!(sentence.contains(&key), "{what}: {sentence}");
    }

    fn keys_and_tensors_that_are_missing_or_wrong_are_named(&self) {
        let file = self.file();
        for name in REQUIRED.iter().chain(self.required) {
            let key = format!("{}.{name}", self.arch);
            let sentence = self.sentence(|metadata, _| _ = metadata.remove(&key), &key);
            assert!(sentence.contains(&key), "without {key}: {sentence}");
        }
        let front = format!("{}.", self.arch);
        for (key, _) in file.metadata().iter().filter(|(key, _)| key.starts_with(&front)) {
            if key.ends_with("vocab_size") {
                continue; // the embedding says it
            }
            self.refuse(&key[front.len()..], Value::Array(Array::U8(vec![1, 2, 3, 4, 5, 6, 7])));
        }
        for (at, tensor) in file.tensors().iter().enumerate() {
            let name = tensor.name();
            // Files without those are other models.
            let optional = ["output.weight", "rope_freqs.weight"];
            if !optional.iter().chain(self.optional).any(|end| name == *end || name.ends_with(end))
            {
                let sentence = self.sentence(|_, tensors| _ = tensors.remove(at), name);
                assert!(sentence.contains(name), "without {name}: {sentence}");
            }
            // One row (or value) less. Of the embedding that is another vocabulary.
            let cut = |_: &mut Metadata, tensors: &mut Vec<(TensorSpec, Vec<u8>)>| {
                let (spec, bytes) = &mut tensors[at];
                let last = spec.dims.last_mut().unwrap();
                bytes.truncate(bytes.len() / *last as usize * (*last as usize - 1));
                *last -= 1;
            };
            if tensor.dims() != [1] && name != "token_embd.weight" {
                let sentence = self.sentence(cut, &format!("a row less of {name}"));
                assert!(sentence.contains(name), "a row less of {name}: {sentence}");
            }
        }
    }
}

const GPT_OSS: Family = Family {
    folder: "gpt-oss",
    arch: "gpt-oss",
    required: &[
        "attention.layer_norm_rms_epsilon",
        "expert_count",
        "expert_used_count",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
    ],
    optional: &[],
};

#[test]
fn gpt_oss() {
    GPT_OSS.keys_and_tensors_that_are_missing_or_wrong_are_named();
    for (name, value) in [
        ("expert_count", Value::U32(1 << 31)),
        ("expert_count", Value::U32(0)),
        ("expert_used_count", Value::U32(5)),
        ("expert_used_count", Value::Array(Array::I32(vec![2, 0]))),
        ("expert_used_count", Value::Array(Array::I32(vec![2, 2, 2]))),
        ("expert_feed_forward_length", Value::Array(Array::U32(vec![64, u32::MAX]))),
        ("expert_gating_func", Value::U32(4)),
        ("attention.head_count", Value::U32(3)),
        ("attention.key_length", Value::U32(u32::MAX)),
        ("attention.value_length", Value::U32(16)),
        ("rope.dimension_count", Value::U32(31)),
        ("rope.scaling.factor", Value::F32(f32::NAN)),
        ("rope.scaling.original_context_length", Value::U32(0)),
        ("attention.sliding_window_pattern", Value::Array(Array::Bool(vec![true; 3]))),
    ] {
        GPT_OSS.refuse(name, value);
    }
}

const GEMMA4: Family = Family {
    folder: "gemma4",
    arch: "gemma4",
    required: &[
        "attention.layer_norm_rms_epsilon",
        "attention.sliding_window",
        "feed_forward_length",
    ],
    optional: &["blk.1.attn_v.weight", "layer_output_scale.weight"],
};

#[test]
fn gemma4() {
    GEMMA4.keys_and_tensors_that_are_missing_or_wrong_are_named();
    let integers = |values: &[u32]| Value::Array(Array::U32(values.to_vec()));
    for (name, value) in [
        ("attention.shared_kv_layers", Value::U32(4)),
        ("attention.shared_kv_layers", Value::U32(u32::MAX)),
        // One kind of layer would have none to read.
        ("attention.shared_kv_layers", Value::U32(3)),
        ("attention.sliding_window", Value::U32(0)),
        ("attention.sliding_window_pattern", Value::Array(Array::Bool(vec![true; 3]))),
        ("attention.head_count_kv", integers(&[1, 1, 1])),
        ("attention.head_count_kv", integers(&[1, 1, 3, 1])),
        ("attention.head_count_kv", integers(&[1, 0, 1, 1])),
        ("attention.head_count_kv", Value::Array(Array::I32(vec![1, 1, 1, -1]))),
        ("attention.key_length", Value::U32(0)),
        ("attention.value_length", Value::U32(16)),
        ("attention.value_length_swa", Value::U32(32)),
        ("attention.key_length_swa", Value::U32(1 << 31)),
        ("feed_forward_length", integers(&[48, 48, 96])),
        ("feed_forward_length", integers(&[48, 48, 96, u32::MAX])),
        ("feed_forward_length", integers(&[48, 0, 96, 96])),
        ("rope.dimension_count_swa", Value::U32(15)),
        ("rope.dimension_count_swa", Value::U32(32)),
        ("rope.freq_base_swa", Value::F32(0.0)),
        ("embedding_length_per_layer_input", Value::U32(1 << 20)),
        ("final_logit_softcapping", Value::F32(f32::INFINITY)),
    ] {
        GEMMA4.refuse(name, value);
    }
    // Another number than the tensors have.
    for (name, value, tensor) in [
        ("embedding_length_per_layer_input", 8, "blk.0.inp_gate.weight"),
        ("embedding_length_per_layer_input", 0, "blk.0.inp_gate.weight"),
        ("attention.shared_kv_layers", 1, "blk.2.attn_k_norm.weight"),
    ] {
        let key = format!("gemma4.{name}");
        let change =
            |metadata: &mut Metadata, _: &mut _| metadata.set(&*key, Value::U32(value)).unwrap();
        let sentence = GEMMA4.sentence(change, &key);
        assert!(sentence.contains(tensor), "{key} = {value}: {sentence}");
    }
}

const GEMMA4_MOE: Family = Family {
    folder: "gemma4-moe",
    arch: "gemma4",
    required: &["expert_used_count", "feed_forward_length"],
    // Gate and up may be two tensors.
    optional: &["layer_output_scale.weight", "ffn_gate_up_exps.weight"],
};

#[test]
fn gemma4_with_experts() {
    GEMMA4_MOE.keys_and_tensors_that_are_missing_or_wrong_are_named();
    for (name, value) in [
        ("expert_count", Value::U32(1 << 31)),
        ("expert_used_count", Value::U32(5)),
        ("expert_feed_forward_length", Value::U32(0)),
        ("leading_dense_block_count", Value::U32(1)),
        ("attention.head_count_kv", Value::Array(Array::U32(vec![2, 8]))),
        ("attention.shared_kv_layers", Value::U32(1)),
    ] {
        GEMMA4_MOE.refuse(name, value);
    }
    let without_gates = |_: &mut Metadata, tensors: &mut Vec<(TensorSpec, Vec<u8>)>| {
        tensors.retain(|(spec, _)| spec.name != "blk.1.ffn_gate_up_exps.weight");
    };
    let sentence = GEMMA4_MOE.sentence(without_gates, "a layer without gates");
    assert!(sentence.contains("blk.1.ffn_gate_exps.weight"), "{sentence}");
}

const DEEPSEEK2: Family = Family {
    folder: "deepseek2",
    arch: "deepseek2",
    required: &[
        "attention.layer_norm_rms_epsilon",
        "attention.kv_lora_rank",
        "attention.key_length_mla",
        "attention.value_length_mla",
        "rope.dimension_count",
        "feed_forward_length",
        "expert_used_count",
    ],
    optional: &["exp_probs_b.bias"],
};

#[test]
fn deepseek2() {
    DEEPSEEK2.keys_and_tensors_that_are_missing_or_wrong_are_named();
    for (name, value) in [
        ("attention.kv_lora_rank", Value::U32(0)),
        ("attention.kv_lora_rank", Value::U32(u32::MAX)),
        ("attention.q_lora_rank", Value::U32(u32::MAX)),
        ("attention.key_length_mla", Value::U32(u32::MAX)),
        ("attention.value_length_mla", Value::U32(0)),
        ("attention.key_length", Value::U32(47)),
        ("attention.value_length", Value::U32(48)),
        ("attention.head_count_kv", Value::U32(4)),
        ("rope.dimension_count", Value::U32(15)),
        ("rope.dimension_count", Value::U32(32)),
        ("leading_dense_block_count", Value::U32(3)),
        ("leading_dense_block_count", Value::U32(u32::MAX)),
        ("expert_count", Value::U32(1 << 31)),
        ("expert_used_count", Value::U32(5)),
        ("expert_group_count", Value::U32(2)),
        ("expert_gating_func", Value::U32(4)),
        ("expert_shared_count", Value::U32(u32::MAX)),
        ("expert_weights_scale", Value::F32(f32::NAN)),
        ("nextn_predict_layers", Value::U32(1)),
    ] {
        DEEPSEEK2.refuse(name, value);
    }
    // Another number than the tensors have.
    for (name, value, tensor) in [
        ("expert_shared_count", 4096, "blk.1.ffn_gate_shexp.weight"),
        ("attention.q_lora_rank", 0, "blk.0.attn_q.weight"),
        ("leading_dense_block_count", 2, "blk.1.ffn_gate.weight"),
        ("leading_dense_block_count", 0, "blk.0.ffn_gate_exps.weight"),
    ] {
        let key = format!("deepseek2.{name}");
        let change =
            |metadata: &mut Metadata, _: &mut _| metadata.set(&*key, Value::U32(value)).unwrap();
        let sentence = DEEPSEEK2.sentence(change, &key);
        assert!(sentence.contains(tensor), "{key} = {value}: {sentence}");
    }
    // The scores would be divided by infinity, or by a negative number.
    for log in [f32::NAN, f32::MAX] {
        let sentence = DEEPSEEK2.sentence(
            |metadata, _| {
                let key = |name: &str| format!("deepseek2.rope.scaling.{name}");
                metadata.set(key("type"), Value::String("yarn".into())).unwrap();
                metadata.set(key("factor"), Value::F32(40.0)).unwrap();
                metadata.set(key("original_context_length"), Value::U32(64)).unwrap();
                metadata.set(key("yarn_log_multiplier"), Value::F32(log)).unwrap();
            },
            "a multiplier",
        );
        assert!(sentence.contains("yarn_log_multiplier"), "{sentence}");
    }
    let old = |_: &mut Metadata, tensors: &mut Vec<(TensorSpec, Vec<u8>)>| {
        for (spec, _) in tensors {
            spec.name = spec.name.replace("attn_k_b", "attn_kv_b");
        }
    };
    let sentence = DEEPSEEK2.sentence(old, "an old file");
    assert!(sentence.contains("attn_kv_b") && sentence.contains("converted"), "{sentence}");
}
