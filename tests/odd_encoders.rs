//! Files of encoders that are damaged or odd: one sentence that names the key or the tensor,
//! and no panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, data, ids, json};
use tramontane::gguf::{Array, Metadata, TensorSpec, Value, Writer};
use tramontane::{EmbedOptions, Error, Format, Gguf, Model, Result};

/// Folders, with the prefix of the keys.
const ENCODERS: [(&str, &str); 7] = [
    ("bert-rerank", "bert"),
    ("gemma-embedding", "gemma-embedding"),
    ("jina-bert-v2", "jina-bert-v2"),
    ("jina-bert-v2-code", "jina-bert-v2"),
    ("modern-bert", "modern-bert"),
    ("nomic-bert", "nomic-bert"),
    ("nomic-bert-moe", "nomic-bert-moe"),
];

fn source(folder: &str) -> Gguf {
    Gguf::open(data(&format!("arch/{folder}/mini-f32.gguf"))).unwrap()
}

/// `file` with other keys, and with other tensors: `change` gives none for one to leave out.
fn changed(
    file: &Gguf,
    keys: impl FnOnce(&mut Metadata),
    change: impl Fn(TensorSpec, Vec<u8>) -> Option<(TensorSpec, Vec<u8>)>,
) -> Result<Model> {
    let mut metadata = file.metadata().clone();
    keys(&mut metadata);
    let tensors = file.tensors().iter();
    let tensors: Vec<_> =
        tensors.filter_map(|t| change(TensorSpec::from(t), t.bytes().to_vec())).collect();
    let specs: Vec<TensorSpec> = tensors.iter().map(|(spec, _)| spec.clone()).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
    for (_, content) in &tensors {
        writer.write(content).unwrap();
    }
    writer.finish().unwrap();
    Model::from_gguf(Gguf::from_bytes(bytes)?, &Way::whole().options())
}

fn with_keys(folder: &str, keys: impl FnOnce(&mut Metadata)) -> Result<Model> {
    changed(&source(folder), keys, |spec, content| Some((spec, content)))
}

/// The error's sentence; it names `name`.
fn refused(model: Result<Model>, name: &str) -> String {
    let said = match model {
        Err(error @ (Error::File { .. } | Error::Unsupported { .. })) => error.to_string(),
        other => panic!("{name}: {other:?}"),
    };
    assert!(said.contains(name) && !said.contains('\n'), "{name}: {said}");
    said
}

#[test]
fn files_of_the_tests_are_not_odd() {
    for (folder, _) in ENCODERS {
        let model = with_keys(folder, |_| {}).unwrap();
        let said: Vec<String> = model.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(said, [""; 0], "{folder}");
    }
}

/// Any one of them. Of a classifier either matrix may stand alone, but not with what belongs
/// to the other.
#[test]
fn a_missing_tensor_is_named() {
    for (folder, _) in ENCODERS {
        let file = source(folder);
        for tensor in file.tensors() {
            let without = changed(
                &file,
                |_| {},
                |spec, content| (spec.name != tensor.name()).then_some((spec, content)),
            );
            match tensor.name() {
                "cls.bias" | "cls.output.bias" => assert!(without.is_ok(), "{}", tensor.name()),
                name if name.starts_with("cls") => _ = refused(without, "cls."),
                name => assert!(refused(without, name).contains("missing"), "{name}"),
            }
        }
    }
}

