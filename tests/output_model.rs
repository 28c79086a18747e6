//! A model that was never taught to call functions is made to, in the form of every family.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use serde_json::json;
use tramontane::{
    AnswerShape, FinishReason, GenerateOptions, OutputEvent, OutputSyntax, SamplerOptions,
    SessionOptions, Tool, ToolChoice,
};

/// Markers by family, and the end of a prompt.
const FAMILIES: [(&str, &str); 15] = [
    ("", ""),
    ("[TOOL_CALLS]", ""),
    ("[TOOL_CALLS][ARGS][CALL_ID]", ""),
    ("<|python_tag|>", ""),
    ("<tool_call></tool_call><think></think>", ""),
    ("<tool_call></tool_call><think></think>", "<think></think>"),
    ("<tool_call></tool_call><function=<parameter=", ""),
    ("<|tool_call|>", ""),
    ("<|channel|><|message|>", "<|start|>assistant"),
    ("<｜tool▁calls▁begin｜>", ""),
    ("<|START_ACTION|><|START_RESPONSE|><|END_RESPONSE|>", ""),
    ("<|tool_call_start|>", ""),
    ("<function=", ""),
    (">>>all", ">>>"),
    ("```tool_code", ""),
];

#[test]
fn a_required_call_is_found_and_its_arguments_fit() {
    let model = support::Way::whole().model("../../models/storyteller-q4_k_m.gguf");
    let parameters = json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "maxLength": 12},
            "age": {"type": "integer", "minimum": 0, "maximum": 99},
            "colour": {"enum": ["red", "blue"]},
        },
        "required": ["name", "age"],
    });
    let tools = [
        Tool::function("find_animal", "Finds an animal", parameters),
        Tool::function("now", "The time", json!({"type": "object", "properties": {}})),
    ];
    let mut complete = 0;
    for (seed, (markers, prompt_end)) in FAMILIES.into_iter().enumerate() {
        let syntax = OutputSyntax::by_markers(markers);
        let mut shape = AnswerShape::default();
        (shape.tools, shape.prompt_end) = (&tools, prompt_end);
        for choice in [ToolChoice::Required, ToolChoice::Function("find_animal".into())] {
            shape.choice = choice.clone();
            let constraint = syntax.constraint(&shape).unwrap().unwrap();
            let sampler = SamplerOptions::default().with_seed(seed as u64).with_temperature(1.2);
            let options = GenerateOptions::default().with_sampler(sampler).with_num_predict(250);
            let options = options.with_constraint(constraint);
            let mut session = model.session(&SessionOptions::default()).unwrap();
            let answer = session.generate("Once upon a time", &options).unwrap().wait().unwrap();
            let cut = answer.summary.finish_reason != Some(FinishReason::EndOfText);
            let mut parser = syntax.parser(&tools, prompt_end);
            let mut events = parser.push(&answer.text);
            events.extend(parser.finish(cut));
            let found: Vec<_> = events
                .iter()
                .filter_map(|event| match event {
                    OutputEvent::Call(call) => Some(call),
                    _ => None,
                })
                .collect();
            if cut {
                // Thoughts may take all of it.
                continue;
            }
            complete += 1;
            let [call] = found[..] else { panic!("{markers} {:?}: {events:?}", answer.text) };
            let text = |event: &OutputEvent| matches!(event, OutputEvent::Text(_));
            assert!(!events.iter().any(text), "{markers}: {events:?}");
            if let ToolChoice::Function(name) = &choice {
                assert_eq!(call.name(), name);
            }
            if call.name() == "find_animal" {
                let arguments = call.arguments();
                assert!(arguments["name"].is_string(), "{markers}: {arguments}");
                assert!(arguments["age"].as_u64().unwrap() < 100, "{markers}: {arguments}");
            }
        }
    }
    assert!(complete >= 20, "only {complete} answers were complete");
}
