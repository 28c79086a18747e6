//! Answers follow their constraint, whatever runs beside them and however they are computed.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::sync::Arc;

use serde_json::{Value, json};
use tramontane::engine::{Engine, EngineOptions, Reply, Request};
use tramontane::internal::Vocabulary;
use tramontane::{
    Constraint, ContextFull, EncodeOptions, Error, FinishReason, GenerateOptions, Gguf, Model,
    SamplerOptions, SessionOptions, Summary, Tokenizer,
};

fn storyteller() -> Model {
    support::Way::whole().model("../../models/storyteller-q4_k_m.gguf")
}

fn person() -> Constraint {
    Constraint::json_schema(json!({
        "type": "object",
        "properties": {
            "first name": {"type": "string", "maxLength": 12},
            "favourite colour": {"enum": ["red", "green", "blue"]},
            "ages of the children": {
                "type": "array", "items": {"type": "integer", "minimum": 0, "maximum": 99},
                "maxItems": 4,
            },
            "likes ice cream": {"type": "boolean"},
        },
        "required": ["first name", "favourite colour", "ages of the children", "likes ice cream"],
        "additionalProperties": false,
    }))
}

fn constraints() -> Vec<Constraint> {
    vec![
        person(),
        Constraint::json_schema(json!({
            "type": "array", "minItems": 2, "maxItems": 4,
            "items": {"type": "string", "minLength": 3, "maxLength": 20},
        })),
        Constraint::regex("(The (cat|dog) sat\\. ?){3,5}"),
        Constraint::choices(["Once upon a time there was a frog.", "Once there was", "No"]),
        Constraint::lark("start: sentence+\nsentence: \"Tom \" /[a-z ]{1,20}/ \". \"\n"),
    ]
}

fn options(constraint: &Constraint, sampler: SamplerOptions) -> GenerateOptions {
    let options = GenerateOptions::default().with_sampler(sampler).with_num_predict(160);
    options.with_constraint(constraint.clone())
}

fn samplers() -> [SamplerOptions; 3] {
    [
        SamplerOptions::greedy(),
        SamplerOptions::default().with_seed(7).with_temperature(0.9).with_logprobs(true),
        SamplerOptions::default().with_seed(11).with_temperature(1.6).with_top_logprobs(2),
    ]
}

fn requests(model: &Model) -> Vec<Request> {
    let prompt = model.tokenizer().encode("Once upon a time", EncodeOptions::default());
    let all = constraints().into_iter().flat_map(|constraint| {
        samplers().map(|sampler| Request::new(prompt.clone(), options(&constraint, sampler)))
    });
    all.collect()
}

/// All that a client sees of an answer, but its times.
type Seen = (String, Vec<u32>, Vec<String>, Option<FinishReason>);

fn seen(pieces: impl Iterator<Item = tramontane::Result<tramontane::Piece>>) -> Seen {
    let mut seen = Seen::default();
    for piece in pieces {
        let piece = piece.unwrap();
        seen.0 += &piece.text;
        seen.1.push(piece.token);
        seen.2.push(format!("{:?} {:?}", piece.logprob, piece.top_logprobs));
    }
    seen
}

fn alone(model: &Model, request: &Request) -> (Seen, Summary) {
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let mut generation = session.generate_from(&request.prompt, &request.options).unwrap();
    let mut all = seen(generation.by_ref());
    all.3 = generation.summary().finish_reason;
    (all, generation.summary())
}

fn read(mut reply: Reply) -> (Seen, Summary) {
    let mut all = seen(reply.blocking_iter());
    all.3 = reply.summary().finish_reason;
    (all, reply.summary())
}

