//! Models whose files are odd: keys in other types, ids that are no tokens, keys that nothing
//! computes, broken weights. What can be understood is, with a warning where it was guessed;
//! what would give a wrong result is refused.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, bits, data};
use tramontane::gguf::{Array, Metadata, TensorSpec, Value, Writer};
use tramontane::{
    Engine, EngineOptions, Error, FinishReason, Format, GenerateOptions, Gguf, Model, Piece,
    Request, Result, SessionOptions,
};

/// A small model of random weights, with other keys.
fn bytes_with(change: impl FnOnce(&mut Metadata)) -> Vec<u8> {
    bytes_without("tiny-mistral/tiny-Q8_0.gguf", "", change)
}

/// A file with other keys, and without one of its tensors.
fn bytes_without(file: &str, left_out: &str, change: impl FnOnce(&mut Metadata)) -> Vec<u8> {
    let source = Gguf::open(data(file)).unwrap();
    let mut metadata = source.metadata().clone();
    change(&mut metadata);
    let tensors = source.tensors().iter().filter(|tensor| tensor.name() != left_out);
    let specs: Vec<TensorSpec> = tensors.clone().map(TensorSpec::from).collect();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
    for tensor in tensors {
        writer.write(tensor.bytes()).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

fn open(bytes: Vec<u8>) -> Result<Model> {
    Model::from_gguf(Gguf::from_bytes(bytes)?, &Way::whole().options())
}

fn with(change: impl FnOnce(&mut Metadata)) -> Result<Model> {
    open(bytes_with(change))
}

fn set(metadata: &mut Metadata, key: &str, value: Value) {
    metadata.set(key, value).unwrap();
}

fn warnings(model: &Model) -> Vec<String> {
    model.warnings().iter().map(ToString::to_string).collect()
}

const TOKENS: [u32; 8] = [1, 416, 48, 7, 300, 21, 99, 5];

fn logits(model: &Model) -> Vec<u32> {
    bits(&Way::whole().logits(model, &TOKENS))
}

#[test]
fn files_of_the_tests_are_not_odd() {
    for file in [
        "tiny-mistral/tiny-Q8_0.gguf",
        "models/stories260K.gguf",
        "../../models/storyteller-q4_k_m.gguf",
        "arch/llama31/mini-f32.gguf",
        "arch/ministral3/mini-f32.gguf",
        "arch/phi3/mini-f32.gguf",
        "arch/phi4-partial/mini-f32.gguf",
        "arch/qwen2/mini-f32.gguf",
        "arch/qwen3/mini-f32.gguf",
    ] {
        assert_eq!(warnings(&Way::whole().model(file)), [""; 0], "{file}");
    }
}

#[test]
fn a_key_means_the_same_in_any_type() {
    let usual = logits(&with(|_| {}).unwrap());
    let changed = with(|metadata| {
        let integers = |values: &[u32]| Value::Array(Array::U32(values.to_vec()));
        set(metadata, "llama.attention.head_count_kv", integers(&[2, 2]));
        set(metadata, "llama.attention.head_count", Value::Array(Array::I64(vec![8, 8])));
        set(metadata, "llama.feed_forward_length", integers(&[512, 512]));
        set(metadata, "llama.block_count", Value::I8(2));
        set(metadata, "llama.embedding_length", Value::F32(256.0));
        set(
            metadata,
            "llama.context_length",
            Value::U64(metadata.u32("llama.context_length").unwrap().into()),
        );
        let epsilon = metadata.f32("llama.attention.layer_norm_rms_epsilon").unwrap();
        set(metadata, "llama.attention.layer_norm_rms_epsilon", Value::F64(epsilon.into()));
        let base = metadata.opt_f32("llama.rope.freq_base").unwrap().unwrap_or(10_000.0);
        set(metadata, "llama.rope.freq_base", Value::U32(base as u32));
        let types = metadata.opt_i32s("tokenizer.ggml.token_type").unwrap().unwrap();
        let types = types.iter().map(|&kind| kind as u32).collect();
        set(metadata, "tokenizer.ggml.token_type", Value::Array(Array::U32(types)));
        let scores = metadata.opt_f32s("tokenizer.ggml.scores").unwrap().unwrap();
        let scores = scores.iter().map(|&score| score.into()).collect();
        set(metadata, "tokenizer.ggml.scores", Value::Array(Array::F64(scores)));
    });
    let changed = changed.unwrap();
    assert_eq!(logits(&changed), usual);
    assert_eq!(warnings(&changed), [""; 0]);

    let differ = with(|metadata| {
        let heads = Value::Array(Array::U32(vec![2, 1]));
        set(metadata, "llama.attention.head_count_kv", heads);
    });
    let error = differ.unwrap_err().to_string();
    assert!(error.contains("head_count_kv") && error.contains("different values"), "{error}");
}

/// A description that cannot be read, of any kind, is one warning.
#[test]
fn an_unreadable_description_never_stops_a_model() {
    let mut bytes = bytes_with(|metadata| {
        set(metadata, "general.description", Value::String("MARK here".into()));
        let tags = Array::String(["MARK", "b"].into_iter().collect());
        set(metadata, "general.tags", Value::Array(tags));
        set(metadata, "general.name", Value::U32(7));
        set(metadata, "general.author", Value::Array(Array::U8(vec![1, 2])));
    });
    for _ in 0..2 {
        let at = bytes.windows(4).position(|four| four == b"MARK").unwrap();
        bytes[at] = 0xFF;
    }
    let model = open(bytes).unwrap();
    assert_eq!(model.name(), None);
    let said = warnings(&model);
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("general.description") && said[0].contains("not UTF-8"), "{said:?}");
    assert!(said[1].contains("general.tags"), "{said:?}");

    let broken = with(|metadata| {
        set(metadata, "tokenizer.chat_template", Value::String("{% if %}".into()));
    });
    let said = warnings(&broken.unwrap());
    assert!(said.len() == 1 && said[0].contains("chat_template"), "{said:?}");
}

#[test]
fn a_key_that_changes_the_result_is_refused() {
    let window = |metadata: &mut Metadata| {
        set(metadata, "llama.attention.sliding_window", Value::U32(4));
    };
    for (name, value, neutral) in [
        ("attention.causal", Value::Bool(false), Value::Bool(true)),
        ("attention.causal", Value::U8(0), Value::U8(1)),
        ("attention.scale", Value::F32(0.5), Value::F32(0.0)),
        ("attention.clamp_kqv", Value::F32(8.0), Value::F32(0.0)),
        ("attention.max_alibi_bias", Value::F32(8.0), Value::U32(0)),
        ("attention.temperature_scale", Value::F32(0.1), Value::F32(0.0)),
        ("attn_logit_softcapping", Value::F32(50.0), Value::F32(0.0)),
        ("final_logit_softcapping", Value::F32(30.0), Value::F32(0.0)),
        ("logit_scale", Value::F32(0.06), Value::F32(1.0)),
        ("embedding_scale", Value::F32(12.0), Value::F32(1.0)),
        ("residual_scale", Value::F32(0.2), Value::F32(0.0)),
        ("use_parallel_residual", Value::Bool(true), Value::Bool(false)),
        ("nextn_predict_layers", Value::U32(1), Value::U32(0)),
        ("rope.freq_base_swa", Value::F32(1e6), Value::F32(10_000.0)),
        ("hidden_activation", Value::String("gelu".into()), Value::String("silu".into())),
        (
            "attention.sliding_window_pattern",
            Value::Array(Array::Bool(vec![true, false])),
            Value::Array(Array::Bool(vec![true, true])),
        ),
        ("attention.sliding_window_pattern", Value::U32(6), Value::U32(1)),
    ] {
        let key = format!("llama.{name}");
        let open = |value: Value| {
            with(|metadata| {
                window(metadata);
                set(metadata, "llama.rope.freq_base", Value::F32(10_000.0));
                set(metadata, &key, value);
            })
        };
        let error = open(value).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains(&key), "{error}");
        assert_eq!(warnings(&open(neutral).unwrap()), [""; 0], "{key}");
    }
}

