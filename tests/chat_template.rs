//! Chat templates against Python's jinja2, and hostile ones against the limits.

use serde_json::Value;
use tramontane::template::{Chat, ChatTemplate, PLAIN_TEXT_MARK, strip_marks};

/// 2025-01-15 12:34:56, the clock of the reference.
const NOW: u64 = 1_736_944_496;
const FAMILIES: [&str; 4] = ["llama-3.1", "mistral-7b-instruct", "phi-3", "qwen2.5"];

fn family(name: &str) -> Value {
    let path = format!("{}/tests/data/templates/{name}.json", env!("CARGO_MANIFEST_DIR"));
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Control pieces of the four families, and what the conversations spell.
fn control_pieces() -> Vec<String> {
    [
        "<s>",
        "</s>",
        "[INST]",
        "[/INST]",
        "[AVAILABLE_TOOLS]",
        "[/AVAILABLE_TOOLS]",
        "[TOOL_CALLS]",
        "[TOOL_RESULTS]",
        "[/TOOL_RESULTS]",
        "<|im_start|>",
        "<|im_end|>",
        "<|eot_id|>",
        "<|eom_id|>",
        "<|begin_of_text|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|python_tag|>",
        "<|user|>",
        "<|assistant|>",
        "<|system|>",
        "<|end|>",
        "<|endoftext|>",
        "<unk>",
    ]
    .map(str::to_owned)
    .to_vec()
}

#[test]
fn equals_the_reference_with_and_without_marks() {
    let pieces = control_pieces();
    let (mut compared, mut refused, mut marked) = (0, 0, 0);
    for name in FAMILIES {
        let family = family(name);
        for template in family["templates"].as_array().unwrap() {
            let source = template["template"].as_str().unwrap();
            let compiled = ChatTemplate::new(
                source,
                family["bos_token"].as_str(),
                family["eos_token"].as_str(),
            )
            .unwrap()
            .with_time(NOW);
            assert_eq!(compiled.source(), source);
            for result in template["results"].as_array().unwrap() {
                let case = result["conversation"].as_str().unwrap();
                let conversation = &family["conversations"][case];
                let chat = Chat {
                    messages: conversation["messages"].as_array().unwrap(),
                    tools: conversation["tools"].as_array().map(Vec::as_slice),
                    add_generation_prompt: result["add_generation_prompt"].as_bool().unwrap(),
                    ..Chat::default()
                };
                let plain = compiled.render(&chat);
                let guarded = compiled.render(&Chat { control_pieces: &pieces, ..chat.clone() });
                let case = format!("{name}, {}, {case}", template["name"]);
                if let Some(error) = result["error"].as_str() {
                    let message = error.split_once(": ").unwrap().1;
                    for result in [plain, guarded] {
                        let text = result.expect_err(&case).to_string();
                        assert!(text.contains(message), "{case}: {text}");
                    }
                    refused += 1;
                } else {
                    let expected = result["output"].as_str().unwrap();
                    assert_eq!(plain.expect(&case), expected, "{case}");
                    let guarded = guarded.expect(&case);
                    assert_eq!(strip_marks(&guarded), expected, "{case}, marked");
                    marked += usize::from(guarded.contains(PLAIN_TEXT_MARK));
                    compared += 1;
                }
            }
        }
    }
    eprintln!("{compared} {refused} {marked}");
    assert_eq!(compared + refused, 510, "all vectors ran");
    assert!(marked > 10, "{marked} renderings had marks");
}