/// The bits of a constrained answer do not depend on how it is computed.
#[test]
fn answers_are_the_same_alone_among_others_and_with_drafts() {
    let model = storyteller();
    let requests = requests(&model);
    let expected: Vec<Seen> = requests.iter().map(|request| alone(&model, request).0).collect();
    let draft = support::Way { window: Some(24), ..support::Way::whole() }
        .model("../../models/storyteller-q4_k_m.gguf");
    let options = EngineOptions::default().with_num_ctx(512).with_kv_bytes(1 << 30);
    for (name, engine) in [
        ("plain", Engine::new(&model, &options.clone().with_speculate(false)).unwrap()),
        ("lookup", Engine::new(&model, &options).unwrap()),
        ("draft model", Engine::with_draft(&model, &draft, &options).unwrap()),
    ] {
        for (request, expected) in requests.iter().zip(&expected) {
            let first = read(engine.submit(request.clone()).unwrap()).0;
            assert_eq!(&first, expected, "{name}");
        }
        // The prompt is found in the cache now; all run at once, twice.
        let twice = || requests.iter().chain(&requests);
        let replies: Vec<Reply> =
            twice().map(|request| engine.submit(request.clone()).unwrap()).collect();
        for (reply, expected) in replies.into_iter().zip(expected.iter().chain(&expected)) {
            assert_eq!(&read(reply).0, expected, "{name}, together");
        }
    }
}

/// Unconstrained requests beside constrained ones are what they are alone.
#[test]
fn others_are_left_alone() {
    let model = storyteller();
    let prompt = model.tokenizer().encode("Once upon a time", EncodeOptions::default());
    let free = samplers().map(|sampler| {
        let options = GenerateOptions::default().with_sampler(sampler).with_num_predict(60);
        Request::new(prompt.clone(), options)
    });
    let engine = Engine::new(&model, &EngineOptions::default()).unwrap();
    let constrained: Vec<Reply> =
        requests(&model).into_iter().map(|request| engine.submit(request).unwrap()).collect();
    for request in free {
        let expected = alone(&model, &request).0;
        assert_eq!(read(engine.submit(request).unwrap()).0, expected);
    }
    drop(constrained);
}

#[test]
fn texts_are_what_was_asked_for() {
    let model = storyteller();
    let mut ended = 0;
    for request in requests(&model) {
        let (seen, summary) = alone(&model, &request);
        assert_eq!(summary.timings.generated_tokens, seen.1.len());
        if seen.3 != Some(FinishReason::EndOfText) {
            assert_eq!(seen.3, Some(FinishReason::Length), "{seen:?}");
            continue;
        }
        ended += 1;
        let constraint = request.options.constraint.unwrap();
        if constraint == person() {
            let value: Value = serde_json::from_str(&seen.0).unwrap();
            assert!(value["first name"].is_string() && value["likes ice cream"].is_boolean());
        }
        let accepted = tramontane::internal::accepts(&constraint, &[&seen.0]).unwrap();
        assert_eq!(accepted, [true], "{}", seen.0);
    }
    assert!(ended > 10, "{ended}");
}

/// What a schema leaves no choice about is computed together with what comes next.
#[test]
fn forced_tokens_need_no_passes_of_their_own() {
    let model = storyteller();
    let engine = Engine::new(&model, &EngineOptions::default().with_speculate(false)).unwrap();
    let prompt = model.tokenizer().encode("Once upon a time", EncodeOptions::default());
    let request = Request::new(prompt, options(&person(), SamplerOptions::greedy()));
    let (seen, summary) = read(engine.submit(request).unwrap());
    let passes = engine.stats().passes as usize;
    assert_eq!(seen.3, Some(FinishReason::EndOfText), "{}", seen.0);
    assert!(passes * 5 < summary.timings.generated_tokens * 4, "{passes} {summary:?}");
}

/// Among the tokens that are allowed the sampler chooses as among all.
#[test]
fn filters_come_after_the_constraint() {
    let model = storyteller();
    let constraint = Constraint::choices(["Zebra", "Quark"]);
    let sampler = SamplerOptions::default().with_top_k(1).with_min_p(0.9).with_seed(3);
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let options = options(&constraint, sampler);
    let answer = session.generate("Once upon a time", &options).unwrap().wait().unwrap();
    assert!(["Zebra", "Quark"].contains(&&*answer.text), "{}", answer.text);
    assert_eq!(answer.summary.finish_reason, Some(FinishReason::EndOfText));
}