#[test]
fn a_key_that_nothing_reads_is_a_warning() {
    let odd = with(|metadata| {
        set(metadata, "llama.vision.block_count", Value::U32(4));
        set(metadata, "llama.vocab_size", Value::U32(512));
        set(metadata, "llama.attention.novelty", Value::U32(4));
        set(metadata, "other.attention.novelty", Value::U32(4));
    });
    let said = warnings(&odd.unwrap());
    assert!(said.len() == 1 && said[0].contains("llama.attention.novelty"), "{said:?}");
}

/// The softmax over the chosen experts adds up to 1, whatever the other key says.
#[test]
fn keys_say_how_experts_are_weighed() {
    let weighed = |norm: Option<bool>, function: Option<u32>| {
        let bytes = bytes_without("arch/granitemoe/mini-f32.gguf", "", |metadata| {
            if let Some(norm) = norm {
                set(metadata, "granitemoe.expert_weights_norm", Value::Bool(norm));
            }
            if let Some(function) = function {
                set(metadata, "granitemoe.expert_gating_func", Value::U32(function));
            }
        });
        logits(&open(bytes).unwrap())
    };
    let normalized = weighed(None, None);
    assert!(weighed(Some(true), Some(1)) == normalized);
    assert!(weighed(Some(false), Some(3)) == normalized);
    assert!(weighed(Some(false), None) != normalized);
    assert!(weighed(None, Some(2)) != normalized);
}