#[test]
fn a_tensor_of_another_shape_or_type_is_named() {
    for (folder, _) in ENCODERS {
        let file = source(folder);
        for tensor in file.tensors() {
            let name = tensor.name();
            // One matrix, row or value more than there should be. The vocabulary may be larger
            // than its names, and kinds of texts more than two.
            let longer = changed(
                &file,
                |_| {},
                |mut spec, mut content| {
                    if spec.name == name {
                        let last = spec.dims.pop().unwrap();
                        let one = 4 * spec.dims.iter().product::<u64>() as usize;
                        content.extend_from_within(..one);
                        spec.dims.push(last + 1);
                    }
                    Some((spec, content))
                },
            );
            match name {
                "token_embd.weight" | "token_types.weight" => assert!(longer.is_ok()),
                _ => _ = refused(longer, name),
            }
            let flat = changed(
                &file,
                |_| {},
                |mut spec, content| {
                    if spec.name == name {
                        spec.dims = vec![spec.dims.iter().product(), 1, 1];
                    }
                    Some((spec, content))
                },
            );
            if !(name == "token_embd.weight" && flat.is_ok()) {
                refused(flat, name);
            }
            // Vectors are floats.
            if tensor.dims().len() != 1 {
                continue;
            }
            if tensor.dims()[0].is_multiple_of(32) {
                let quantized = changed(
                    &file,
                    |_| {},
                    |mut spec, mut content| {
                        if spec.name == name {
                            spec.format = Format::Q8_0;
                            content.truncate(content.len() / 128 * 34);
                        }
                        Some((spec, content))
                    },
                );
                refused(quantized, name);
            }
            let nan = changed(
                &file,
                |_| {},
                |spec, mut content| {
                    if spec.name == name {
                        content[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                    }
                    Some((spec, content))
                },
            );
            refused(nan, name);
        }
    }
}

#[test]
fn missing_and_absurd_keys_are_named() {
    for (folder, arch) in ENCODERS {
        let epsilon = match arch {
            "gemma-embedding" => "attention.layer_norm_rms_epsilon",
            _ => "attention.layer_norm_epsilon",
        };
        let sizes = [
            "block_count",
            "context_length",
            "embedding_length",
            "feed_forward_length",
            "attention.head_count",
        ];
        for name in sizes.into_iter().chain([epsilon]) {
            let key = format!("{arch}.{name}");
            let without = with_keys(folder, |metadata| _ = metadata.remove(&key));
            assert!(refused(without, &key).contains("missing"), "{key}");
            let mut values = vec![
                Value::String("x".into()),
                Value::Array(Array::U32(vec![])),
                Value::U32(0),
                Value::I32(-1),
            ];
            match name == epsilon {
                true => values.extend([f32::NAN, f32::INFINITY, -1e-5].map(Value::F32)),
                false => values.extend([Value::U32(u32::MAX), Value::F32(f32::NAN)]),
            }
            for value in values {
                let shown = value.to_string();
                let odd = with_keys(folder, |metadata| metadata.set(&*key, value).unwrap());
                assert!(refused(odd, &key).contains(&key), "{shown}");
            }
        }
        // A layer more, or one less, than there are tensors for.
        let key = format!("{arch}.block_count");
        let layers = source(folder).metadata().u32(&key).unwrap();
        for count in [layers - 1, layers + 1] {
            let odd = with_keys(folder, |m| m.set(&*key, Value::U32(count)).unwrap());
            refused(odd, &format!("blk.{}.", count.min(layers)));
        }
    }
}

#[test]
fn keys_of_single_architectures() {
    let strings = |list: &[&str]| Value::Array(Array::String(list.iter().copied().collect()));
    for (folder, key, value, named) in [
        ("bert-rerank", "bert.attention.causal", Value::Bool(true), "bert.attention.causal"),
        ("bert-rerank", "bert.attention.causal", Value::String("no".into()), "attention.causal"),
        ("bert-rerank", "bert.context_length", Value::U32(256), "position_embd.weight"),
        ("bert-rerank", "bert.classifier.output_labels", strings(&[]), "output_labels"),
        ("bert-rerank", "bert.classifier.output_labels", strings(&["a", "b"]), "cls.output"),
        ("bert-rerank", "bert.classifier.output_labels", Value::U32(1), "output_labels"),
        ("bert-rerank", "tokenizer.ggml.token_type_count", Value::U32(0), "token_types.weight"),
        ("bert-rerank", "bert.attention.max_alibi_bias", Value::F32(8.0), "max_alibi_bias"),
        ("nomic-bert", "nomic-bert.rope.freq_base", Value::F32(0.0), "rope.freq_base"),
        ("nomic-bert", "nomic-bert.attention.causal", Value::Bool(true), "attention.causal"),
        ("nomic-bert", "nomic-bert.expert_count", Value::U32(8), "expert_count"),
        ("nomic-bert", "nomic-bert.moe_every_n_layers", Value::U32(2), "moe_every_n_layers"),
        ("jina-bert-v2", "jina-bert-v2.attention.max_alibi_bias", Value::F32(0.0), "alibi_bias"),
        ("jina-bert-v2", "jina-bert-v2.attention.causal", Value::Bool(true), "attention.causal"),
        ("jina-bert-v2", "jina-bert-v2.feed_forward_length", Value::U32(20), "ffn_gate"),
        ("jina-bert-v2", "jina-bert-v2.expert_count", Value::U32(8), "expert_count"),
        ("nomic-bert-moe", "nomic-bert-moe.moe_every_n_layers", Value::U32(1), "moe_every_n"),
        ("nomic-bert-moe", "nomic-bert-moe.moe_every_n_layers", Value::U32(0), "moe_every_n"),
        ("nomic-bert-moe", "nomic-bert-moe.expert_used_count", Value::U32(5), "used_count"),
        ("nomic-bert-moe", "nomic-bert-moe.expert_used_count", Value::U32(0), "used_count"),
        ("nomic-bert-moe", "nomic-bert-moe.expert_count", Value::U32(5), "_exps"),
        ("nomic-bert-moe", "nomic-bert-moe.expert_shared_count", Value::U32(1), "_shexp"),
        ("nomic-bert-moe", "nomic-bert-moe.expert_gating_func", Value::U32(7), "gating_func"),
        ("modern-bert", "modern-bert.hidden_activation", Value::String("relu".into()), "relu"),
        ("modern-bert", "modern-bert.rope.freq_base_swa", Value::F32(-1.0), "freq_base_swa"),
        (
            "modern-bert",
            "modern-bert.attention.sliding_window_pattern",
            Value::Array(Array::Bool(vec![true; 3])),
            "sliding_window_pattern",
        ),
        (
            "gemma-embedding",
            "gemma-embedding.attention.sliding_window",
            Value::String("wide".into()),
            "attention.sliding_window",
        ),
    ] {
        refused(with_keys(folder, |metadata| metadata.set(key, value).unwrap()), named);
    }
}

#[test]
fn experts_need_their_keys() {
    for name in ["expert_count", "expert_used_count", "moe_every_n_layers"] {
        let key = format!("nomic-bert-moe.{name}");
        let without = with_keys("nomic-bert-moe", |metadata| _ = metadata.remove(&key));
        assert!(refused(without, &key).contains("missing"), "{key}");
    }
}

/// Every key of an architecture missing, or with a value that it cannot have: one sentence that
/// names a key or a tensor, or a model that runs.
#[test]
fn absurd_values_of_any_key_are_refused_or_run() {
    let absurd = [
        Value::U32(0),
        Value::U32(1),
        Value::U32(3),
        Value::U32(u32::MAX),
        Value::I32(-1),
        Value::F32(f32::NAN),
        Value::F32(-1.0),
        Value::F32(1e30),
        Value::Bool(true),
        Value::String("x".into()),
        Value::Array(Array::U32(vec![1; 5])),
    ];
    let (mut refused, mut ran) = (0, 0);
    for (folder, arch) in ENCODERS {
        let file = source(folder);
        let prefix = format!("{arch}.");
        let keys = file.metadata().iter().map(|(key, _)| key.to_owned());
        for key in keys.filter(|key| key.starts_with(&prefix)) {
            for value in absurd.iter().map(Some).chain([None]) {
                let model = with_keys(folder, |metadata| match value {
                    Some(value) => metadata.set(&*key, value.clone()).unwrap(),
                    None => _ = metadata.remove(&key),
                });
                match model {
                    Ok(model) => {
                        // Pooling is read when a vector is made; a short context refuses it.
                        let made = model.embed(&[[5, 6, 7]], &EmbedOptions::default());
                        if let Err(error) = made {
                            assert!(!matches!(error, Error::NonFinite(_)), "{key} {value:?}");
                        }
                        ran += 1;
                    }
                    Err(error) => {
                        let said = error.to_string();
                        let named = said.contains("key \"") || said.contains("tensor \"");
                        assert!(named && !said.contains('\n'), "{key} {value:?}: {said}");
                        refused += 1;
                    }
                }
            }
        }
    }
    assert!(refused > 300 && ran > 100, "{refused} refused, {ran} ran");
}

/// Windows that see only the row itself, or more than there is.
#[test]
fn any_window_runs() {
    let tokens = ids(&json("arch/modern-bert/ids.json"));
    for window in [1, 2, 1 << 20, u32::MAX] {
        let model = with_keys("modern-bert", |metadata| {
            metadata.set("modern-bert.attention.sliding_window", Value::U32(window)).unwrap();
        });
        let vector = model.unwrap().embed(&[&tokens], &EmbedOptions::default()).unwrap();
        assert!(vector[0].vector.iter().all(|x| x.is_finite()), "{window}");
    }
}

#[test]
fn poolings_that_give_no_vector_are_named() {
    for (number, unsupported) in [(4, true), (5, false), (u32::MAX, false)] {
        let model = with_keys("nomic-bert", |metadata| {
            metadata.set("nomic-bert.pooling_type", Value::U32(number)).unwrap();
        });
        let error = model.unwrap().embed(&[[1, 2]], &EmbedOptions::default()).unwrap_err();
        assert_eq!(matches!(error, Error::Unsupported { .. }), unsupported, "{error}");
        assert!(error.to_string().contains("nomic-bert.pooling_type"), "{error}");
    }
}

/// Matrices are not looked through when a file is opened: what they do to a text is seen then.
#[test]
fn broken_weights_are_an_error_not_a_result() {
    for (folder, _) in ENCODERS {
        let broken = changed(
            &source(folder),
            |_| {},
            |spec, mut content| {
                if spec.name == "blk.0.ffn_down.weight" {
                    content[..4].copy_from_slice(&f32::NAN.to_le_bytes());
                }
                Some((spec, content))
            },
        );
        let broken = broken.unwrap();
        let error = broken.embed(&[[1, 5, 9]], &EmbedOptions::default()).unwrap_err();
        assert!(matches!(error, Error::NonFinite(_)), "{error}");
        if folder == "bert-rerank" {
            let error = broken.rerank_tokens(&[[1, 5, 9]], &EmbedOptions::default()).unwrap_err();
            assert!(matches!(error, Error::NonFinite(_)), "{error}");
        }
    }
}