/// Probabilities are those among the tokens that are allowed.
#[test]
fn logprobs_are_of_the_constrained_distribution() {
    let model = storyteller();
    let options = GenerateOptions::default()
        .with_sampler(SamplerOptions::greedy().with_top_logprobs(20))
        .with_constraint(Constraint::regex("[ab]"));
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let pieces: Vec<_> = session.generate("Once", &options).unwrap().map(Result::unwrap).collect();
    let [piece] = pieces.as_slice() else { panic!("{pieces:?}") };
    let sum: f32 = piece.top_logprobs.iter().map(|top| top.logprob.exp()).sum();
    assert_eq!(piece.top_logprobs.len(), 2);
    assert!((sum - 1.0).abs() < 1e-5, "{sum}");
}

/// A shifted context changes what the model sees, not what its answer must be.
#[test]
fn a_constraint_outlives_a_shift() {
    let model = storyteller();
    let constraint = Constraint::json_schema(json!({
        "type": "array", "items": {"enum": ["one small step", "for a man"]}, "minItems": 12,
        "maxItems": 12,
    }));
    let full = ContextFull::Shift { num_keep: 4 };
    let options = options(&constraint, SamplerOptions::greedy()).with_context_full(full);
    let options = options.with_num_predict(400);
    let mut session = model.session(&SessionOptions::default().with_num_ctx(48)).unwrap();
    let answer = session.generate("Once upon a time", &options).unwrap().wait().unwrap();
    assert!(answer.summary.dropped_tokens > 0);
    let value: Value = serde_json::from_str(&answer.text).unwrap();
    assert_eq!(value.as_array().unwrap().len(), 12);

    let engine = Engine::new(&model, &EngineOptions::default().with_num_ctx(48)).unwrap();
    let other = engine.generate("Once upon a time", &options).unwrap().wait().unwrap();
    assert_eq!(other.text, answer.text);
    assert_eq!(other.summary.dropped_tokens, answer.summary.dropped_tokens);
}

/// A session goes on after a constrained answer as after any other.
#[test]
fn a_conversation_goes_on_after_a_constrained_answer() {
    let model = storyteller();
    let constrained = options(&person(), SamplerOptions::greedy());
    let free = GenerateOptions::greedy().with_num_predict(20);
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let text = session.generate("Once upon a time", &constrained).unwrap().wait().unwrap().text;
    let after = session.generate(" Then", &free).unwrap().wait().unwrap().text;
    let tokens = session.tokens().to_vec();
    let mut other = model.session(&SessionOptions::default()).unwrap();
    let mut pieces = other.generate("Once upon a time", &constrained).unwrap();
    let part: String = pieces.by_ref().take(9).map(|piece| piece.unwrap().text).collect();
    drop(pieces);
    assert!(text.starts_with(&part));
    // The first answer again, token by token.
    let mut again = model.session(&SessionOptions::default()).unwrap();
    let (last, prompt) = tokens.split_last().unwrap();
    again.feed(prompt).unwrap();
    let mut copy = again.fork();
    copy.feed(&[*last]).unwrap();
    assert_eq!(copy.tokens(), tokens);
    assert!(!after.is_empty());
    let continued = other.generate("", &free).unwrap().wait().unwrap();
    assert_eq!(continued.summary.timings.generated_tokens, 20);
}

#[test]
fn what_cannot_be_followed_is_refused_before_anything_is_computed() {
    let model = storyteller();
    let engine = Engine::new(&model, &EngineOptions::default()).unwrap();
    let refuse = |schema: Value| {
        let options = GenerateOptions::greedy().with_constraint(Constraint::json_schema(schema));
        let error = engine.generate("Once", &options).unwrap_err();
        let mut session = model.session(&SessionOptions::default()).unwrap();
        let other = session.generate("Once", &options).unwrap_err();
        assert_eq!(error.to_string(), other.to_string());
        error
    };
    let error = refuse(json!({"properties": {"a": {"items": {"not": {"type": "null"}}}}}));
    assert!(matches!(error, Error::Unsupported { .. }), "{error:?}");
    assert!(error.to_string().contains("#/properties/a/items/not"), "{error}");
    let error = refuse(json!({"properties": {"when": {"format": "week", "type": "string"}}}));
    assert!(error.to_string().contains("#/properties/when/format"), "{error}");
    assert!(matches!(refuse(json!({"$ref": "#"})), Error::Misuse(_)));
    assert!(matches!(refuse(json!(7)), Error::Misuse(_)));
    assert_eq!(engine.stats().passes, 0);
}