/// Files of 2023 have a tensor for each expert.
#[test]
fn experts_may_lie_in_a_tensor_each() {
    let file = data("arch/granitemoe/mini-f32.gguf");
    let source = Gguf::open(&file).unwrap();
    let mut tensors: Vec<(TensorSpec, &[u8])> = Vec::new();
    for tensor in source.tensors() {
        let spec = TensorSpec::from(tensor);
        match tensor.name().strip_suffix("_exps.weight") {
            None => tensors.push((spec, tensor.bytes())),
            Some(part) => {
                let count = spec.dims[2] as usize;
                let bytes = tensor.bytes().chunks_exact(tensor.bytes().len() / count);
                tensors.extend(bytes.enumerate().map(|(expert, bytes)| {
                    let name = format!("{part}.{expert}.weight");
                    (TensorSpec { name, dims: spec.dims[..2].into(), format: spec.format }, bytes)
                }));
            }
        }
    }
    let bytes_without = |left_out: &str| {
        let tensors = tensors.iter().filter(|(spec, _)| spec.name != left_out);
        let specs: Vec<TensorSpec> = tensors.clone().map(|(spec, _)| spec.clone()).collect();
        let mut bytes = Vec::new();
        let mut writer = Writer::new(&mut bytes, source.metadata(), &specs).unwrap();
        tensors.for_each(|(_, bytes)| writer.write(bytes).unwrap());
        writer.finish().unwrap();
        bytes
    };
    let together = Model::open_with(&file, &Way::whole().options()).unwrap();
    assert!(logits(&open(bytes_without("")).unwrap()) == logits(&together));
    let name = "blk.1.ffn_up.3.weight";
    let error = open(bytes_without(name)).unwrap_err().to_string();
    assert!(error.contains(name), "{error}");
}

