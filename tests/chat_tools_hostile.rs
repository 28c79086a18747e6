//! Tool histories of every odd shape, by many templates: a prompt, or one sentence that says
//! why not, in bounded time.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::templates;
use tramontane::Error;
use tramontane::template::{Chat, ChatTemplate, Message, Tool};

/// 2025-01-15 12:34:56.
const NOW: u64 = 1_736_944_496;

fn compiled(source: &templates::Source) -> ChatTemplate {
    let pieces = ["<s>", "</s>", "<|im_end|>", "<|eot_id|>", "[INST]", "<tool_call>"];
    let pieces = pieces.map(str::to_owned).to_vec();
    let (bos, eos) = (source.bos.as_deref(), source.eos.as_deref());
    ChatTemplate::with_pieces(&source.text, bos, eos, pieces).unwrap().with_time(NOW)
}

fn tool(name: &str) -> Value {
    json!({"type": "function", "function": {"name": name, "description": "does it",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "where"}}}}})
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

fn call(name: Value, arguments: Value, id: Value) -> Value {
    json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}})
}

fn asks(content: Value, calls: Vec<Value>) -> Value {
    json!({"role": "assistant", "content": content, "tool_calls": calls})
}

fn says(content: Value, id: Value) -> Value {
    json!({"role": "tool", "content": content, "tool_call_id": id})
}

/// A history, and the words that a prompt of it must have; none if it may be refused.
struct Case {
    name: String,
    messages: Vec<Value>,
    tools: Vec<Value>,
    words: Vec<&'static str>,
}