/// Where nothing may follow, the answer ends as if the model had ended it. A grammar may name a
/// token by its id.
#[test]
fn a_complete_text_ends_the_answer() {
    let model = storyteller();
    let constraint = Constraint::lark("start: \"Tom\" <[3]> \"x\"\n");
    let options = options(&constraint, SamplerOptions::greedy());
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let answer = session.generate("Once", &options).unwrap().wait().unwrap();
    assert_eq!(answer.summary.finish_reason, Some(FinishReason::EndOfText), "{answer:?}");
    let token = model.tokenizer().decode(&[3]);
    assert_eq!(answer.text, format!("Tom{token}x"));
}

/// Markers are shown though other control tokens are not.
#[test]
fn visible_control_tokens_are_part_of_the_text() {
    let model = storyteller();
    let bos = model.tokenizer().bos().unwrap();
    let piece = model.tokenizer().piece(bos).unwrap().to_owned();
    let constraint = Constraint::lark(format!("start: \"Tom\" <[{bos}]> \" ran\"\n"));
    let options = options(&constraint, SamplerOptions::greedy());
    let mut session = model.session(&SessionOptions::default()).unwrap();
    let hidden = session.generate("Once", &options).unwrap().wait().unwrap();
    assert_eq!(hidden.text, "Tom ran");
    session.clear();
    let options = options.with_visible(vec![bos]);
    let shown = session.generate("Once", &options).unwrap().wait().unwrap();
    assert_eq!(shown.text, format!("Tom{piece} ran"));
}

/// The tokens that a tokenizer makes of an allowed text are allowed, in every kind of
/// vocabulary; many are forced.
#[test]
fn tokens_of_allowed_texts_are_allowed() {
    let schema = Constraint::json_schema(json!({
        "type": "object",
        "properties": {
            "full_name": {"type": "string"},
            "yearOfBirth": {"type": "integer"},
            "status": {"enum": ["single", "married"]},
        },
        "required": ["full_name", "yearOfBirth", "status"],
        "additionalProperties": false,
    }));
    let object =
        r#"{"full_name": "Zoë \"Æ\" Müller 🎈", "yearOfBirth": 1984, "status": "married"}"#;
    let lines = object.replace(", \"", ",\n  \"").replace('{', "{\n  ").replace('}', "\n}");
    let compact = object.replace(": ", ":").replace(", \"", ",\"");
    for name in ["llama-spm", "llama-bpe", "phi-3", "qwen2", "mistral-v1", "mistral-v3"] {
        let file = Gguf::open(support::data(&format!("vocab/ggml-vocab-{name}.gguf"))).unwrap();
        let tokenizer = Arc::new(Tokenizer::from_gguf(file.metadata()).unwrap());
        let vocabulary = Vocabulary::new(tokenizer.clone()).unwrap();
        let before = tokenizer.encode("x", EncodeOptions::default());
        for text in [object, &lines, &compact] {
            let tokens = tokenizer.encode_after(&before, text);
            let (taken, forced) = vocabulary.follow(&schema, &tokens).unwrap();
            let rest = tokenizer.decode(&tokens[taken..]);
            assert_eq!(taken, tokens.len(), "{name}: {text}, but for {rest:?}");
            assert!(forced >= 5, "{name}: {forced} of {taken}");
        }
        let choice = Constraint::choices(["the whole of this text is forced", "no"]);
        let tokens = tokenizer.encode_after(&before, "the whole of this text is forced");
        let (taken, forced) = vocabulary.follow(&choice, &tokens).unwrap();
        assert_eq!((taken, forced), (tokens.len(), tokens.len() - 1), "{name}");
    }
}
