//! Encoders: hidden states and scores against float64 references of the same files, the same
//! bits however they are computed, and what they refuse.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

mod support;

use support::{Way, bits, data, floats, ids, json, ways};
use tramontane::gguf::{Array, TensorSpec, Value, Writer};
use tramontane::internal::hidden_states;
use tramontane::tensor::Tensor;
use tramontane::{
    EmbedOptions, Embedding, Engine, EngineOptions, Error, Format, GenerateOptions, Gguf, KvType,
    Model, Pooling, Prompt, Request, Score, SessionOptions,
};

const ENCODERS: [&str; 7] = [
    "bert-rerank",
    "gemma-embedding",
    "jina-bert-v2",
    "jina-bert-v2-code",
    "modern-bert",
    "nomic-bert",
    "nomic-bert-moe",
];

fn path(name: &str) -> String {
    format!("arch/{name}/mini-f32.gguf")
}

fn encoder(name: &str) -> Model {
    Way::whole().model(&path(name))
}

/// Texts of many lengths, of which some are longer than the passes below.
fn inputs(name: &str) -> Vec<Vec<u32>> {
    let all = match name {
        "bert-rerank" => pairs().concat(),
        _ => ids(&json(&format!("arch/{name}/ids.json"))),
    };
    let lens = [1, 2, 15, 64, 65, 130, 3, 40];
    lens.iter().enumerate().map(|(i, &len)| all[i..i + len].to_vec()).collect()
}

fn pairs() -> Vec<Vec<u32>> {
    json("arch/bert-rerank/ids.json").as_array().unwrap().iter().map(ids).collect()
}

fn raw(pooling: Pooling) -> EmbedOptions {
    EmbedOptions::default().with_pooling(pooling).with_normalize(false)
}

fn vector_bits(embeddings: &[Embedding]) -> Vec<Vec<u32>> {
    embeddings.iter().map(|embedding| bits(&embedding.vector)).collect()
}

/// The stored states are the last 32 of the models' own code in f64 on the same weights.
#[test]
fn hidden_states_are_those_of_the_reference() {
    for name in ENCODERS.into_iter().filter(|&name| name != "bert-rerank") {
        let tokens = ids(&json(&format!("arch/{name}/ids.json")));
        let exact = floats(&format!("arch/{name}/exact-mini-f32.f32"));
        for (kv_type, bound) in [(KvType::F32, 1e-4), (KvType::I16, 1e-2)] {
            let ours = hidden_states(&encoder(name), &tokens, kv_type).unwrap();
            let last = &ours[ours.len() - exact.len()..];
            let error = exact.iter().zip(last).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            println!("{name} {kv_type}: {error:.1e}");
            assert!(error <= bound, "{name} {kv_type}: {error}");
        }
    }
}

/// `file` with other tensors: `change` gives none for one to leave out.
fn changed(file: &Gguf, change: impl Fn(&Tensor) -> Option<(TensorSpec, Vec<u8>)>) -> Model {
    let (specs, contents): (Vec<_>, Vec<_>) = file.tensors().iter().filter_map(change).unzip();
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, file.metadata(), &specs).unwrap();
    contents.iter().for_each(|content| writer.write(content).unwrap());
    writer.finish().unwrap();
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap(), &Way::whole().options()).unwrap()
}

/// Quantized experts beside the same weights as floats: with activations of 8 bits the vectors
/// would differ a hundred times more.
#[test]
fn experts_of_encoders_are_multiplied_by_16_bits() {
    const STEP: f32 = 1.0 / 64.0;
    const STEP_AS_F16: [u8; 2] = 0x2400u16.to_le_bytes();
    let file = Gguf::open(data(&path("nomic-bert-moe"))).unwrap();
    let model = |format| {
        changed(&file, |tensor| {
            let (mut spec, mut content) = (TensorSpec::from(tensor), tensor.bytes().to_vec());
            if tensor.name().ends_with("_exps.weight") {
                let codes = tensor.to_f32().unwrap().into_iter().map(|x| (x / STEP).round() as i8);
                let codes: Vec<i8> = codes.collect();
                content = match format {
                    Format::Q8_0 => codes
                        .chunks(32)
                        .flat_map(|block| {
                            STEP_AS_F16
                                .into_iter()
                                .chain(block.iter().map(|code| code.to_le_bytes()[0]))
                        })
                        .collect(),
                    _ => codes
                        .iter()
                        .flat_map(|&code| (f32::from(code) * STEP).to_le_bytes())
                        .collect(),
                };
                spec.format = format;
            }
            Some((spec, content))
        })
    };
    let inputs = inputs("nomic-bert-moe");
    let [floats, codes] = [Format::F32, Format::Q8_0]
        .map(|format| model(format).embed(&inputs, &raw(Pooling::Mean)).unwrap());
    for (floats, codes) in floats.iter().zip(&codes) {
        let differences = floats.vector.iter().zip(&codes.vector).map(|(a, b)| (a - b).abs());
        let most = differences.fold(0.0, f32::max);
        assert!(most > 0.0 && most < 1e-4, "{most}");
    }
}