fn case(name: impl Into<String>, messages: Vec<Value>, words: &[&'static str]) -> Case {
    Case { name: name.into(), messages, tools: vec![tool("weather9")], words: words.to_vec() }
}

/// Histories that can be expressed: they are, by every template.
fn expressible() -> Vec<Case> {
    let one = |arguments: Value| call(json!("weather9"), arguments, json!("call_1"));
    let nice = || one(json!({"city": "Nice7"}));
    let oslo = || call(json!("weather9"), json!({"city": "Oslo7"}), json!("call_2"));
    let words = &["how1", "weather9", "Nice7", "sunny3"][..];
    let both = &["how1", "weather9", "Nice7", "Oslo7", "sunny3", "snow4"][..];
    let result = || says(json!("sunny3"), json!("call_1"));
    let mut all = Vec::new();
    for (name, content) in [
        ("empty content", json!("")),
        ("null content", json!(null)),
        ("text", json!("wait2")),
        ("blank content", json!(" \n")),
        ("parts", json!([{"type": "text", "text": "wait2"}])),
        ("no parts", json!([])),
    ] {
        all.push(case(name, vec![user("how1"), asks(content, vec![nice()]), result()], words));
    }
    let without = |field: &str| {
        let mut message = asks(json!(""), vec![nice()]);
        message.as_object_mut().unwrap().remove(field);
        message
    };
    all.push(case("no content", vec![user("how1"), without("content"), result()], words));
    all.push(case("call last", vec![user("how1"), asks(json!(null), vec![nice()])], &words[..3]));
    let turn = |calls: Vec<Value>, results: Vec<Value>| {
        let asks = vec![user("how1"), asks(json!(""), calls)];
        [asks, results].concat()
    };
    for (name, arguments) in [
        ("arguments as text", json!("{\"city\": \"Nice7\"}")),
        ("arguments as compact text", json!("{\"city\":\"Nice7\"}")),
        ("nested arguments", json!({"city": {"name": ["Nice7", null, 1.5, true]}})),
        ("arguments in a list", json!(["Nice7"])),
        ("arguments are a text", json!("Nice7")),
        ("odd keys", json!({"": "Nice7", "a b": 1, "é\"'\\": {}, "items": 2, "get": 3})),
    ] {
        all.push(case(name, turn(vec![one(arguments)], vec![result()]), words));
    }
    for (name, arguments) in
        [("empty arguments", json!({})), ("empty text", json!("")), ("null arguments", json!(null))]
    {
        let words = &["how1", "weather9", "sunny3"];
        all.push(case(name, turn(vec![one(arguments)], vec![result()]), words));
    }
    for (name, id) in [
        ("no id", json!(null)),
        ("empty id", json!("")),
        ("nine letters", json!("abcdefghi")),
        ("nine odd letters", json!("abc-efghi")),
        ("nine umlauts", json!("äöüäöüäöü")),
        ("long id", json!("x".repeat(5000))),
        ("id of white space", json!(" ")),
        ("number as id", json!(7)),
    ] {
        let called = call(json!("weather9"), json!({"city": "Nice7"}), id.clone());
        let messages = turn(vec![called], vec![says(json!("sunny3"), id)]);
        all.push(case(name, messages, words));
    }
    for (name, ids) in [
        ("in order", ["call_1", "call_2"]),
        ("results without ids", ["", ""]),
        ("one result without id", ["call_1", ""]),
    ] {
        let results = [("sunny3", ids[0]), ("snow4", ids[1])]
            .map(|(content, id)| says(json!(content), json!(id)));
        all.push(case(name, turn(vec![nice(), oslo()], results.to_vec()), both));
    }
    let swapped = vec![says(json!("snow4"), json!("call_2")), result()];
    all.push(case("swapped", turn(vec![nice(), oslo()], swapped), both));
    let same = call(json!("weather9"), json!({"city": "Oslo7"}), json!("call_1"));
    let results = vec![result(), says(json!("snow4"), json!("call_1"))];
    all.push(case("the same id twice", turn(vec![nice(), same], results), both));
    let text = asks(json!("wait2"), vec![nice(), oslo()]);
    let results = vec![result(), says(json!("snow4"), json!("call_2"))];
    all.push(case("text and two calls", [vec![user("how1"), text], results].concat(), both));
    all.push(case("one of two answered", turn(vec![nice(), oslo()], vec![result()]), &both[..4]));
    let late = vec![result(), user("and5"), says(json!("snow4"), json!("call_2"))];
    all.push(case("late result", turn(vec![nice(), oslo()], late), both));
    all.push(case(
        "no call",
        vec![user("how1"), says(json!("sunny3"), json!("call_9"))],
        &["how1", "sunny3"],
    ));
    all.push(case(
        "result first",
        vec![says(json!("sunny3"), json!("x")), user("how1")],
        &["how1", "sunny3"],
    ));
    all.push(case("only a result", vec![says(json!("sunny3"), json!(null))], &["sunny3"]));
    let flat = json!({"name": "weather9", "arguments": {"city": "Nice7"}});
    all.push(case("flat call", turn(vec![flat], vec![result()]), words));
    let indexed =
        json!({"function": {"index": 0, "name": "weather9", "arguments": {"city": "Nice7"}}});
    all.push(case(
        "Ollama's call",
        turn(vec![indexed], vec![says(json!("sunny3"), json!(null))]),
        words,
    ));
    for (name, calls) in [("no calls", json!([])), ("null calls", json!(null))] {
        let message = json!({"role": "assistant", "content": "yes2", "tool_calls": calls});
        all.push(case(name, vec![user("how1"), message, user("go3")], &["how1", "yes2", "go3"]));
    }
    for (name, content) in [
        ("result is an object", json!({"sky": "sunny3"})),
        ("result is a list", json!(["sunny3", 1, null])),
        ("result in parts", json!([{"type": "text", "text": "sunny3"}])),
    ] {
        all.push(case(name, turn(vec![nice()], vec![says(content, json!("call_1"))]), words));
    }
    for (name, content) in [
        ("result is null", json!(null)),
        ("result is a number", json!(3)),
        ("no result", json!("")),
    ] {
        let messages = turn(vec![nice()], vec![says(content, json!("call_1"))]);
        all.push(case(name, messages, &words[..3]));
    }
    for (name, thought) in [("thinking", "hm5"), ("blank thoughts", " ")] {
        for field in ["thinking", "reasoning_content"] {
            let mut message = asks(json!("wait2"), vec![nice()]);
            message[field] = json!(thought);
            let messages = vec![user("how1"), message, result(), user("go6")];
            all.push(case(format!("{name} as {field}"), messages, words));
        }
    }
    for (name, tools) in [
        ("no tools", vec![]),
        ("the same tool twice", vec![tool("weather9"), tool("weather9")]),
        (
            "no parameters",
            vec![json!({"type": "function", "function": {"name": "weather9", "description": "d"}})],
        ),
        ("no description", vec![json!({"type": "function", "function": {"name": "weather9"}})]),
        (
            "null parameters",
            vec![
                json!({"type": "function", "function": {"name": "weather9", "description": "d", "parameters": null}}),
            ],
        ),
        (
            "as Go writes it",
            vec![json!({"type": "function", "function": {"name": "weather9", "description": "d",
                "parameters": {"type": "", "properties": null}}})],
        ),
        ("other tools", vec![tool("clock"), tool("news")]),
    ] {
        all.push(Case { tools, ..case(name, turn(vec![nice()], vec![result()]), words) });
    }
    let rounds = (0..6).flat_map(|_| [asks(json!(""), vec![nice()]), result()]);
    let rounds = [user("how1")].into_iter().chain(rounds).collect();
    all.push(case("rounds", rounds, words));
    let system = json!({"role": "system", "content": "be8"});
    let middle = vec![user("how1"), asks(json!(null), vec![nice()]), result(), system, user("go6")];
    all.push(case("system behind a result", middle, words));
    all
}

/// Those of [`odd`] that are large.
const LARGE: [&str; 3] = ["10 MB", "1 MB", "20,000 keys"];

/// Histories that a template may refuse.
fn odd() -> Vec<Case> {
    let turn = |calls: Value| {
        let asks = json!({"role": "assistant", "content": "", "tool_calls": calls});
        vec![user("how1"), asks, says(json!("sunny3"), json!("call_1"))]
    };
    let mut all = Vec::new();
    for (name, calls) in [
        ("calls are a number", json!(3)),
        ("calls are a text", json!("weather9")),
        ("calls are an object", json!({"function": {"name": "f", "arguments": {}}})),
        ("a call is null", json!([null])),
        ("a call is a text", json!(["weather9"])),
        ("a call is a list", json!([[]])),
        ("a call is empty", json!([{}])),
        ("a function is null", json!([{"id": "a", "function": null}])),
        ("a function is a text", json!([{"id": "a", "function": "weather9"}])),
        ("no name", json!([{"function": {"arguments": {"city": "Nice7"}}}])),
        ("a name is null", json!([{"function": {"name": null, "arguments": {}}}])),
        ("a name is a number", json!([{"function": {"name": 3, "arguments": {}}}])),
        ("a name is empty", json!([{"function": {"name": "", "arguments": {}}}])),
        ("arguments are a number", json!([call(json!("f"), json!(3), json!("a"))])),
        ("arguments are true", json!([call(json!("f"), json!(true), json!("a"))])),
        (
            "calls in calls",
            json!([call(
                json!("f"),
                json!({"tool_calls": [call(json!("g"), json!({}), json!("b"))]}),
                json!("a")
            )]),
        ),
    ] {
        all.push(case(name, turn(calls), &[]));
    }
    for content in [json!(3), json!(true), json!({"a": 1}), json!([1, null, {"type": "image"}])] {
        let asks = asks(content.clone(), vec![call(json!("f"), json!({}), json!("a"))]);
        all.push(case(format!("content {content}"), vec![user("how1"), asks], &[]));
    }
    for message in [json!(null), json!(3), json!([]), json!("x"), json!({}), json!({"role": 3})] {
        all.push(case(format!("message {message}"), vec![user("how1"), message], &[]));
    }
    for one in [
        json!(null),
        json!(3),
        json!("weather9"),
        json!([]),
        json!({}),
        json!({"function": null}),
        json!({"function": {"name": "f", "parameters": "x"}}),
        json!({"function": {"name": "f", "parameters": {"properties": {"a": true}}}}),
        json!({"function": {"name": "f", "parameters": {"$ref": "#"}}}),
    ] {
        let name = format!("tool {one}");
        all.push(Case { tools: vec![one], ..case(name, vec![user("how1")], &[]) });
    }
    let mut deep = json!("x");
    for _ in 0..10_000 {
        // Not by `json!`, which copies what it is given.
        let field = ("a".to_owned(), Value::Array(vec![deep]));
        deep = [field].into_iter().collect();
    }
    let text = |open: &str, levels: usize, close: &str| {
        json!(format!("{{\"a\": {}1{}}}", open.repeat(levels), close.repeat(levels)))
    };
    for (name, arguments) in [
        ("20,000 levels", deep.clone()),
        ("10,000 levels as text", text("[", 10_000, "]")),
        ("100 levels as text", text("[", 100, "]")),
        ("50 levels as text", text("{\"a\":", 50, "}")),
        ("10 MB", json!({"city": "x".repeat(10 << 20)})),
        ("1 MB", json!({"city": "x y".repeat(400_000)})),
        ("20,000 keys", (0..20_000).map(|n| (format!("k{n}"), json!(n))).collect::<Value>()),
    ] {
        all.push(case(name, turn(json!([call(json!("f"), arguments, json!("a"))])), &[]));
    }
    let deep = json!({"type": "function", "function": {"name": "f", "parameters": deep}});
    all.push(Case { tools: vec![deep], ..case("deep schema", vec![user("how1")], &[]) });
    all
}

fn chat(case: &Case) -> Chat {
    let messages = case.messages.iter().cloned().map(Message::from);
    let tools = case.tools.iter().cloned().map(Tool::from);
    Chat::new(messages.collect::<Vec<_>>()).with_tools(tools.collect::<Vec<_>>())
}

/// With a stack that values of 20,000 levels can be dropped on.
fn with_stack(work: impl FnOnce() + Send + 'static) {
    let thread = std::thread::Builder::new().stack_size(256 << 20);
    thread.spawn(work).unwrap().join().unwrap();
}

#[test]
fn what_can_be_expressed_is_in_the_prompt() {
    let cases = expressible();
    assert!(cases.len() >= 50, "only {} histories", cases.len());
    let mut refused = Vec::new();
    for source in templates::all() {
        let template = compiled(&source);
        for case in &cases {
            let name = format!("{}, {}", source.name, case.name);
            match template.fold(&chat(case)) {
                Ok(folded) => {
                    let text = folded.prompt.to_string();
                    for word in &case.words {
                        assert!(text.contains(word), "{name}: {word} is lost in {text}");
                    }
                    let calls = case.messages.last().unwrap().get("tool_calls").is_some();
                    assert!(!(calls && folded.continues), "{name}: a call is continued");
                }
                Err(error) => refused.push(format!("{name}: {error}")),
            }
        }
    }
    assert!(refused.is_empty(), "{} refused: {refused:#?}", refused.len());
}

#[test]
fn odd_histories_are_rendered_or_refused_with_one_sentence() {
    with_stack(|| {
        let cases = odd();
        assert!(cases.len() >= 40, "only {} histories", cases.len());
        let patience = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 6 });
        for (number, source) in templates::all().into_iter().enumerate() {
            let template = compiled(&source);
            for case in &cases {
                let name = format!("{}, {}", source.name, case.name);
                // What is large takes long; a few templates see it.
                if LARGE.contains(&case.name.as_str()) && number % 8 != 0 {
                    continue;
                }
                let chat = chat(case);
                let begun = Instant::now();
                match template.fold(&chat) {
                    Ok(_) | Err(Error::Limit { .. }) => {}
                    Err(Error::Template(text)) => {
                        assert!(!text.is_empty() && text.len() < 5000, "{name}: {text}");
                        assert!(!text.contains("engine failed"), "{name}: {text}");
                    }
                    Err(other) => panic!("{name}: {other}"),
                }
                assert!(begun.elapsed() < patience, "{name} took {:?}", begun.elapsed());
            }
        }
    });
}

