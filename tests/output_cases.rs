//! Model outputs of every family, and what is found in them: the same in whatever pieces
//! they come.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use serde_json::Value;
use support::data;
use tramontane::{OutputEvent, OutputSyntax, Tool, ToolCall};

/// What an answer was taken apart into.
#[derive(Debug, Clone, PartialEq, Default)]
struct Answer {
    content: String,
    thinking: String,
    calls: Vec<ToolCall>,
}

fn cases() -> Value {
    let packed = std::fs::File::open(data("toolcalls/cases.json.xz")).unwrap();
    serde_json::from_reader(lzma_rust2::XzReader::new(packed, false)).unwrap()
}

/// What templates of a family show besides its tokens.
fn extra(family: &str) -> &'static str {
    match family {
        "functionary-v3.2" => ">>>all",
        "gemma-pythonic" => "```tool_code",
        "granite" => "<think></think><response></response>",
        _ => "",
    }
}

fn syntax(family: &str, tokens: &Value) -> OutputSyntax {
    let tokens = tokens.as_array().unwrap().iter().map(|token| token.as_str().unwrap());
    OutputSyntax::by_markers(&(tokens.collect::<String>() + extra(family)))
}

fn parsed<'t>(
    syntax: &OutputSyntax,
    tools: &[Tool],
    opens_with: &str,
    cut: bool,
    pieces: impl Iterator<Item = &'t str>,
) -> Answer {
    let mut parser = syntax.parser(tools, opens_with);
    let mut answer = Answer::default();
    let mut take = |events: Vec<OutputEvent>| {
        for event in events {
            match event {
                OutputEvent::Text(text) => answer.content.push_str(&text),
                OutputEvent::Thinking(text) => answer.thinking.push_str(&text),
                OutputEvent::Call(call) => answer.calls.push(call),
                other => panic!("{other:?}"),
            }
        }
    };
    for piece in pieces {
        take(parser.push(piece));
    }
    take(parser.finish(cut));
    answer
}

/// A text in pieces whose lengths `length` gives.
fn pieces(text: &str, mut length: impl FnMut() -> usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let mut at = length().min(rest.len());
        while !rest.is_char_boundary(at) {
            at += 1;
        }
        let (piece, behind) = rest.split_at(at);
        pieces.push(piece);
        rest = behind;
    }
    pieces
}

fn random(seed: u64) -> impl FnMut() -> usize {
    let mut state = seed;
    move || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % 24 + 1
    }
}

fn words(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Numbers by value, keys in any order.
fn same(one: &Value, other: &Value) -> bool {
    match (one, other) {
        (Value::Number(a), Value::Number(b)) => a == b || a.as_f64() == b.as_f64(),
        (Value::Array(a), Value::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b))
        }
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(key, a)| b.get(key).is_some_and(|b| same(a, b)))
        }
        _ => one == other,
    }
}

#[test]
fn every_case_is_taken_apart_as_its_family_means_it() {
    let all = cases();
    let mut wrong = Vec::new();
    for case in all["cases"].as_array().unwrap() {
        let name = case["id"].as_str().unwrap();
        let family = case["family"].as_str().unwrap();
        let syntax = syntax(family, &all["marker_tokens"][family]);
        let declared = case["tools"].as_array().unwrap().iter();
        let tools: Vec<Tool> =
            declared.map(|tool| Tool::from(all["tools"][tool.as_str().unwrap()].clone())).collect();
        let text = case["text"].as_str().unwrap();
        let opens_with = case["opens_with"].as_str().unwrap_or_default();
        let cut = case["stop"] == "length";
        let whole = parsed(&syntax, &tools, opens_with, cut, [text].into_iter());
        let expect = &case["expect"];
        let calls = expect["tool_calls"].as_array().unwrap();
        let agree = whole.calls.len() == calls.len()
            && whole.calls.iter().zip(calls).all(|(call, expected)| {
                call.name() == expected["name"].as_str().unwrap()
                    && same(&call.arguments(), &expected["arguments"])
            });
        if words(&whole.content) != words(expect["content"].as_str().unwrap())
            || words(&whole.thinking) != words(expect["thinking"].as_str().unwrap())
            || !agree
        {
            wrong.push(format!("{name}: {text:?} became {whole:?}"));
        }
        for seed in 0..12 {
            let mut by_chance = random(seed);
            let length = || if seed == 0 { 1 } else { by_chance() };
            let pieces = pieces(text, length);
            let again = parsed(&syntax, &tools, opens_with, cut, pieces.into_iter());
            assert_eq!(again, whole, "{name}, pieces {seed}");
        }
    }
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert_eq!(all["cases"].as_array().unwrap().len(), 157);
}