/// Converters write gate and up of Jina's models apart, or in one matrix: in the order of the
/// model's own file, which has the gate last where queries and keys have norms.
#[test]
fn gate_and_up_in_one_matrix_give_the_same_bits() {
    for (name, parts) in
        [("jina-bert-v2", ["ffn_gate", "ffn_up"]), ("jina-bert-v2-code", ["ffn_up", "ffn_gate"])]
    {
        let file = Gguf::open(data(&path(name))).unwrap();
        let fused = changed(&file, |tensor| {
            let (mut spec, mut content) = (TensorSpec::from(tensor), tensor.bytes().to_vec());
            match tensor.name().split_once(".ffn_") {
                Some((_, "gate.weight")) => return None,
                Some((layer, "up.weight")) => {
                    let part = |part| file.tensor(&format!("{layer}.{part}.weight")).unwrap();
                    content = parts.map(|name| part(name).bytes()).concat();
                    spec.dims[1] *= 2;
                }
                _ => {}
            }
            Some((spec, content))
        });
        let inputs = inputs(name);
        let expected = encoder(name).embed(&inputs, &raw(Pooling::Mean)).unwrap();
        let found = fused.embed(&inputs, &raw(Pooling::Mean)).unwrap();
        assert!(vector_bits(&found) == vector_bits(&expected), "{name}");
    }
}

#[test]
fn scores_are_those_of_the_reference() {
    let model = encoder("bert-rerank");
    let exact = json("arch/bert-rerank/exact-mini-f32.json");
    for (kv_type, bound) in [(KvType::F32, 1e-4), (KvType::I16, 1e-3)] {
        let options = EmbedOptions::default().with_kv_type(kv_type);
        let scores = model.rerank_tokens(&pairs(), &options).unwrap();
        for (exact, Score { score, .. }) in exact.as_array().unwrap().iter().zip(scores) {
            let error = (exact.as_f64().unwrap() - f64::from(score)).abs();
            println!("{kv_type}: {score} {error:.1e}");
            assert!(error <= bound, "{kv_type}: {score} {exact}");
        }
    }
}

#[test]
fn the_same_bits_for_every_instruction_set_and_threads() {
    for name in ENCODERS {
        let inputs = inputs(name);
        let expected = vector_bits(&encoder(name).embed(&inputs, &raw(Pooling::Mean)).unwrap());
        for way in ways(&[1], None) {
            let model = way.model(&path(name));
            let embeddings = model.embed(&inputs, &raw(Pooling::Mean)).unwrap();
            assert!(vector_bits(&embeddings) == expected, "{name}: {way:?}");
        }
    }
    let scores = |model: &Model| -> Vec<u32> {
        let scores = model.rerank_tokens(&pairs(), &EmbedOptions::default()).unwrap();
        scores.iter().map(|score| score.score.to_bits()).collect()
    };
    let expected = scores(&encoder("bert-rerank"));
    for way in ways(&[1], None) {
        assert_eq!(scores(&way.model(&path("bert-rerank"))), expected, "{way:?}");
    }
}

/// Also where a pass has fewer rows than a text: it grows.
#[test]
fn many_together_equal_each_alone_in_any_passes() {
    for name in ENCODERS {
        let (model, inputs) = (encoder(name), inputs(name));
        for pooling in [Pooling::Mean, Pooling::Cls, Pooling::Last] {
            let alone: Vec<Embedding> = inputs
                .iter()
                .map(|input| model.embed(&[input], &raw(pooling)).unwrap().remove(0))
                .collect();
            for num_batch in [1, 70, 512] {
                let options = raw(pooling).with_num_batch(num_batch);
                let together = model.embed(&inputs, &options).unwrap();
                assert!(vector_bits(&together) == vector_bits(&alone), "{name} {num_batch}");
            }
        }
    }
}