/// Four times as many calls take about four times as long.
#[test]
fn many_calls_take_time_in_proportion() {
    for wanted in
        ["Qwen3-0.6B", "Mistral-Nemo-Instruct-2407", "Llama-3.1-8B-Instruct", "LFM2-8B-A1B"]
    {
        let sources = templates::all();
        let source = sources.iter().rev().find(|source| source.name == wanted).unwrap();
        let template = compiled(source);
        let time = |count: usize| {
            let ids: Vec<Value> = (0..count).map(|n| json!(format!("call_{n}"))).collect();
            let calls =
                ids.iter().map(|id| call(json!("weather9"), json!({"city": id}), id.clone()));
            let results = ids.iter().map(|id| says(json!("sunny3"), id.clone()));
            let asks = asks(json!(""), calls.collect());
            let messages = [user("how1"), asks].into_iter().chain(results).collect();
            let chat = chat(&case("many", messages, &[]));
            let once = || {
                let begun = Instant::now();
                let text = template.fold(&chat).unwrap().prompt.to_string();
                assert!(text.contains(&format!("call_{}", count - 1)), "{wanted}");
                begun.elapsed()
            };
            (0..4).map(|_| once()).min().unwrap()
        };
        let (few, many) = (time(250), time(1000));
        assert!(many < 9 * few, "{wanted}: {few:?} for 250, {many:?} for 1000");
    }
}
