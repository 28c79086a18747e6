//! Really trained models: golden texts and perplexities.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]
#![allow(clippy::print_stdout, reason = "the figures are worth reading")]

mod support;

use serde_json::Value;
use support::exact::{self, Context};
use support::{Way, argmax, data, distance, ids, json, log_softmax};
use tramontane::{
    EncodeOptions, GenerateOptions, Gguf, KvType, Model, SamplerOptions, Session, SessionOptions,
};

fn f32_session(model: &Model) -> Session {
    let options = SessionOptions::default().with_kv_type(KvType::F32);
    model.session(&options).unwrap()
}

/// Greedy continuation, token for token, up to the first step whose best two
/// golden logits are closer than 0.005.
fn greedy(model: &Model, golden: &Value, margins: &[f64]) {
    let prompt = ids(&golden["prompt_ids"]);
    let expected = ids(&golden["greedy_ids"]);
    let decided = margins.iter().position(|&m| m < 0.005).unwrap_or(expected.len());
    let options =
        GenerateOptions::default().with_sampler(SamplerOptions::greedy()).with_num_predict(decided);
    let mut session = f32_session(model);
    let pieces = session.generate_from(&prompt, &options).unwrap();
    let ours: Vec<u32> = pieces.map(|piece| piece.unwrap().token).collect();
    assert_eq!(ours, expected[..decided], "after {:?}", golden["prompt"]);
    println!("{:?}: {decided} of {} tokens decided and equal", golden["prompt"], expected.len());
}

/// llama.cpp's method: chunks of `ctx` tokens, BOS in front of each, the second
/// half of every chunk counts.
fn perplexity(model: &Model, text: &str, ctx: usize, chunks: usize) -> f64 {
    let mut tokens = model.tokenizer().encode(text, EncodeOptions::default());
    assert!(tokens.len() >= ctx * chunks, "{} tokens", tokens.len());
    let mut session = f32_session(model);
    let (mut sum, mut count) = (0.0, 0usize);
    for chunk in tokens.chunks_exact_mut(ctx).take(chunks) {
        chunk[0] = model.tokenizer().bos().unwrap();
        session.clear();
        let logits = session.evaluate(chunk).unwrap();
        for (row, &next) in logits.chunks(model.n_vocab()).zip(&chunk[1..]).skip(ctx / 2) {
            sum -= log_softmax(row)[next as usize];
            count += 1;
        }
    }
    (sum / count as f64).exp()
}

fn text(name: &str) -> String {
    let bytes = std::fs::read(data(name)).unwrap();
    // The file was cut at a byte: the last character may be incomplete.
    String::from_utf8_lossy(&bytes).into_owned()
}

fn close(name: &str, ours: f64, golden: f64, tolerance: f64) {
    let off = ours / golden - 1.0;
    println!("{name}: perplexity {ours:.4}, golden {golden:.4}, {:+.4} %", off * 100.0);
    assert!(off.abs() <= tolerance, "{name}: {ours} against {golden}");
}

#[test]
fn stories260k_writes_the_golden_texts() {
    let model = Way::whole().model("models/stories260K.gguf");
    for golden in
        json("models/stories260K.golden.json")["stories260K"]["prompts"].as_array().unwrap()
    {
        let steps = golden["top5_per_step"].as_array().unwrap();
        let logit = |step: &Value, rank: usize| step[rank][1].as_f64().unwrap();
        let margins: Vec<f64> = steps.iter().map(|s| logit(s, 0) - logit(s, 1)).collect();
        greedy(&model, golden, &margins);
        let prompt = golden["prompt"].as_str().unwrap();
        let encoded = model.tokenizer().encode(prompt, EncodeOptions::default());
        assert_eq!(encoded, ids(&golden["prompt_ids"]));
    }
}

#[test]
fn stories260k_perplexity() {
    let model = Way::whole().model("models/stories260K.gguf");
    let stories = text("corpora/tinystories-val.txt");
    close("ctx 128", perplexity(&model, &stories, 128, 100), 3.9403, 1e-3);
    close("ctx 512", perplexity(&model, &stories, 512, 100), 3.8666, 1e-3);
    close("wiki", perplexity(&model, &text("corpora/wiki.test.raw"), 128, 40), 111.6213, 1e-3);
}

