//! Synthesized files (the example `synthesize`): its shapes are those of real files, its weights
//! are what its documentation says.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::path::Path;

use support::data;
use tramontane::Format;
use tramontane::gguf::TensorSpec;
use tramontane::internal::synthesize::{MIXES, Mix, SHAPES, STEP, Shape, Synthesis, fill};
use tramontane::{EncodeOptions, Gguf, Model, ModelOptions, SessionOptions};

fn synthesize(shape: &Shape, mix: &Mix, seed: u64) -> Vec<u8> {
    let file = Synthesis { shape: shape.clone(), mix: *mix, seed };
    file.write(Vec::new(), None, |_| {}).unwrap()
}

fn model(bytes: Vec<u8>) -> Model {
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap(), &ModelOptions::default()).unwrap()
}

/// llama.cpp's quantizer decided the formats of the tests' tiny files; ours
/// must have the same tensors in the same order, stored alike.
#[test]
fn tiny_files_have_the_tensors_of_llama_cpps() {
    let shape = Shape::find("tiny").unwrap();
    let mut compared = 0;
    for mix in MIXES {
        let name = if mix.name == "f32" { "f32".into() } else { mix.name.to_uppercase() };
        if name.ends_with("_S") || name == "MXFP4_MOE" {
            continue;
        }
        let real = Gguf::open(data(&format!("tiny-mistral/tiny-{name}.gguf"))).unwrap();
        let mut real_specs: Vec<_> = real.tensors().iter().map(TensorSpec::from).collect();
        let mut specs = shape.tensors(&mix);
        if !mix.is_quantized() {
            // The converter has another order than the quantizer.
            real_specs.sort_by(|a, b| a.name.cmp(&b.name));
            specs.sort_by(|a, b| a.name.cmp(&b.name));
        }
        assert_eq!(specs, real_specs, "{name}");
        let ours = shape.metadata(&mix).unwrap();
        for (key, value) in ours.iter().filter(|(key, _)| *key != "general.name") {
            assert_eq!(real.metadata().get(key), Some(value), "{name}: {key}");
        }
        compared += 1;
    }
    assert_eq!(compared, 15);
}

#[test]
fn every_shape_and_type_is_whole_blocks() {
    for shape in SHAPES {
        for mix in MIXES {
            for spec in shape.tensors(&mix) {
                assert!(spec.byte_len().is_ok(), "{} {}: {}", shape.name, mix.name, spec.name);
            }
        }
    }
}

#[test]
fn mistral_7b_is_the_real_files_size() {
    let specs = Shape::find("mistral-7b").unwrap().tensors(&Mix::find("q4_k_m").unwrap());
    let count = |format| specs.iter().filter(|spec| spec.format == format).count();
    assert_eq!(specs.len(), 291);
    assert_eq!((count(Format::Q4_K), count(Format::Q6_K), count(Format::F32)), (193, 33, 65));
    let bytes: usize = specs.iter().map(|spec| spec.byte_len().unwrap()).sum();
    assert_eq!(bytes, 4_372_054_016);
}

#[test]
fn llama_1b_is_tied_and_scales_its_frequencies() {
    let shape = Shape::find("llama-1b").unwrap();
    let specs = shape.tensors(&Mix::find("q4_k_m").unwrap());
    assert_eq!(specs.len(), 147);
    assert!(specs.iter().all(|spec| spec.name != "output.weight"));
    let parameters: u64 = specs.iter().map(|spec| spec.dims.iter().product::<u64>()).sum();
    assert_eq!(parameters, 1_235_814_432);
    let factors = shape.rope_freqs();
    assert_eq!((factors.len(), factors[0], factors[31]), (32, 1.0, 32.0));
    assert!(factors.is_sorted());
}

#[test]
fn a_seed_gives_one_file() {
    let shape = Shape::find("tiny").unwrap();
    for mix in MIXES {
        let one = synthesize(&shape, &mix, 1);
        assert!(one == synthesize(&shape, &mix, 1), "{} differs from itself", mix.name);
        assert!(one != synthesize(&shape, &mix, 2), "{} ignores the seed", mix.name);
    }
}

