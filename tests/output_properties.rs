//! Outputs that no family writes on purpose: nothing of them is lost, pieces do not matter,
//! and long ones take no longer than their length.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

use std::time::{Duration, Instant};

use proptest::collection::vec;
use proptest::prelude::*;
use serde_json::json;
use tramontane::{OutputEvent, OutputSyntax, Tool};

/// Markers by family: what a template of it shows.
const FAMILIES: [&str; 12] = [
    "[TOOL_CALLS][ARGS][CALL_ID][THINK][/THINK]",
    "<|python_tag|><|eom_id|><|eot_id|>",
    "<tool_call></tool_call><think></think>",
    "<|tool_call|><tool_call><think></think><response></response>",
    "<|tool_call|><|/tool_call|>functools[",
    "<|channel|><|message|><|start|><|end|><|call|>",
    "<｜tool▁calls▁begin｜><think></think>",
    "<|START_THINKING|><|END_THINKING|><|START_ACTION|><|START_RESPONSE|><|END_RESPONSE|>",
    "<|tool_call_start|><think></think>",
    "<function=",
    ">>>all",
    "```tool_code",
];

/// Pieces that outputs are made of; `@` is a word that occurs once.
const FRAGMENTS: [&str; 84] = [
    "@",
    "@ ",
    " @\n",
    "\n",
    " ",
    "{",
    "}",
    "[",
    "]",
    "\"",
    ",",
    ";",
    ":",
    "```",
    "```json\n",
    "'",
    "(",
    ")",
    "\\",
    "é",
    "<",
    "<|",
    "[TOOL",
    "all\n",
    "now\n",
    "now",
    "now(",
    "to=functions.now",
    "to=functions.now<|channel|>commentary json<|message|>",
    "assistant",
    "analysis",
    "json",
    "{\"name\": \"now\"}",
    "{\"name\": \"now\", \"arguments\": {\"@\": \"@\"}}",
    "{\"@\": \"@\"}",
    "{\"name\": \"@\", \"arguments\": {}}",
    "{\"arguments\": {\"@\": [1, {\"@\": null}]}, \"name\":",
    " \"now\"}",
    "{\"name\": \"now\", \"arguments\": {\"@\": \"@",
    "now(@=1, b='@')",
    "now[ARGS]{}",
    "[{\"name\": \"now\", \"arguments\": \"{}\"}, ",
    "function=now>",
    "{'name': 'now'}",
    "code",
    "<parameter=@>\n@\n</parameter>",
    "<parameter=@>",
    "</parameter>",
    "</function>",
    ">>>",
    "<function=now>",
    "<function=",
    "[TOOL_CALLS]",
    "[ARGS]",
    "[CALL_ID]",
    "[THINK]",
    "[/THINK]",
    "<|python_tag|>",
    "<|eom_id|>",
    "now.call(@=\"@\")",
    "<tool_call>",
    "</tool_call>",
    "<think>",
    "</think>",
    "<|tool_call|>",
    "<|/tool_call|>",
    "functools",
    "<response>",
    "</response>",
    "<|channel|>",
    "<|message|>",
    "<|start|>",
    "<|end|>",
    "<|call|>",
    "<｜tool▁calls▁begin｜>",
    "<｜tool▁call▁begin｜>function<｜tool▁sep｜>now\n```json\n{}\n```<｜tool▁call▁end｜>",
    "<｜tool▁call▁begin｜>",
    "<｜tool▁sep｜>",
    "<｜tool▁calls▁end｜>",
    "<|START_ACTION|>",
    "<|END_ACTION|>",
    "<|START_THINKING|>",
    "<|tool_call_start|>[",
    "Action: ```json",
];

fn tools() -> Vec<Tool> {
    let code = json!({"type": "object", "properties": {"code": {"type": "string"}}});
    vec![Tool::function("now", "", json!({"type": "object"})), Tool::function("python", "", code)]
}

/// The output of some fragments, and its words.
fn output(fragments: &[usize]) -> (String, Vec<String>) {
    let (mut text, mut words) = (String::new(), Vec::new());
    for fragment in fragments {
        for (index, part) in FRAGMENTS[*fragment].split('@').enumerate() {
            if index > 0 {
                words.push(format!("w{}w", words.len()));
                text.push_str(words.last().unwrap());
            }
            text.push_str(part);
        }
    }
    (text, words)
}