#[test]
fn stories260k_likelihood_of_every_token() {
    let golden = &json("models/stories260K.golden.json")["stories260K"]["teacher_forced"];
    let model = Way::whole().model("models/stories260K.gguf");
    let tokens = ids(&golden["ids"]);
    let logits = Way::whole().logits(&model, &tokens);
    let expected = golden["nll_per_token"].as_array().unwrap();
    for (position, expected) in expected.iter().enumerate() {
        let row = &logits[position * model.n_vocab()..(position + 1) * model.n_vocab()];
        let ours = -log_softmax(row)[tokens[position + 1] as usize];
        assert!((ours - expected.as_f64().unwrap()).abs() < 1e-3, "position {position}: {ours}");
    }
}

fn storyteller(kind: &str) -> Model {
    match kind {
        "f16" => Way::whole().model("storyteller/twin-f16.gguf"),
        _ => Way::whole().model("../../models/storyteller-q4_k_m.gguf"),
    }
}

fn storyteller_golden(list: &str) -> Vec<Value> {
    json("storyteller/golden.json")[list].as_array().unwrap().clone()
}

/// The weights of the built-in model, rounded to half precision, with the golden prompts and
/// the window that the file names:
/// every logit is that of the float64 pass, and the greedy texts are equal up to the first
/// step whose best two exact logits are closer than 0.005.
#[test]
fn storyteller_f16_writes_what_the_float64_pass_writes() {
    let model = storyteller("f16");
    let file = Gguf::open(data("storyteller/twin-f16.gguf")).unwrap();
    for golden in storyteller_golden("prompts") {
        let prompt = ids(&golden["prompt_ids"]);
        let options =
            GenerateOptions::default().with_sampler(SamplerOptions::greedy()).with_num_predict(200);
        let mut session = f32_session(&model);
        let pieces = session.generate_from(&prompt, &options).unwrap();
        let ours: Vec<u32> = pieces.map(|piece| piece.unwrap().token).collect();
        let tokens = [&prompt[..], &ours].concat();
        let exact = exact::logits(&file, &tokens, Context { long: false, window: Some(128) });
        let error = distance(&exact, &Way::whole().logits(&model, &tokens), model.n_vocab());
        assert!(error.max <= 1e-3, "after {:?}: {error:?}", golden["prompt"]);
        let rows = exact.chunks(model.n_vocab()).skip(prompt.len() - 1);
        let decided = rows.clone().position(|row| margin(row) < 0.005).unwrap_or(ours.len());
        let expected: Vec<u32> = rows.map(argmax).take(decided).collect();
        assert!(ours.starts_with(&expected), "after {:?}", golden["prompt"]);
        println!("{:?}: {error:?}, {decided} of {} tokens decided", golden["prompt"], ours.len());
    }
}

/// How far the best logit is from the second.
fn margin(logits: &[f32]) -> f32 {
    let best = argmax(logits) as usize;
    let others = logits.iter().enumerate().filter(|&(id, _)| id != best);
    logits[best] - others.map(|(_, &logit)| logit).fold(f32::NEG_INFINITY, f32::max)
}

#[test]
fn storyteller_perplexity() {
    let stories = text("corpora/tinystories-val.txt");
    let model = storyteller("q4_k_m");
    for golden in storyteller_golden("perplexity") {
        let (ctx, chunks) = (golden["ctx"].as_u64().unwrap(), golden["chunks"].as_u64().unwrap());
        let ours = perplexity(&model, &stories, ctx as usize, chunks as usize);
        close(&format!("storyteller ctx {ctx}"), ours, golden["ppl"].as_f64().unwrap(), 5e-3);
    }
}

/// Along the golden text, wherever its best two logits are 0.3 apart, the golden
/// token is our first choice too.
#[test]
fn storyteller_q4_k_m_agrees_where_the_golden_text_is_decided() {
    let model = storyteller("q4_k_m");
    for golden in storyteller_golden("prompts") {
        let (prompt, greedy) = (ids(&golden["prompt_ids"]), ids(&golden["greedy_ids"]));
        let steps = greedy.len().min(100);
        let tokens = [&prompt[..], &greedy[..steps]].concat();
        let logits = Way::whole().logits(&model, &tokens);
        let rows = logits.chunks(model.n_vocab()).skip(prompt.len() - 1);
        let mut decided = 0;
        for (step, row) in rows.take(steps).enumerate() {
            if golden["margins"][step].as_f64().unwrap() > 0.3 {
                assert_eq!(argmax(row), greedy[step], "step {step} of {:?}", golden["prompt"]);
                decided += 1;
            }
        }
        assert!(decided > steps / 2, "{decided} of {steps} steps decided");
    }
}
