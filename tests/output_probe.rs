//! The syntax of real templates, found out by rendering small conversations.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use serde_json::{Value, json};
use support::data;
use tramontane::gguf::{Array, Metadata, Strings, Value as GgufValue};
use tramontane::template::{Chat, ChatTemplate, Tool};
use tramontane::{AnswerShape, OutputEvent, OutputSyntax, Tokenizer, ToolChoice};

/// A template, whether it thinks and calls, the end of its prompt, and an answer with a call
/// in its own form.
type Expected = (&'static str, bool, bool, &'static str, &'static str);

const LIST: &str = r#"[{"name": "get_weather", "arguments": {"city": "Oslo"}}]"#;
const HERMES: &str =
    "<tool_call>\n{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}\n</tool_call>";
const LLAMA: &str = r#"{"name": "get_weather", "parameters": {"city": "Oslo"}}"#;

const EXPECTED: [Expected; 23] = [
    ("Mistral-7B-Instruct-v0.3-tools-jsonschema", false, true, "", "[TOOL_CALLS] @"),
    ("Mistral-7B-Instruct-v0.3-CISCai", false, true, "", "[TOOL_CALLS] @"),
    ("Mistral-7B-Instruct-v3-mistral-large-2407", false, true, "", "[TOOL_CALLS] @"),
    ("Mistral-Nemo-Instruct-2407", false, true, "", "[TOOL_CALLS]@"),
    (
        "Mistral-Small-3.2-24B-Instruct-2506",
        false,
        true,
        "",
        "[TOOL_CALLS]get_weather[CALL_ID]abcdefghi[ARGS]{\"city\": \"Oslo\"}",
    ),
    ("Llama-3.1-8B-Instruct", false, true, "", LLAMA),
    ("Llama-3.2-3B-Instruct", false, true, "", LLAMA),
    ("Qwen2.5-7B-Instruct", false, true, "", HERMES),
    ("Qwen3-0.6B", true, true, "", HERMES),
    (
        "Qwen3-Coder",
        false,
        true,
        "",
        "<tool_call>\n<function=get_weather>\n<parameter=city>\nOslo\n</parameter>\n</function>\n</tool_call>",
    ),
    ("granite-3.3-2b-instruct", true, true, "", "<|tool_call|>@"),
    ("granite-4.0", false, true, "", HERMES),
    (
        "Phi-4-mini-instruct",
        false,
        true,
        "",
        "<|tool_call|>{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}<|/tool_call|>",
    ),
    // It shows no functions.
    ("SmolLM3-3B (unsloth)", true, false, "", ""),
    ("SmolLM3-3B", true, true, "", HERMES),
    (
        "gpt-oss-120b",
        true,
        true,
        "<|start|>assistant",
        "<|channel|>analysis<|message|>Rain?<|end|><|start|>assistant<|channel|>commentary to=functions.get_weather <|constrain|>json<|message|>{\"city\": \"Oslo\"}<|call|>",
    ),
    ("Hermes-3-Llama-3.1-8B tool_use", false, true, "", HERMES),
    // It shows calls, but no functions.
    (
        "DeepSeek-R1-Distill-Qwen-32B",
        true,
        false,
        "",
        "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>get_weather\n```json\n{\"city\": \"Oslo\"}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>",
    ),
    // The form is a request; what a grammar makes it write is JSON.
    (
        "Gemma-3 pythonic tools (vLLM)",
        false,
        true,
        "",
        "{\"name\": \"get_weather\", \"arguments\": {\"city\": \"Oslo\"}}",
    ),
    (
        "Command-R7B-12-2024 tool_use",
        true,
        true,
        "",
        "<|START_THINKING|>Rain?<|END_THINKING|><|START_ACTION|>[\n    {\"tool_call_id\": \"0\", \"tool_name\": \"get_weather\", \"parameters\": {\"city\": \"Oslo\"}}\n]<|END_ACTION|>",
    ),
    // Its markers are in the vocabulary only.
    ("LFM2-8B-A1B", false, true, "", "<|tool_call_start|>@<|tool_call_end|>"),
    ("Functionary-medium-v3.2", false, true, ">>>", "get_weather\n{\"city\": \"Oslo\"}"),
    (
        "Functionary-medium-v3.1",
        false,
        true,
        "",
        "<function=get_weather>{\"city\": \"Oslo\"}</function>",
    ),
];

fn templates() -> Vec<Value> {
    let packed = std::fs::File::open(data("templates/tools.json.xz")).unwrap();
    let all: Value = serde_json::from_reader(lzma_rust2::XzReader::new(packed, false)).unwrap();
    all["templates"].as_array().unwrap().clone()
}

/// A vocabulary with these tokens: control tokens, or plain text.
fn vocabulary(tokens: &[&str], control: bool) -> Tokenizer {
    let pieces: Strings = ["<unk>", "\u{2581}", "a"].iter().chain(tokens).copied().collect();
    let count = tokens.len() + 3;
    let mut kinds = vec![2, 1, 1];
    kinds.resize(count, if control { 3 } else { 4 });
    let mut metadata = Metadata::new();
    for (key, value) in [
        ("model", GgufValue::String("llama".into())),
        ("tokens", GgufValue::Array(Array::String(pieces))),
        ("scores", GgufValue::Array(Array::F32(vec![0.0; count]))),
        ("token_type", GgufValue::Array(Array::I32(kinds))),
    ] {
        metadata.push(format!("tokenizer.ggml.{key}"), value).unwrap();
    }
    Tokenizer::from_gguf(&metadata).unwrap()
}

fn probed(one: &Value, tokenizer: &Tokenizer) -> OutputSyntax {
    let source = one["template"].as_str().unwrap();
    let (bos, eos) = (one["bos_token"].as_str(), one["eos_token"].as_str());
    let template = ChatTemplate::with_pieces(source, bos, eos, Vec::new()).unwrap();
    let template = template.with_time(1_736_944_496);
    OutputSyntax::probe(&|chat| template.render_plain(chat), source, tokenizer)
}

fn weather() -> [Tool; 1] {
    let city = json!({"city": {"type": "string"}});
    let parameters = json!({"type": "object", "properties": city, "required": ["city"]});
    [Tool::function("get_weather", "", parameters)]
}

fn required<'a>(tools: &'a [Tool], prompt_end: &'a str) -> AnswerShape<'a> {
    let mut shape = AnswerShape::default();
    (shape.tools, shape.choice, shape.prompt_end) = (tools, ToolChoice::Required, prompt_end);
    shape
}

fn calls(syntax: &OutputSyntax, tools: &[Tool], prompt_end: &str, text: &str) -> Vec<Value> {
    let mut parser = syntax.parser(tools, prompt_end);
    let mut events = parser.push(text);
    events.extend(parser.finish(false));
    let call = |event| match event {
        OutputEvent::Call(call) => Some(call.arguments()),
        _ => None,
    };
    events.into_iter().filter_map(call).collect()
}

#[test]
fn templates_show_how_their_models_write() {
    let templates = templates();
    assert_eq!(templates.len(), EXPECTED.len());
    let tokenizer = vocabulary(&["<|tool_call_start|>", "<|tool_call_end|>"], false);
    let none = vocabulary(&[], true);
    let tools = weather();
    for (one, (name, thinks, calls_functions, prompt_end, text)) in templates.iter().zip(EXPECTED) {
        assert_eq!(one["name"], name);
        let syntax = probed(one, if name.starts_with("LFM2") { &tokenizer } else { &none });
        assert_eq!((syntax.thinks(), syntax.calls()), (thinks, calls_functions), "{name}");
        if text.is_empty() {
            continue;
        }
        let text = text.replace('@', LIST);
        let found = calls(&syntax, &tools, prompt_end, &text);
        assert_eq!(found, [json!({"city": "Oslo"})], "{name}: {text}");
        let constraint = syntax.constraint(&required(&tools, prompt_end)).unwrap().unwrap();
        assert!(format!("{constraint:?}").contains("get_weather"), "{name}");
        #[cfg(feature = "constrain")]
        {
            constraint.check().unwrap();
            let accepts = |text: &str| {
                tramontane::constrain::accepts(&constraint, &[text]).unwrap() == [true]
            };
            assert!(accepts(&text), "{name}: {text}\n{constraint:?}");
            assert!(!accepts("Oslo"), "{name}");
            assert!(!accepts(&text.replace("get_weather", "send_mail")), "{name}");
            assert!(!accepts(&text.replace("city", "town")), "{name}");
        }
    }
}

#[test]
fn control_tokens_are_matched_by_their_ids() {
    let templates = templates();
    let phi = templates.iter().find(|one| one["name"] == "Phi-4-mini-instruct").unwrap();
    let tokenizer = vocabulary(&["<|tool_call|>", "<|/tool_call|>", "<|else|>"], true);
    let syntax = probed(phi, &tokenizer);
    assert_eq!(syntax.marker_tokens(&tokenizer), [3, 4]);
    let tools = weather();
    let constraint = syntax.constraint(&required(&tools, "")).unwrap().unwrap();
    let grammar = format!("{constraint:?}");
    assert!(grammar.contains("<[3]>") && grammar.contains("<[4]>"), "{grammar}");
    // Of a vocabulary without them they are text.
    assert_eq!(syntax.marker_tokens(&vocabulary(&[], true)), [0; 0]);
}

/// A renderer of markers that no table has.
#[test]
fn unknown_markers_are_learnt_from_the_rendering() {
    let render = |chat: &Chat| {
        let mut text = String::new();
        for tool in chat.tools.iter().flatten() {
            text.push_str(&format!("tool {}\n", tool.name()));
        }
        for message in &chat.messages {
            text.push_str(&format!("<{}> {}", message.role(), message.content()));
            for call in message.tool_calls() {
                let call = json!({"fn": call.name(), "args": call.arguments()});
                text.push_str(&format!("((call)) {call} ((done))"));
            }
            text.push_str(" <end>\n");
        }
        Ok(text + "<assistant> ")
    };
    let syntax = OutputSyntax::probe(&render, "", &vocabulary(&[], true));
    assert!(syntax.calls() && !syntax.thinks());
    let tools = weather();
    let text = "((call)) {\"fn\": \"get_weather\", \"args\": {\"city\": \"Oslo\"}} ((done))";
    assert_eq!(calls(&syntax, &tools, "", text), [json!({"city": "Oslo"})]);
}

/// A template without functions, as models for stories have it.
#[test]
fn without_a_form_of_its_own_a_call_is_plain_json() {
    let render = |chat: &Chat| {
        Ok(chat.messages.iter().map(|message| format!("{}\n", message.content())).collect())
    };
    let syntax = OutputSyntax::probe(&render, "", &vocabulary(&[], true));
    assert!(!syntax.calls() && !syntax.thinks());
    let tools = weather();
    assert!(syntax.constraint(&AnswerShape::default()).unwrap().is_none());
    let constraint = syntax.constraint(&required(&tools, "")).unwrap();
    let text = r#"{"name": "get_weather", "arguments": {"city": "Oslo"}}"#;
    assert_eq!(calls(&syntax, &tools, "", text), [json!({"city": "Oslo"})]);
    assert!(format!("{constraint:?}").contains("get_weather"));
    #[cfg(feature = "constrain")]
    assert_eq!(tramontane::constrain::accepts(&constraint.unwrap(), &[text]).unwrap(), [true]);
}
