//! Grammars of whole answers: what models of a family write is allowed, and behind a marker
//! nothing else.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

use std::collections::BTreeSet;

use serde_json::{Value, json};
use tramontane::constrain::accepts;
use tramontane::{AnswerShape, Constraint, OutputSyntax, Tool, ToolChoice};

fn cases() -> Value {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/data/toolcalls/cases.json.xz");
    let packed = std::fs::File::open(path).unwrap();
    serde_json::from_reader(lzma_rust2::XzReader::new(packed, false)).unwrap()
}

/// What templates of a family show besides its tokens.
fn extra(family: &str) -> &'static str {
    match family {
        "functionary-v3.1" => "<function=",
        "functionary-v3.2" => ">>>all",
        "gemma-pythonic" => "```tool_code",
        "granite" => "<think></think><response></response>",
        "qwen3-coder" => "<function=<parameter=",
        _ => "",
    }
}

fn syntax(all: &Value, name: &str, family: &str) -> OutputSyntax {
    let tokens = all["marker_tokens"][family].as_array().unwrap().iter();
    let tokens: String = tokens.map(|token| token.as_str().unwrap()).collect();
    let own = match family {
        // Files without [ARGS] write lists.
        "mistral" if name.starts_with("mistral/v3") => "[TOOL_CALLS]".to_owned(),
        "granite" if name.starts_with("granite/v3") => {
            "<|tool_call|><think></think><response></response>".to_owned()
        }
        "functionary-v3.1" => extra(family).to_owned(),
        _ => tokens + extra(family),
    };
    OutputSyntax::by_markers(&own)
}

fn tools(all: &Value, names: &Value) -> Vec<Tool> {
    let names = names.as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    names.map(|name| Tool::from(all["tools"][name].clone())).collect()
}

fn shape<'a>(tools: &'a [Tool], choice: ToolChoice, prompt_end: &'a str) -> AnswerShape<'a> {
    let mut shape = AnswerShape::default();
    (shape.tools, shape.choice, shape.prompt_end, shape.parallel) =
        (tools, choice, prompt_end, true);
    shape
}

/// What the rules of the parser accept and the grammar does not: it makes the model write the
/// form of its template and nothing else behind a marker.
const OTHER_FORMS: [&str; 21] = [
    // Arguments that are missing, before the name, or their text.
    "gpt-oss/empty-body",
    "granite/v3-arguments-first",
    "hermes/arguments-first",
    "hermes/no-arguments",
    "hermes/string-arguments",
    "llama3/null-parameters",
    "llama3/string-parameters",
    "mistral/args-no-marker",
    "mistral/args-none",
    "mistral/v3-no-arguments",
    // Not by the schema.
    "llama3/array-parameters",
    "llama3/numbers-as-text",
    // Several calls in one pair of tags, another family's calls, escapes without need.
    "hermes/two-in-one-tag",
    "qwen3-coder/boolean",
    "qwen3-coder/json-inside",
    "mistral/v3-unicode",
    // Equal keys, strings over several lines, half a character.
    "hermes/duplicate-key",
    "hermes/raw-newline",
    "hermes/lone-surrogate",
    // Functions that are not declared, behind a good call.
    "hermes/undeclared-then-good",
    "mistral/v3-good-then-undeclared",
];

/// What is broken, or no call at all, behind a marker.
const BROKEN: [&str; 15] = [
    "gpt-oss/bad-json",
    "gpt-oss/undeclared",
    "hermes/empty-tag",
    "hermes/extra-brace",
    "hermes/missing-brace",
    "hermes/no-end-tag",
    "hermes/open-string",
    "hermes/single-quotes",
    "hermes/undeclared",
    "llama3/extra-brace",
    "llama3/missing-brace",
    "mistral/v3-missing-bracket",
    "mistral/v3-undeclared",
    "qwen3-coder/no-end-tag",
    "qwen3-coder/no-parameter-end",
];

#[test]
fn what_a_family_writes_is_allowed() {
    let all = cases();
    let mut refused = BTreeSet::new();
    for case in all["cases"].as_array().unwrap() {
        if case["stop"] == "length" {
            continue;
        }
        let (name, family) = (case["id"].as_str().unwrap(), case["family"].as_str().unwrap());
        let tools = tools(&all, &case["tools"]);
        let opens_with = case["opens_with"].as_str().unwrap_or_default();
        let shape = shape(&tools, ToolChoice::Auto, opens_with);
        let Some(constraint) = syntax(&all, name, family).constraint(&shape).unwrap() else {
            continue;
        };
        let text = case["text"].as_str().unwrap();
        match accepts(&constraint, &[text]).as_deref() {
            Ok([true]) => {}
            Ok(_) => _ = refused.insert(name),
            Err(error) => panic!("{name}: {error}\n{constraint:?}"),
        }
    }
    let expected: BTreeSet<&str> = OTHER_FORMS.into_iter().chain(BROKEN).collect();
    let odd: Vec<_> = refused.symmetric_difference(&expected).collect();
    assert!(odd.is_empty(), "{odd:#?}");
}

