//! Files of every architecture with something missing, of another kind, or absurd: one
//! sentence that names it, or a model that runs; never a panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, data};
use tramontane::gguf::{Array, Metadata, TensorSpec, Value, Writer};
use tramontane::{Format, Gguf, Model, Result, SessionOptions};

const FOLDERS: [&str; 23] = [
    "cohere2",
    "deepseek2",
    "exaone4",
    "gemma2",
    "gemma3",
    "gemma4",
    "gemma4-moe",
    "gpt-oss",
    "granite",
    "granitehybrid",
    "granitemoe",
    "hunyuan-dense",
    "lfm2moe",
    "mixtral",
    "nemotron-h",
    "olmo2",
    "qwen2moe",
    "qwen3",
    "qwen35",
    "qwen3moe",
    "qwen3next",
    "smollm3",
    "starcoder2",
];

/// A copy of a file in parts, to be changed.
#[derive(Clone)]
struct Parts {
    metadata: Metadata,
    tensors: Vec<(TensorSpec, Vec<u8>)>,
}

impl Parts {
    fn of(folder: &str) -> Parts {
        let file = Gguf::open(data(&format!("arch/{folder}/mini-f32.gguf"))).unwrap();
        let tensors = file.tensors().iter();
        let tensors = tensors.map(|tensor| (TensorSpec::from(tensor), tensor.bytes().to_vec()));
        Parts { metadata: file.metadata().clone(), tensors: tensors.collect() }
    }

    fn open(&self) -> Result<Model> {
        let specs: Vec<TensorSpec> = self.tensors.iter().map(|(spec, _)| spec.clone()).collect();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, &self.metadata, &specs).unwrap();
        self.tensors.iter().for_each(|(_, content)| writer.write(content).unwrap());
        writer.finish().unwrap();
        Model::from_gguf(Gguf::from_bytes(bytes)?, &Way::whole().options())
    }

    /// The keys of the architecture.
    fn keys(&self) -> Vec<String> {
        let arch = self.metadata.str("general.architecture").unwrap();
        let keys = self.metadata.iter().map(|(key, _)| key);
        keys.filter(|key| key.starts_with(&format!("{arch}."))).map(str::to_owned).collect()
    }
}

/// What a model that was opened all the same makes of three tokens: numbers or an error.
fn run(model: &Model) {
    let options = SessionOptions::default().with_num_ctx(16);
    if let Ok(mut session) = model.session(&options) {
        _ = session.feed(&[1, 5, 9]);
    }
}

/// Tensors that a file may lack: biases, a norm of heads, an output matrix of its own, factors
/// of frequencies and of layers, values that are the keys.
fn is_optional(name: &str) -> bool {
    let optional = ["output.weight", "rope_freqs.weight", "layer_output_scale.weight"];
    name.ends_with(".bias") && !name.ends_with("ssm_dt.bias")
        || optional.iter().any(|end| name.ends_with(end))
        || name == "blk.1.attn_v.weight"
}

#[test]
fn a_missing_tensor_is_named() {
    for folder in FOLDERS {
        let parts = Parts::of(folder);
        for (index, (spec, _)) in parts.tensors.iter().enumerate() {
            let mut without = parts.clone();
            without.tensors.remove(index);
            match without.open() {
                Ok(_) => assert!(is_optional(&spec.name), "{folder} opens without {}", spec.name),
                Err(error) => {
                    let text = error.to_string();
                    // Where one stands for two, the other name may be the usual one.
                    let named = spec.name.replace("ssm_ba", "ssm_alpha").replace("gate_up", "gate");
                    let usual = text.contains(&spec.name) || text.contains(&named);
                    let last_norm =
                        spec.name == "token_embd_norm.weight" && text.contains("output_norm");
                    assert!(usual || last_norm, "{folder} without {}: {text}", spec.name);
                    assert!(text.lines().count() == 1, "{text}");
                }
            }
        }
    }
}

#[test]
fn a_tensor_of_another_shape_or_type_is_named() {
    for folder in FOLDERS {
        let parts = Parts::of(folder);
        for (index, (spec, _)) in parts.tensors.iter().enumerate() {
            let mut dims = vec![spec.dims.clone(); 3];
            dims[0][0] /= 2;
            dims[1].insert(0, 1);
            *dims[2].last_mut().unwrap() += 1;
            for dims in dims.into_iter().filter(|dims| *dims != spec.dims && !dims.contains(&0)) {
                let mut other = parts.clone();
                let floats = dims.iter().product::<u64>() as usize;
                other.tensors[index].0.dims = dims.clone();
                other.tensors[index].1 = vec![0; 4 * floats];
                match other.open() {
                    // Rows of a table, and of the matrix that stands for it, may be more.
                    Ok(model) => run(&model),
                    Err(error) => {
                        let text = error.to_string();
                        let table = spec.name == "token_embd.weight";
                        let known = text.contains(&spec.name) || table && text.contains("tokens");
                        let tied = table && text.contains("output.weight");
                        // LFM2 takes the width from this tensor.
                        let width = spec.name == "blk.0.ffn_gate.weight" && text.contains("ffn_");
                        assert!(
                            known || tied || width,
                            "{folder} {} as {dims:?}: {text}",
                            spec.name
                        );
                    }
                }
            }
            let mut other = parts.clone();
            other.tensors[index].0.format = Format::Q8_0;
            let floats = spec.dims.iter().product::<u64>() as usize;
            if let Some(bytes) = Format::Q8_0.row_bytes(spec.dims[0] as usize) {
                other.tensors[index].1 = vec![0; bytes * floats / spec.dims[0] as usize];
                match other.open() {
                    Ok(model) => run(&model),
                    Err(error) => {
                        let text = error.to_string();
                        assert!(text.contains(&spec.name), "{folder} {}: {text}", spec.name);
                    }
                }
            }
        }
    }
}

#[test]
fn absurd_keys_are_named_or_change_nothing_bad() {
    let absurd = [
        Value::U32(0),
        Value::U32(3),
        Value::U32(1 << 31),
        Value::U32(u32::MAX),
        Value::I32(-1),
        Value::U64(u64::MAX),
        Value::F32(f32::NAN),
        Value::F32(-1.5),
        Value::Bool(true),
        Value::String("absurd".into()),
        Value::Array(Array::U32(vec![1; 7])),
        Value::Array(Array::I32(vec![-1; 4])),
        Value::Array(Array::Bool(vec![])),
    ];
    let (mut refused, mut opened) = (0, 0);
    for folder in FOLDERS {
        let parts = Parts::of(folder);
        for key in parts.keys() {
            for value in absurd.iter().map(Some).chain([None]) {
                let mut other = parts.clone();
                match value {
                    Some(value) => other.metadata.set(key.as_str(), value.clone()).unwrap(),
                    None => _ = other.metadata.remove(&key),
                }
                match other.open() {
                    Ok(model) => {
                        run(&model);
                        opened += 1;
                    }
                    Err(error) => {
                        let text = error.to_string();
                        let name = key.split_once('.').unwrap().1;
                        // A size that is possible in itself does not fit a tensor or a key.
                        let known = text.contains(name)
                            || text.contains("tensor \"")
                            || text.contains("key \"");
                        assert!(known, "{folder} {key} = {value:?}: {text}");
                        assert!(text.lines().count() == 1, "{text}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 500 && opened > 100, "{refused} refused, {opened} opened");
}