/// One sentence that names the key or the tensor, and nothing allocated for absurd counts.
#[test]
fn hostile_experts_are_refused() {
    const FILE: &str = "arch/granitemoe/mini-f32.gguf";
    let refused = |bytes: Vec<u8>, name: &str| {
        let error = open(bytes).unwrap_err().to_string();
        assert!(error.contains(name) && !error.contains('\n'), "{name}: {error}");
    };
    for (name, value) in [
        ("expert_count", Value::U32(1 << 31)),
        ("expert_count", Value::U32(u32::MAX)),
        ("expert_count", Value::I32(-1)),
        ("expert_count", Value::String("four".into())),
        ("expert_used_count", Value::U32(0)),
        ("expert_used_count", Value::U32(5)),
        ("expert_used_count", Value::U32(u32::MAX)),
        ("expert_feed_forward_length", Value::U32(0)),
        ("expert_feed_forward_length", Value::U32(u32::MAX)),
        ("expert_shared_feed_forward_length", Value::U32(u32::MAX)),
        ("expert_gating_func", Value::U32(77)),
        ("expert_weights_scale", Value::F32(f32::NAN)),
        ("expert_weights_scale", Value::F32(-1.0)),
        ("expert_weights_norm", Value::String("yes".into())),
        ("expert_group_count", Value::U32(2)),
        ("leading_dense_block_count", Value::U32(1)),
        ("residual_scale", Value::F32(f32::INFINITY)),
        ("attention.scale", Value::F32(-1.0)),
        ("logit_scale", Value::F32(-0.5)),
    ] {
        let key = format!("granitemoe.{name}");
        refused(bytes_without(FILE, "", |metadata| set(metadata, &key, value)), &key);
    }
    let key = "granitemoe.expert_used_count";
    refused(bytes_without(FILE, "", |metadata| _ = metadata.remove(key)), key);
    // Fewer experts, or another width, than the tensors have.
    for (name, value) in [("expert_count", 3), ("feed_forward_length", 31)] {
        let key = format!("granitemoe.{name}");
        let bytes = bytes_without(FILE, "", |metadata| set(metadata, &key, Value::U32(value)));
        refused(bytes, "blk.0.ffn_gate_exps.weight");
    }
    for part in ["ffn_gate_exps", "ffn_up_exps", "ffn_down_exps", "ffn_gate_inp"] {
        let name = format!("blk.1.{part}.weight");
        refused(bytes_without(FILE, &name, |_| {}), &name);
    }
}

/// Windows, caps and norms of the families that have them.
#[test]
fn hostile_windows_and_caps_are_refused() {
    for (arch, name, value) in [
        ("gemma2", "attn_logit_softcapping", Value::F32(0.0)),
        ("gemma2", "attn_logit_softcapping", Value::F32(f32::NAN)),
        ("gemma2", "final_logit_softcapping", Value::F32(-1.0)),
        ("gemma2", "attention.sliding_window", Value::String("32".into())),
        ("gemma2", "attention.sliding_window_pattern", Value::String("no".into())),
        ("gemma2", "attention.sliding_window_pattern", Value::Array(Array::Bool(vec![true; 2]))),
        ("cohere2", "logit_scale", Value::F32(0.0)),
        ("cohere2", "attention.layer_norm_epsilon", Value::F32(0.0)),
    ] {
        let key = format!("{arch}.{name}");
        let file = format!("arch/{arch}/mini-f32.gguf");
        let bytes = bytes_without(&file, "", |metadata| set(metadata, &key, value));
        let error = open(bytes).unwrap_err().to_string();
        assert!(error.contains(&key) && !error.contains('\n'), "{key}: {error}");
    }
    for name in ["post_attention_norm", "post_ffw_norm", "attn_norm"] {
        let name = format!("blk.2.{name}.weight");
        let bytes = bytes_without("arch/gemma2/mini-f32.gguf", &name, |_| {});
        assert!(open(bytes).unwrap_err().to_string().contains(&name));
    }
}

/// Weights that give NaN are an error wherever logits come out.
#[test]
fn broken_weights_are_an_error_not_a_result() {
    let mut bytes = bytes_with(|_| {});
    let file = Gguf::from_bytes(bytes.clone()).unwrap();
    // The scale of one block of Q8_0.
    let block = &file.tensor("blk.0.ffn_down.weight").unwrap().bytes()[..34];
    let at = bytes.windows(34).position(|window| window == block).unwrap();
    bytes[at..at + 2].copy_from_slice(&0x7E00u16.to_le_bytes());
    let model = open(bytes).unwrap();
    let session = || model.session(&SessionOptions::default()).unwrap();
    let mut generated = session();
    let generated = generated.generate_from(&TOKENS, &GenerateOptions::greedy()).unwrap().wait();
    let results = [
        session().feed(&TOKENS).map(drop),
        session().evaluate(&TOKENS).map(drop),
        generated.map(drop),
        model.embed(&[TOKENS], &Default::default()).map(drop),
    ];
    for result in results {
        let error = result.unwrap_err();
        assert!(matches!(error, Error::NonFinite(_)), "{error}");
        assert!(error.to_string().contains("NaN"), "{error}");
    }
}

/// The token that is forced, and its piece.
const FORCED: u32 = 500;

