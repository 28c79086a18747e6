//! Typed answers and functions, with the built-in model: its answers have the form that the
//! schemas give them, and nothing else is asked of it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

use std::sync::{Arc, Mutex, OnceLock};

use schemars::JsonSchema;
use serde::Deserialize;
use tramontane::{
    Bounded, Chat, Engine, Error, FinishReason, GenerateOptions, Message, Model, Session,
    ToolChoice, ToolEvent, ToolOptions, ToolSet,
};

fn model() -> Model {
    static MODEL: OnceLock<Model> = OnceLock::new();
    MODEL.get_or_init(|| Model::open("models/storyteller-q4_k_m.gguf").unwrap()).clone()
}

fn session() -> Session {
    model().session(&Default::default()).unwrap()
}

fn chat() -> Chat {
    Chat::new([Message::user("Tell me about a dog.")])
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum Toy {
    Ball { size: u8 },
    Doll { dress: Colour },
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
enum Colour {
    Red,
    Blue,
}

#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
struct Dog {
    #[schemars(length(min = 1, max = 10))]
    name: String,
    age: Option<u8>,
    #[schemars(length(max = 3))]
    toys: Vec<Toy>,
}

#[derive(Debug, Deserialize, JsonSchema)]
struct Add {
    a: u16,
    b: u16,
}

fn tools() -> ToolSet {
    ToolSet::new()
        .with("add", "Adds two numbers", |args: Add| {
            Ok::<_, String>(u32::from(args.a) + u32::from(args.b))
        })
        .with("fail", "Fails", |(): ()| Err::<(), _>("it is broken"))
}

fn one_call(name: &str) -> ToolOptions {
    ToolOptions::default()
        .with_first(ToolChoice::Function(name.into()))
        .with_parallel(false)
        .with_generate(GenerateOptions::greedy().with_num_predict(200))
}

#[test]
fn an_answer_is_a_value_of_the_type() {
    let options = GenerateOptions::greedy();
    let dog: Dog = session().extract(&chat(), &options).unwrap();
    assert!((1..=10).contains(&dog.name.chars().count()), "{dog:?}");
    assert!(dog.toys.len() <= 3, "{dog:?}");
    let engine = Engine::new(&model(), &Default::default()).unwrap();
    assert_eq!(engine.extract::<Dog>(&chat(), &options).unwrap(), dog);
    // Lively answers are too.
    for seed in 0..5 {
        let lively = GenerateOptions::default().with_temperature(1.5).with_seed(seed);
        session().extract::<Dog>(&chat(), &lively).unwrap();
    }
}

#[test]
fn a_cut_answer_is_an_error_with_its_text() {
    let whole = GenerateOptions::greedy();
    let error = session().extract::<Dog>(&chat(), &whole.clone().with_num_predict(4)).unwrap_err();
    let Error::Answer { text, cut: true, .. } = &error else { panic!("{error:?}") };
    assert!(text.starts_with('{') && !text.contains('}'), "{text}");
    assert!(error.to_string().contains("4 tokens"), "{error}");
}

#[test]
fn an_answer_of_the_assistant_is_not_gone_on_with() {
    let mut chat = chat();
    chat.push(Message::assistant("Once"));
    let error = session().extract::<Dog>(&chat, &GenerateOptions::greedy()).unwrap_err();
    assert!(matches!(error, Error::Misuse(_)), "{error:?}");
}

#[test]
fn calls_are_run_and_their_results_are_answered() {
    let (mut seen, mut first) = (Vec::new(), chat());
    let run = session()
        .run_tools(&mut first, &tools(), &one_call("add"), |event| match event {
            ToolEvent::Call(call) => seen.push(format!("call {}", call.name())),
            ToolEvent::Result(call, result) => {
                let Add { a, b } = serde_json::from_value(call.arguments()).unwrap();
                assert_eq!(*result, u32::from(a) + u32::from(b));
                seen.push("result".into());
            }
            _ => {}
        })
        .unwrap();
    assert_eq!((run.rounds, run.calls), (2, 1));
    assert_eq!(seen, ["call add", "result"]);
    let roles: Vec<&str> = first.messages.iter().map(Message::role).collect();
    assert_eq!(roles, ["user", "assistant", "tool", "assistant"]);
    let calls = first.messages[1].tool_calls();
    assert_eq!(first.messages[2].get("tool_call_id").unwrap(), calls[0].id().unwrap());
    assert_eq!(first.messages[2].tool_name(), Some("add"));
    assert_eq!(first.messages[3].content(), run.text);
    assert!(!run.text.is_empty());
    // The engine does the same.
    let mut second = chat();
    let engine = Engine::new(&model(), &Default::default()).unwrap();
    let again = engine.run_tools(&mut second, &tools(), &one_call("add"), |_| {}).unwrap();
    assert_eq!((again.text, &second), (run.text, &first));
}

#[test]
fn events_have_the_whole_text() {
    let text = Arc::new(Mutex::new(String::new()));
    let options = one_call("add").with_first(ToolChoice::None);
    let mut chat = chat();
    let run = session()
        .run_tools(&mut chat, &tools(), &options, |event| {
            if let ToolEvent::Text(more) = event {
                *text.lock().unwrap() += more;
            }
        })
        .unwrap();
    assert_eq!((run.rounds, run.calls), (1, 0));
    assert_eq!(*text.lock().unwrap(), run.text);
}

#[test]
fn what_a_function_says_is_wrong_is_its_result() {
    let mut chat = chat();
    session().run_tools(&mut chat, &tools(), &one_call("fail"), |_| {}).unwrap();
    assert_eq!(chat.messages[2].content(), r#"{"error":"it is broken"}"#);
}

#[test]
fn a_choice_of_no_function_is_refused() {
    let mut chat = chat();
    let error = session().run_tools(&mut chat, &tools(), &one_call("nobody"), |_| {}).unwrap_err();
    assert!(matches!(&error, Error::Misuse(text) if text.contains("nobody")), "{error:?}");
    assert_eq!(chat.messages.len(), 1);
}

#[test]
fn the_rounds_are_bounded_and_the_chat_keeps_them() {
    let mut chat = chat();
    let options = one_call("add").with_max_rounds(1);
    let error = session().run_tools(&mut chat, &tools(), &options, |_| {}).unwrap_err();
    assert!(matches!(error, Error::Limit { what: Bounded::Rounds, allowed: 1, .. }), "{error:?}");
    let roles: Vec<&str> = chat.messages.iter().map(Message::role).collect();
    assert_eq!(roles, ["user", "assistant", "tool"]);
    // It can be gone on with.
    let options = one_call("add").with_first(ToolChoice::None);
    let run = session().run_tools(&mut chat, &tools(), &options, |_| {}).unwrap();
    assert_eq!(run.calls, 0);
}

#[test]
fn a_cancelled_answer_ends_the_loop_and_its_calls_are_not_run() {
    for cancel_at in ["round", "call"] {
        let mut chat = chat();
        let mut canceller = None;
        let run = session()
            .run_tools(&mut chat, &tools(), &one_call("add"), |event| match event {
                ToolEvent::Round(round) if cancel_at == "round" => round.cancel(),
                ToolEvent::Round(round) => canceller = Some(round),
                ToolEvent::Call(_) => canceller.take().unwrap().cancel(),
                ToolEvent::Result(..) => panic!("a call was run"),
                _ => {}
            })
            .unwrap();
        assert_eq!(run.calls, 0, "{cancel_at}");
        assert_eq!(run.summary.finish_reason, Some(FinishReason::Cancelled), "{cancel_at}");
        assert_eq!(chat.messages.len(), 1, "{cancel_at}");
    }
}