/// Everything of an answer, neighbouring texts joined.
fn parsed<'t>(
    syntax: &OutputSyntax,
    tools: &[Tool],
    cut: bool,
    pieces: impl Iterator<Item = &'t str>,
) -> Vec<OutputEvent> {
    let mut parser = syntax.parser(tools, "");
    let mut events: Vec<OutputEvent> = pieces.flat_map(|piece| parser.push(piece)).collect();
    events.extend(parser.finish(cut));
    let mut joined: Vec<OutputEvent> = Vec::new();
    for event in events {
        match (joined.last_mut(), event) {
            (Some(OutputEvent::Text(all)), OutputEvent::Text(more))
            | (Some(OutputEvent::Thinking(all)), OutputEvent::Thinking(more)) => {
                all.push_str(&more)
            }
            (_, event) => joined.push(event),
        }
    }
    joined
}

fn shown(events: &[OutputEvent]) -> String {
    let one = |event: &OutputEvent| match event {
        OutputEvent::Text(text) | OutputEvent::Thinking(text) => text.clone(),
        OutputEvent::Call(call) => call.as_json().to_string(),
        other => panic!("{other:?}"),
    };
    events.iter().map(one).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(3000))]

    #[test]
    fn no_word_is_lost_and_pieces_do_not_matter(
        family in 0..FAMILIES.len(),
        fragments in vec(0..FRAGMENTS.len(), 0..14),
        lengths in vec(1..20_usize, 1..12),
        cut: bool,
        declared: bool,
    ) {
        let syntax = OutputSyntax::by_markers(FAMILIES[family]);
        let tools = if declared { tools() } else { Vec::new() };
        let (text, words) = output(&fragments);
        let whole = parsed(&syntax, &tools, cut, [text.as_str()].into_iter());
        let calls = whole.iter().filter(|event| matches!(event, OutputEvent::Call(_))).count();
        prop_assert!(declared || calls == 0);
        let shown = shown(&whole);
        for word in &words {
            prop_assert!(shown.contains(word.as_str()), "{word} of {text:?} is not in {whole:?}");
        }
        let chars = text.split_inclusive(|_| true);
        prop_assert_eq!(&parsed(&syntax, &tools, cut, chars), &whole, "{:?}", text);
        let mut pieces = Vec::new();
        let (mut rest, mut lengths) = (text.as_str(), lengths.iter().cycle());
        while !rest.is_empty() {
            let at = rest.ceil_char_boundary(*lengths.next().unwrap());
            pieces.push(&rest[..at]);
            rest = &rest[at..];
        }
        prop_assert_eq!(&parsed(&syntax, &tools, cut, pieces.into_iter()), &whole, "{:?}", text);
    }
}

/// Long outputs that are read in vain. With steps in the square of the length this would take
/// many minutes.
#[test]
fn hostile_outputs_take_time_by_their_length() {
    let begun = Instant::now();
    for family in FAMILIES {
        let syntax = OutputSyntax::by_markers(family);
        let first = family.split_inclusive(['>', ']']).next().unwrap();
        for unit in [
            first.to_owned(),
            format!("{first}{{\"name\": \"now\", \"arguments\": {{\"a\": \""),
            format!("{first}[now(a=\"',c=\",b='"),
            format!("{first}{{\"name\": \"x\"}}"),
            "<tool_call>\n<function=now>\n<parameter=a>\n".to_owned(),
            "<think><tool_call>{\"name\": \"now\"}".to_owned(),
            "<tool_call>{\"name\": \"now\"} }".to_owned(),
            "<｜tool▁call▁begin｜>".to_owned(),
            "<|channel|>commentary to=functions.now<|message|>{\"a\": ".to_owned(),
            "[".to_owned(),
            "}".to_owned(),
            " ".to_owned(),
            "```\n".to_owned(),
            ">>>now\n{\"".to_owned(),
            "{\"name\": \"now\", \"arguments\": {\"a\": \"}".to_owned(),
        ] {
            let text = unit.repeat((1 << 15) / unit.len());
            let whole = parsed(&syntax, &tools(), false, [text.as_str()].into_iter());
            let chars = parsed(&syntax, &tools(), false, text.split_inclusive(|_| true));
            assert!(whole == chars, "{family} {unit:?}");
            let open = format!("{first}{{\"name\": \"now\", \"arguments\": {{\"a\": \"{text}");
            parsed(&syntax, &tools(), true, open.split_inclusive(|_| true));
        }
    }
    assert!(begun.elapsed() < Duration::from_secs(120), "{:?}", begun.elapsed());
}