/// A model with a control token `piece` in the place of [`FORCED`].
fn control(piece: &str, change: impl FnOnce(&mut Metadata)) -> Model {
    let model = with(|metadata| {
        let pieces = metadata.strings("tokenizer.ggml.tokens").unwrap().clone();
        let pieces = (0..).zip(pieces.iter());
        let pieces = pieces.map(|(id, other)| if id == FORCED { piece } else { other }).collect();
        set(metadata, "tokenizer.ggml.tokens", Value::Array(Array::String(pieces)));
        let types = metadata.opt_i32s("tokenizer.ggml.token_type").unwrap().unwrap();
        let mut types = types.into_owned();
        types[FORCED as usize] = 3;
        set(metadata, "tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
        change(metadata);
    });
    model.unwrap()
}

/// Six tokens at most, each of them [`FORCED`] if nothing is in the way.
fn forced() -> GenerateOptions {
    let mut options = GenerateOptions::greedy().with_num_predict(6);
    options.sampler.logit_bias = vec![(FORCED, 100.0)];
    options.sampler.logprobs = true;
    options
}

/// The tokens' pieces, the whole text, and why it ended.
fn generate(model: &Model, options: &GenerateOptions) -> (Vec<Piece>, String, FinishReason) {
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let mut generation = session.generate_from(&TOKENS, options).unwrap();
    let pieces: Vec<Piece> = generation.by_ref().map(Result::unwrap).collect();
    let text = pieces.iter().map(|piece| &*piece.text).collect();
    (pieces, text, generation.summary().finish_reason.unwrap())
}

#[test]
fn a_control_token_is_seen_in_logprobs_and_by_an_option() {
    let model = control("[INST]", |_| {});
    let (pieces, text, reason) = generate(&model, &forced());
    assert_eq!((&*text, reason), ("", FinishReason::Length));
    assert!(pieces.iter().all(|piece| piece.token == FORCED));
    assert!(pieces.iter().all(|piece| piece.logprob.as_ref().unwrap().text() == "[INST]"));
    let (_, text, _) = generate(&model, &forced().with_special(true));
    assert_eq!(text, "[INST]".repeat(6));
}

#[test]
fn a_stop_string_may_be_a_control_token() {
    let model = control("[INST]", |_| {});
    for special in [false, true] {
        for stop in ["[INST]", "[INST][INST][INST]"] {
            let options = forced().with_stop([stop]).with_special(special);
            let (pieces, text, reason) = generate(&model, &options);
            assert_eq!((&*text, reason), ("", FinishReason::StopString), "{stop}");
            assert_eq!(pieces.len(), stop.len() / 6);
        }
    }
    // A part of a token that is not shown is no text.
    let (_, _, reason) = generate(&model, &forced().with_stop(["[", "INST"]));
    assert_eq!(reason, FinishReason::Length);
}

/// By text and by key, one or several; nothing of them is shown.
#[test]
fn every_end_that_is_declared_ends_the_answer() {
    let list = |ids: &[i32]| Value::Array(Array::I32(ids.to_vec()));
    let models = [
        control("<|im_end|>", |_| {}),
        control("\u{2581}<EOT>", |_| {}),
        control("[x]", |metadata| set(metadata, "tokenizer.ggml.eos_token_ids", list(&[2, 500]))),
        control("[x]", |metadata| set(metadata, "tokenizer.ggml.eos_token_id", list(&[2, 500]))),
        control("[x]", |metadata| set(metadata, "tokenizer.ggml.eot_token_id", Value::I64(500))),
    ];
    for model in &models {
        let (pieces, text, reason) = generate(model, &forced());
        assert_eq!((pieces.len(), &*text, reason), (1, "", FinishReason::EndOfText));
    }
}

/// Whatever the options make of it, in a session and in an engine, guessing or not.
#[test]
fn a_suppressed_token_is_never_generated() {
    let suppressed = Value::Array(Array::I32(vec![FORCED as i32]));
    let model = control("[x]", |metadata| {
        set(metadata, "tokenizer.ggml.suppress_tokens", suppressed);
    });
    let draft = control("[x]", |_| {});
    let mut lively = forced().with_num_predict(30);
    lively.sampler.seed = Some(3);
    // All others are as likely.
    lively.sampler.temperature = 1e36;
    lively.sampler.logit_bias = vec![(FORCED, f32::MAX)];
    (lively.sampler.top_k, lively.sampler.top_p) = (0, 1.0);
    let mut penalties = forced().with_num_predict(30);
    (penalties.sampler.presence_penalty, penalties.sampler.repeat_penalty) = (-2.0, 0.5);
    for options in [forced(), lively, penalties] {
        let (pieces, ..) = generate(&model, &options);
        let tokens: Vec<u32> = pieces.iter().map(|piece| piece.token).collect();
        assert!(!tokens.is_empty() && !tokens.contains(&FORCED));
        let engine = EngineOptions::default().with_num_ctx(256);
        for speculate in [false, true] {
            let engine = engine.clone().with_speculate(speculate);
            let engines = [
                Engine::new(&model, &engine).unwrap(),
                Engine::with_draft(&model, &draft, &engine).unwrap(),
            ];
            for engine in engines {
                let mut reply =
                    engine.submit(Request::new(TOKENS.to_vec(), options.clone())).unwrap();
                let pieces = reply.blocking_iter().map(Result::unwrap);
                let found: Vec<u32> = pieces.map(|piece| piece.token).collect();
                assert_eq!(found, tokens, "speculate: {speculate}");
            }
        }
    }
}

/// The rare file of mixed formats with tensors `extra` of one float each, and the bytes of its
/// NVFP4 tensors changed.
fn nvfp4(extra: &[(String, f32)], change: impl Fn(&mut [u8; 36])) -> Vec<u8> {
    let source = Gguf::open(data("arch/mixed-formats/model-rare.gguf")).unwrap();
    let mut specs: Vec<TensorSpec> = source.tensors().iter().map(TensorSpec::from).collect();
    specs.extend(extra.iter().map(|(name, _)| TensorSpec {
        name: name.clone(),
        dims: vec![1],
        format: Format::F32,
    }));
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, source.metadata(), &specs).unwrap();
    for tensor in source.tensors() {
        let mut content = tensor.bytes().to_vec();
        if tensor.format() == Format::NVFP4 {
            content.as_chunks_mut().0.iter_mut().for_each(&change);
        }
        writer.write(&content).unwrap();
    }
    for (_, value) in extra {
        writer.write(&value.to_le_bytes()).unwrap();
    }
    writer.finish().unwrap();
    bytes
}