#[test]
fn the_engine_answers_the_same() {
    for name in ENCODERS {
        let (model, inputs) = (encoder(name), inputs(name));
        let options = EmbedOptions::default();
        let expected = vector_bits(&model.embed(&inputs, &options).unwrap());
        for num_batch in [1, 70, 512] {
            let engine_options = EngineOptions::default().with_num_batch(num_batch);
            let engine = Engine::new(&model, &engine_options).unwrap();
            let pending: Vec<_> =
                inputs.iter().map(|input| engine.embed(input, &options).unwrap()).collect();
            let found: Vec<_> = pending.into_iter().map(|one| one.wait().unwrap()).collect();
            assert!(vector_bits(&found) == expected, "{name} {num_batch}");
        }
    }
    let model = encoder("bert-rerank");
    let (query, documents) = ("what is it", ["one thing", "", "an other thing that is longer"]);
    let options = EmbedOptions::default();
    let expected = model.rerank(query, &documents, &options).unwrap();
    let engine = Engine::new(&model, &EngineOptions::default()).unwrap();
    for (document, expected) in documents.iter().zip(expected) {
        assert_eq!(engine.rerank(query, document, &options).unwrap().wait().unwrap(), expected);
    }
}

/// The mean of states, where the file names no pooling.
#[test]
fn vectors_are_means_by_default() {
    for name in ENCODERS {
        let (model, input) = (encoder(name), inputs(name).remove(3));
        let default = EmbedOptions::default().with_normalize(false);
        let found = model.embed(&[&input], &default).unwrap().remove(0).vector;
        assert_eq!(found, model.embed(&[&input], &raw(Pooling::Mean)).unwrap()[0].vector);
        assert_ne!(found, model.embed(&[&input], &raw(Pooling::Last)).unwrap()[0].vector);
        let states = hidden_states(&model, &input, KvType::I16).unwrap();
        for (i, x) in found.iter().enumerate() {
            let rows = states.iter().skip(i).step_by(found.len());
            let mean = rows.map(|&x| f64::from(x)).sum::<f64>() / input.len() as f64;
            assert_eq!(*x, mean as f32, "{name}");
        }
    }
}

/// What stands behind a token counts as much as what stands before it.
#[test]
fn every_token_sees_both_sides() {
    for name in ENCODERS {
        let (model, input) = (encoder(name), inputs(name).remove(2));
        let mut other = input.clone();
        *other.last_mut().unwrap() += 1;
        let vectors = model.embed(&[input, other], &raw(Pooling::Cls)).unwrap();
        assert_ne!(vectors[0].vector, vectors[1].vector, "{name}");
    }
}

#[test]
fn encoders_generate_no_text() {
    for name in ENCODERS {
        let model = encoder(name);
        assert!(!model.generates());
        let architecture = model.metadata().str("general.architecture").unwrap();
        assert!(Model::is_encoder(architecture) && !Model::is_encoder("llama"));
        let refused = |error: Error| {
            let said = error.to_string();
            assert!(matches!(error, Error::Unsupported { .. }), "{said}");
            assert!(said.contains("general.architecture") && said.contains("encoder"), "{said}");
        };
        refused(model.session(&SessionOptions::default()).unwrap_err());
        let engine = Engine::new(&model, &EngineOptions::default()).unwrap();
        let options = GenerateOptions::default();
        refused(engine.generate("text", &options).unwrap_err());
        refused(engine.submit(Request::new(vec![1, 2], options)).unwrap_err());
        let generator = Way::whole().model("models/stories260K.gguf");
        refused(Engine::with_draft(&generator, &model, &EngineOptions::default()).unwrap_err());
    }
    let window = Way::whole().options().with_sliding_window(8);
    let error = Model::open_with(data(&path("modern-bert")), &window).unwrap_err();
    assert!(matches!(error, Error::Misuse(_)), "{error}");
}

#[test]
fn long_texts_are_refused_or_cut() {
    // The rows of positions end at 257, whatever is asked for.
    let model = encoder("bert-rerank");
    let long: Vec<u32> = pairs().concat()[..300].to_vec();
    let options = raw(Pooling::Mean).with_num_ctx(4096);
    let refused = model.embed(&[&long], &options);
    assert!(matches!(refused, Err(Error::Limit { needed: 300, allowed: 257, .. })), "{refused:?}");
    let cut = model.embed(&[&long], &options.clone().with_truncate(true)).unwrap();
    assert_eq!(cut[0].tokens, 257);
    assert_eq!(cut, model.embed(&[&long[..257]], &options).unwrap());
    let error = hidden_states(&model, &long, KvType::F32).unwrap_err();
    assert!(matches!(error, Error::Limit { .. }), "{error}");

    // Of a pair the document is cut, the query never.
    let documents = ["many words of a document ".repeat(100)];
    let options = EmbedOptions::default();
    assert!(matches!(model.rerank("a query", &documents, &options), Err(Error::Limit { .. })));
    let cut = options.clone().with_truncate(true);
    assert_eq!(model.rerank("a query", &documents, &cut).unwrap()[0].tokens, 257);
    assert!(matches!(model.rerank(&documents[0], &["short"], &cut), Err(Error::Limit { .. })));
}