fn count(parameters: Value) -> [Tool; 1] {
    [Tool::function("count", "", parameters)]
}

fn allowed(syntax: &OutputSyntax, shape: &AnswerShape<'_>, texts: &[(&str, bool)]) {
    let constraint = syntax.constraint(shape).unwrap().unwrap();
    let only: Vec<&str> = texts.iter().map(|(text, _)| *text).collect();
    let found = accepts(&constraint, &only).unwrap();
    for ((text, expected), found) in texts.iter().zip(found) {
        assert_eq!(found, *expected, "{text:?} by {constraint:?}");
    }
}

#[test]
fn choices_are_kept() {
    let syntax = OutputSyntax::by_markers("<tool_call></tool_call><think></think>");
    let tools = count(json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
    let call = "<tool_call>{\"name\": \"count\", \"arguments\": {\"n\": 1}}</tool_call>";
    let thinking = format!("<think>\nHm, <tool_call> or so.\n</think>\n\n{call}");
    let two = format!("{call}\n{call}");
    let after = format!("{call} Hi");
    let wrong = call.replace("{\"n\": 1}", "{\"n\": \"1\"}");
    let text = "Hello <tool> there.";
    for (choice, parallel, expected) in [
        (ToolChoice::Auto, true, [true, true, true, true, false, true]),
        (ToolChoice::Auto, false, [true, true, false, false, false, true]),
        (ToolChoice::Required, true, [true, true, true, false, false, false]),
        (ToolChoice::Required, false, [true, true, false, false, false, false]),
        (ToolChoice::Function("count".into()), false, [true, true, false, false, false, false]),
        (ToolChoice::None, true, [false, false, false, false, false, true]),
    ] {
        let mut shape = shape(&tools, choice, "");
        shape.parallel = parallel;
        let texts = [call, &thinking, &two, &after, &wrong, text];
        allowed(&syntax, &shape, &texts.into_iter().zip(expected).collect::<Vec<_>>());
    }
    let unknown = shape(&tools, ToolChoice::Function("other".into()), "");
    assert!(syntax.constraint(&unknown).is_err());
    assert!(syntax.constraint(&shape(&[], ToolChoice::Required, "")).is_err());
    assert_eq!(syntax.constraint(&shape(&[], ToolChoice::Auto, "")).unwrap(), None);
}

#[test]
fn content_follows_its_schema_or_is_a_call() {
    let syntax = OutputSyntax::by_markers("<tool_call></tool_call><think></think>");
    let tools = count(json!({"type": "object", "properties": {"n": {"type": "integer"}}}));
    let call = "<tool_call>{\"name\": \"count\", \"arguments\": {\"n\": 1}}</tool_call>";
    let mut shape = shape(&tools, ToolChoice::Auto, "<think>\n");
    let schema =
        json!({"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]});
    shape.content = Some(Constraint::json_schema(schema));
    let within = format!("Two. {{\"a\": \"x\"}}</think>\n\n{call}");
    let thought = "Two.</think>\n\n{\"a\": 1}";
    let texts =
        [(thought, true), (&within, true), ("{\"a\": 1}", false), ("Two.</think>Hi", false)];
    allowed(&syntax, &shape, &texts);
    // The prompt closed the thoughts already.
    shape.prompt_end = "<think>\n\n</think>\n\n";
    allowed(
        &syntax,
        &shape,
        &[("{\"a\": 1}", true), (call, true), (&format!("<think>{thought}"), false)],
    );
    (shape.tools, shape.prompt_end) = (&[], "");
    allowed(
        &syntax,
        &shape,
        &[("{\"a\": 1}", true), (call, false), (&format!("<think>{thought}"), true)],
    );
}

/// A schema that cannot be followed does not take the other functions' away.
#[test]
fn a_function_with_an_unsupported_schema_takes_any_object() {
    let syntax = OutputSyntax::by_markers("<tool_call></tool_call>");
    let unsupported =
        json!({"type": "object", "properties": {"n": {"type": "array", "uniqueItems": true}}});
    let mut tools = count(unsupported).to_vec();
    tools.push(Tool::function(
        "add",
        "",
        json!({"type": "object", "properties": {"n": {"type": "integer"}}}),
    ));
    let shape = shape(&tools, ToolChoice::Auto, "");
    assert_eq!(syntax.loose_functions(&shape).unwrap(), ["count"]);
    let call = |name: &str| {
        format!("<tool_call>{{\"name\": \"{name}\", \"arguments\": {{\"n\": [1]}}}}</tool_call>")
    };
    allowed(&syntax, &shape, &[(&call("count"), true), (&call("add"), false)]);
}