/// The optional factor of NVFP4 tensors multiplies the product: half of it is an exponent less
/// in every scale. The factor for activations is not needed.
#[test]
fn the_scale_beside_an_nvfp4_tensor_multiplies_its_product() {
    let file = Gguf::open(data("arch/mixed-formats/model-rare.gguf")).unwrap();
    let tensors = file.tensors().iter().filter(|tensor| tensor.format() == Format::NVFP4);
    let names: Vec<&str> = tensors.map(|t| t.name().strip_suffix(".weight").unwrap()).collect();
    assert_eq!(names.len(), 2);
    let beside = |what: &str, value: f32| -> Vec<(String, f32)> {
        names.iter().map(|name| (format!("{name}.{what}"), value)).collect()
    };
    // Exponents of at least 2, so that there is one less.
    let large = |d: &mut u8| *d = *d & 0x7f | 0x10;
    let large_scales = |block: &mut [u8; 36]| block[..4].iter_mut().for_each(large);
    let logits = |extra: Vec<(String, f32)>, change: &dyn Fn(&mut [u8; 36])| {
        logits(&open(nvfp4(&extra, change)).unwrap())
    };
    let halved = logits(vec![], &|block| {
        large_scales(block);
        block[..4].iter_mut().filter(|d| **d != 0x7f).for_each(|d| *d -= 8);
    });
    let scaled = [beside("scale", 0.5), beside("input_scale", 3.0)].concat();
    assert!(logits(scaled, &large_scales) == halved);
    assert!(logits(vec![], &large_scales) != halved);

    // Beside a tensor of another format it would be something else.
    let other = file.tensors().iter().find(|tensor| tensor.format() == Format::Q5_0).unwrap();
    let name = other.name().replace(".weight", ".scale");
    let error = open(nvfp4(&[(name.clone(), 0.5)], |_| {})).unwrap_err().to_string();
    assert!(error.contains(&name), "{error}");
}