/// A file is there when it is whole, and is known again by its tensors.
#[test]
fn a_file_is_known_again() {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("synthesized-tiny.gguf");
    let _ = std::fs::remove_file(&path);
    let (shape, mix) = (Shape::find("tiny").unwrap(), Mix::find("q4_k_m").unwrap());
    let file = Synthesis { shape, mix, seed: 1 };
    assert!(!file.is_at(&path));
    let written = std::cell::Cell::new(0);
    file.create(&path, None, |n| written.set(written.get() + n)).unwrap();
    assert_eq!(written.get(), file.bytes().unwrap());
    assert!(file.is_at(&path));
    assert!(!path.with_added_extension("part").exists());
    let other = Synthesis { mix: Mix::find("q6_k").unwrap(), ..file.clone() };
    assert!(!other.is_at(&path));
    std::fs::remove_file(&path).unwrap();
    // A folder that is not there: an error, and nothing left behind.
    assert!(file.create(&path.join("nowhere"), None, |_| {}).is_err());
}

/// However a tensor is cut into chunks, its bytes are the same.
#[test]
fn chunks_do_not_matter() {
    for format in Format::ALL {
        let size = format.block_bytes();
        let mut whole = vec![0; 5 * STEP * size / 2];
        fill(format, 7, 0.02, 0, &mut whole);
        let mut parts = vec![0; whole.len()];
        let (first, second) = parts.split_at_mut(STEP * size);
        fill(format, 7, 0.02, STEP, second);
        fill(format, 7, 0.02, 0, first);
        assert!(whole == parts, "{format}");
    }
}

#[test]
fn weights_have_the_deviation_that_was_asked_for() {
    for mix in MIXES {
        let file = Gguf::from_bytes(synthesize(&Shape::find("tiny").unwrap(), &mix, 3)).unwrap();
        for tensor in file.tensors().iter().filter(|tensor| tensor.dims().len() == 2) {
            let values = tensor.to_f32().unwrap();
            let n = values.len() as f64;
            let mean = values.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
            let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>() / n;
            let wanted = 1.0 / (tensor.cols() as f64).sqrt();
            let (name, format) = (tensor.name(), tensor.format());
            let ratio = square.sqrt() / wanted;
            assert!((ratio - 1.0).abs() < 0.06, "{name} {format}: deviation {ratio:.3} of wanted");
            // 32 weights share an offset at most; five standard errors.
            assert!(mean.abs() < 5.0 * wanted / (n / 32.0).sqrt(), "{name} {format}: mean {mean}");
        }
    }
}

#[test]
fn a_made_up_vocabulary_spells_any_text() {
    let bytes = synthesize(&Shape::find("tiny").unwrap(), &Mix::find("q4_0").unwrap(), 1);
    let model = model(bytes);
    let tokenizer = model.tokenizer();
    let text = "Once upon a time… ça 1+1=2 \u{1F32C}";
    let ids = tokenizer.encode(text, EncodeOptions::default());
    assert_eq!(tokenizer.decode(&ids), text);
}

/// A forward pass gives finite logits of about unit size that differ.
#[test]
fn logits_are_alive() {
    for mix in MIXES {
        let bytes = synthesize(&Shape::find("tiny").unwrap(), &mix, 1);
        let model = model(bytes);
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let logits = session.evaluate(&[1, 300, 301, 302, 303, 304]).unwrap();
        let last = &logits[logits.len() - 512..];
        let mean = last.iter().sum::<f32>() / 512.0;
        let deviation = (last.iter().map(|x| (x - mean).powi(2)).sum::<f32>() / 512.0).sqrt();
        assert!((0.5..2.0).contains(&deviation), "{}: {deviation}", mix.name);
        assert!(mean.abs() < 0.5, "{}: mean {mean}", mix.name);
    }
}

