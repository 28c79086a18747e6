//! Embeddings: the right rows, the same bits however they are computed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use support::{Way, bits, ways};
use tramontane::{EmbedOptions, Embedding, EncodeOptions, Error, Model, Pooling, SessionOptions};

const STORYTELLER: &str = "../../models/storyteller-q4_k_m.gguf";

fn storyteller() -> Model {
    Way::whole().model(STORYTELLER)
}

fn raw(pooling: Pooling) -> EmbedOptions {
    EmbedOptions::default().with_pooling(pooling).with_normalize(false)
}

/// Texts of 1 to some hundred tokens, more of them than one pass takes.
fn inputs(model: &Model) -> Vec<Vec<u32>> {
    let story = std::fs::read_to_string(support::data("corpora/tinystories-val.txt")).unwrap();
    let tokens = model.tokenizer().encode(&story[..12_000], EncodeOptions::default());
    let mut rest = &tokens[..];
    (0..40)
        .map(|i| {
            let input;
            (input, rest) = rest.split_at([1, 5, 17, 64, 130][i % 5]);
            input.to_vec()
        })
        .collect()
}

fn vector_bits(embeddings: &[Embedding]) -> Vec<Vec<u32>> {
    embeddings.iter().map(|embedding| bits(&embedding.vector)).collect()
}

#[test]
fn the_output_matrix_makes_logits_of_the_last_state() {
    let model = Way::whole().model("models/stories260K.gguf");
    let tokens = &model.tokenizer().encode("Once upon a time, there", EncodeOptions::default());
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let logits = session.feed(tokens).unwrap().to_vec();
    let state = model.embed(&[tokens], &raw(Pooling::Last)).unwrap().remove(0);
    assert_eq!(state.tokens, tokens.len());
    let names = ["output.weight", "token_embd.weight"];
    let matrix = names.iter().find_map(|name| model.file().tensor(name)).unwrap();
    let matrix = matrix.to_f32().unwrap();
    assert_eq!(matrix.len(), logits.len() * state.vector.len());
    for (row, logit) in matrix.chunks_exact(state.vector.len()).zip(logits) {
        let exact: f64 =
            row.iter().zip(&state.vector).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum();
        assert!((exact - f64::from(logit)).abs() < 1e-4, "{exact} ≠ {logit}");
    }
}

#[test]
fn the_mean_is_the_mean_of_the_rows_and_cls_the_first() {
    let model = storyteller();
    let input = &inputs(&model)[2];
    let prefixes: Vec<&[u32]> = (1..=input.len()).map(|len| &input[..len]).collect();
    let rows = model.embed(&prefixes, &raw(Pooling::Last)).unwrap();
    let mean: Vec<f32> = (0..rows[0].vector.len())
        .map(|i| rows.iter().map(|row| f64::from(row.vector[i])).sum::<f64>() / rows.len() as f64)
        .map(|mean| mean as f32)
        .collect();
    assert_eq!(model.embed(&[input], &raw(Pooling::Mean)).unwrap()[0].vector, mean);
    assert_eq!(model.embed(&[input], &raw(Pooling::Cls)).unwrap()[0].vector, rows[0].vector);
    // The storyteller's file names no pooling.
    let default = EmbedOptions::default().with_normalize(false);
    let last = &rows[rows.len() - 1].vector;
    assert_eq!(&model.embed(&[input], &default).unwrap()[0].vector, last);
}

#[test]
fn many_together_equal_each_alone_in_any_passes() {
    let model = storyteller();
    let inputs = inputs(&model);
    for pooling in [Pooling::Mean, Pooling::Last] {
        let alone: Vec<Embedding> = inputs
            .iter()
            .map(|input| model.embed(&[input], &raw(pooling)).unwrap().remove(0))
            .collect();
        for (input, embedding) in inputs.iter().zip(&alone) {
            assert_eq!(embedding.tokens, input.len());
        }
        for num_batch in [1, 7, 512] {
            let options = raw(pooling).with_num_batch(num_batch);
            let together = model.embed(&inputs, &options).unwrap();
            assert_eq!(vector_bits(&together), vector_bits(&alone), "num_batch {num_batch}");
        }
    }
}

#[test]
fn the_same_bits_for_every_instruction_set_and_threads() {
    let reference = storyteller();
    let inputs = &inputs(&reference)[..5];
    let expected = vector_bits(&reference.embed(inputs, &raw(Pooling::Mean)).unwrap());
    for way in ways(&[1], None) {
        let embeddings = way.model(STORYTELLER).embed(inputs, &raw(Pooling::Mean)).unwrap();
        assert_eq!(vector_bits(&embeddings), expected, "{way:?}");
    }
}

#[test]
fn normalized_vectors_point_the_same_way_with_length_1() {
    let model = storyteller();
    let inputs = inputs(&model);
    let whole = model.embed(&inputs, &raw(Pooling::Last)).unwrap();
    let unit = model.embed(&inputs, &EmbedOptions::default()).unwrap();
    let length = |x: &[f32]| x.iter().map(|&x| f64::from(x).powi(2)).sum::<f64>().sqrt();
    for (whole, unit) in whole.iter().zip(&unit) {
        assert!((length(&unit.vector) - 1.0).abs() < 1e-6);
        let scale = length(&whole.vector);
        assert!(scale > 2.0, "the test is blind: states of length {scale}");
        for (a, b) in whole.vector.iter().zip(&unit.vector) {
            assert!((f64::from(*a) / scale - f64::from(*b)).abs() < 1e-6);
        }
    }
}

#[test]
fn long_inputs_are_refused_or_cut() {
    let model = storyteller();
    let input = &inputs(&model)[3];
    let refused = raw(Pooling::Mean).with_num_ctx(10);
    assert!(matches!(
        model.embed(&[input], &refused),
        Err(Error::Limit { needed: 64, allowed: 10, .. })
    ));
    let cut = refused.clone().with_truncate(true);
    let cut = model.embed(&[input], &cut).unwrap();
    assert_eq!(cut[0].tokens, 10);
    assert_eq!(cut, model.embed(&[&input[..10]], &refused).unwrap());
}

#[test]
fn mistakes_name_the_input() {
    let model = storyteller();
    let none: [Vec<u32>; 0] = [];
    assert_eq!(model.embed(&none, &EmbedOptions::default()).unwrap(), []);
    let problem = |inputs: &[Vec<u32>], options: &EmbedOptions| match model.embed(inputs, options) {
        Err(Error::Misuse(problem)) => problem,
        other => panic!("{other:?}"),
    };
    let options = EmbedOptions::default();
    assert!(problem(&[vec![1], vec![]], &options).contains("input 1 is empty"));
    let outside = model.n_vocab() as u32;
    assert!(problem(&[vec![1, outside]], &options).contains("outside the vocabulary"));
    let zero = EmbedOptions::default().with_num_ctx(0);
    assert!(problem(&[vec![1]], &zero).contains("num_ctx"));
    let zero = EmbedOptions::default().with_num_batch(0);
    assert!(problem(&[vec![1]], &zero).contains("num_batch"));
}