#[test]
fn models_without_a_classifier_give_no_scores() {
    for model in [encoder("nomic-bert"), Way::whole().model("models/stories260K.gguf")] {
        let error = model.rerank("query", &["document"], &EmbedOptions::default()).unwrap_err();
        assert!(matches!(error, Error::Misuse(_)), "{error}");
        assert!(error.to_string().contains("no classifier"), "{error}");
    }
}

/// A decoder as a reranker, as Qwen3's are: two rows of the output matrix are a classifier, a
/// template puts query and document together.
fn qwen3_reranker(template: &str, labels: [usize; 2]) -> Model {
    let file = Gguf::open(data("arch/qwen3/mini-f32.gguf")).unwrap();
    let mut metadata = file.metadata().clone();
    metadata.set("qwen3.pooling_type", Value::U32(4)).unwrap();
    let names = Value::Array(Array::String(["yes", "no"].into_iter().collect()));
    metadata.set("qwen3.classifier.output_labels", names).unwrap();
    let template = Value::String(template.into());
    metadata.set("tokenizer.chat_template.rerank", template).unwrap();
    let output = ["output.weight", "token_embd.weight"].map(|name| file.tensor(name));
    let output = output.into_iter().flatten().next().unwrap();
    let rows = labels.map(|row| output.row(row).to_vec()).concat();
    let mut specs: Vec<TensorSpec> = file.tensors().iter().map(TensorSpec::from).collect();
    let dims = vec![output.cols() as u64, 2];
    specs.push(TensorSpec { name: "cls.output.weight".into(), dims, format: output.format() });
    let mut bytes = Vec::new();
    let mut writer = Writer::new(&mut bytes, &metadata, &specs).unwrap();
    for tensor in file.tensors() {
        writer.write(tensor.bytes()).unwrap();
    }
    writer.write(&rows).unwrap();
    writer.finish().unwrap();
    Model::from_gguf(Gguf::from_bytes(bytes).unwrap(), &Way::whole().options()).unwrap()
}

#[test]
fn a_decoders_score_is_the_share_of_yes() {
    let labels = [300, 17];
    let model = qwen3_reranker("[INST]Q: {query}\nD: {document}[/INST]", labels);
    let (query, documents) = ("what is {document}?", ["a [/INST] thing", "", "{query}"]);
    let options = EmbedOptions::default();
    let scores = model.rerank(query, &documents, &options).unwrap();
    for (document, Score { score, tokens, .. }) in documents.iter().zip(scores) {
        // What is not the template's is text.
        let (query, document) = (model.mark(query), model.mark(document));
        let prompt = format!("[INST]Q: {query}\nD: {document}[/INST]");
        let ids = model.tokenizer().encode_chat(&Prompt::from_marked(prompt));
        assert_eq!(tokens, ids.len());
        let control = ids.iter().filter(|&&id| model.tokenizer().is_control(id)).count();
        assert_eq!(control, 3, "{ids:?}");
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let logits = session.feed(&ids).unwrap();
        let [yes, no] = labels.map(|label| f64::from(logits[label]));
        let exact = 1.0 / (1.0 + (no - yes).exp());
        assert!((f64::from(score) - exact).abs() < 1e-4, "{score} {exact}");
    }
    assert!(matches!(model.embed(&[[1, 2]], &options).unwrap_err(), Error::Unsupported { .. }));

    // A long document is cut, what the template writes behind it is not.
    let long = ["word ".repeat(200)];
    let few = options.clone().with_num_ctx(64);
    assert!(matches!(model.rerank("q", &long, &few), Err(Error::Limit { .. })));
    let cut = model.rerank("q", &long, &few.with_truncate(true)).unwrap()[0];
    assert_eq!(cut.tokens, 64);
}

#[test]
fn a_template_without_a_place_for_the_document_is_named() {
    let model = qwen3_reranker("{query}", [1, 2]);
    let error = model.rerank("q", &["d"], &EmbedOptions::default()).unwrap_err().to_string();
    assert!(error.contains("tokenizer.chat_template.rerank"), "{error}");
}
