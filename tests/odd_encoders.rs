//! Files of encoders that are damaged or odd: one sentence that names the key or the tensor,
//! and no panic.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, data, ids, json};
use tramontane::gguf::{Array, Metadata, TensorSpec, Value, Writer};
use tramontane::{EmbedOptions, Error, Format, Gguf, Model, Result};

/// Folders, with the prefix of the keys.
const ENCODERS: [(&str, &str); 4] = [
    ("bert-rerank", "bert"),
    ("gemma-embedding", "gemma-embedding"),
    ("modern-bert", "modern-bert"),
    ("nomic-bert", "nomic-bert"),
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
            // One row, or one value, more than there should be. The vocabulary may be larger
            // than its names, and kinds of texts more than two.
            let longer = changed(
                &file,
                |_| {},
                |mut spec, mut content| {
                    if spec.name == name {
                        let row = match spec.dims.len() {
                            1 => 4,
                            _ => 4 * spec.dims[0] as usize,
                        };
                        content.extend_from_within(..row);
                        *spec.dims.last_mut().unwrap() += 1;
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
            if tensor.dims().len() == 1 && tensor.dims()[0] >= 32 {
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
                let nan = changed(
                    &file,
                    |_| {},
                    |spec, mut content| {
                        if spec.name == name {
                            content[8..12].copy_from_slice(&f32::NAN.to_le_bytes());
                        }
                        Some((spec, content))
                    },
                );
                refused(nan, name);
            }
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
                if spec.name == "blk.1.ffn_down.weight" {
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