/// Experts in MXFP4, the rest in Q8_0: weights about as large as asked for, and the file runs.
#[test]
fn experts_in_mxfp4_are_a_model() {
    let mut shape = Shape::find("qwen3-30b-a3b").unwrap();
    (shape.layers, shape.vocab) = (1, 512);
    shape.experts.as_mut().unwrap().count = 12;
    let mix = Mix::find("mxfp4_moe").unwrap();
    let file = Gguf::from_bytes(synthesize(&shape, &mix, 1)).unwrap();
    for tensor in file.tensors().iter().filter(|tensor| tensor.format() == Format::MXFP4) {
        let values = tensor.to_f32().unwrap();
        let square = values.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>();
        let deviation = (square / values.len() as f64).sqrt() * (tensor.cols() as f64).sqrt();
        // The scale is a power of two.
        assert!((0.65..1.5).contains(&deviation), "{}: {deviation}", tensor.name());
    }
    let count = |format| file.tensors().iter().filter(|t| t.format() == format).count();
    assert_eq!((count(Format::MXFP4), count(Format::Q8_0)), (3, 6));
    let model = Model::from_gguf(file, &ModelOptions::default()).unwrap();
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let logits = session.evaluate(&[1, 2, 3]).unwrap();
    assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|l| l.abs() > 0.01));
}

/// Experts: the file opens, and has the parameters that its name says.
#[test]
fn a_shape_with_experts_is_a_model() {
    let mut shape = Shape::find("qwen3-30b-a3b").unwrap();
    let mix = Mix::find("q4_k_m").unwrap();
    let count = |shape: &Shape| -> u64 {
        shape.tensors(&mix).iter().map(|spec| spec.dims.iter().product::<u64>()).sum()
    };
    assert_eq!(count(&shape), 30_532_122_624);
    (shape.layers, shape.vocab) = (1, 512);
    shape.experts.as_mut().unwrap().count = 12;
    let model = model(synthesize(&shape, &mix, 1));
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let logits = session.evaluate(&[1, 2, 3]).unwrap();
    assert!(logits.iter().all(|logit| logit.is_finite()) && logits.iter().any(|l| l.abs() > 0.01));
}

/// Shapes of other families: they have the parameters that the published models have, and
/// a few of their layers open and give finite logits.
#[test]
fn shapes_of_every_family_are_models() {
    let mix = Mix::find("q4_k_m").unwrap();
    for (name, parameters) in [
        ("phi-4-mini", 3_836_021_856),
        ("gemma-3-4b", 3_880_099_328),
        ("gemma-4-e2b", 4_647_450_147),
        ("gemma-4-26b-a4b", 25_233_142_046),
        ("gpt-oss-20b", 20_914_757_184),
        ("qwen3.5-4b", 4_205_751_296),
        ("lfm2-1.2b", 1_170_340_608),
    ] {
        let mut shape = Shape::find(name).unwrap();
        let tensors = shape.tensors(&mix);
        let count: u64 = tensors.iter().map(|spec| spec.dims.iter().product::<u64>()).sum();
        assert_eq!(count, parameters, "{name}");
        (shape.layers, shape.vocab) = (6, 512);
        if let Some(experts) = &mut shape.experts {
            experts.count = 8;
        }
        let model = model(synthesize(&shape, &mix, 1));
        let warnings: Vec<String> = model.warnings().iter().map(ToString::to_string).collect();
        assert_eq!(warnings, [""; 0], "{name}");
        let options = SessionOptions::default().with_num_ctx(64);
        let mut session = model.session(&options).unwrap();
        let logits = session.evaluate(&[1, 2, 3]).unwrap();
        assert!(logits.iter().all(|logit| logit.is_finite()), "{name}");
        assert!(logits.iter().any(|logit| logit.abs() > 0.01), "{name}");
    }
}

/// A real file of all-MiniLM-L6-v2 in Q8_0 has as many bytes of weights, and such a file runs.
#[test]
fn encoders_have_the_size_of_real_files() {
    let (shape, mix) = (Shape::find("all-minilm").unwrap(), Mix::find("q8_0").unwrap());
    let specs = shape.tensors(&mix);
    assert_eq!(specs.len(), 101);
    let bytes: usize = specs.iter().map(|spec| spec.byte_len().unwrap()).sum();
    assert_eq!(bytes, 24_645_744);
    for mix in ["q8_0", "q4_k_m"] {
        let mix = Mix::find(mix).unwrap();
        let small = Shape { layers: 1, vocab: 600, ..shape.clone() };
        let model = model(synthesize(&small, &mix, 1));
        assert!(!model.generates());
        let vectors = model.embed(&[[1, 300, 5]], &Default::default()).unwrap();
        assert_eq!(vectors[0].vector.len(), 384);
    }
}
