//! Conversations with tools and thoughts, by 23 chat templates, against Python's jinja2; and
//! what `fold` makes of those that a template refuses.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use serde_json::{Value, json};
use support::templates;
use tramontane::template::{
    Chat, ChatTemplate, Ending, Fold, Message, Thinking, Tool, strip_marks,
};

/// 2025-01-15 12:34:56, the clock of the reference.
const NOW: u64 = 1_736_944_496;

fn reference() -> Value {
    templates::file("tools.json.xz")
}

/// The markers of calls, results and thoughts in these templates.
const PIECES: [&str; 24] = [
    "<s>",
    "</s>",
    "[INST]",
    "[/INST]",
    "[TOOL_CALLS]",
    "[AVAILABLE_TOOLS]",
    "[TOOL_RESULTS]",
    "[/TOOL_RESULTS]",
    "[ARGS]",
    "<|im_start|>",
    "<|im_end|>",
    "<|eot_id|>",
    "<|python_tag|>",
    "<tool_call>",
    "</tool_call>",
    "<tool_response>",
    "<|tool_call|>",
    "<|channel|>",
    "<|message|>",
    "<|end|>",
    "<｜tool▁calls▁begin｜>",
    "<|START_ACTION|>",
    "<|tool_call_start|>",
    "<end_of_turn>",
];

fn compiled(template: &Value) -> ChatTemplate {
    let text = |key: &str| template[key].as_str();
    let pieces = PIECES.map(str::to_owned).to_vec();
    let source = text("template").unwrap();
    let made = ChatTemplate::with_pieces(source, text("bos_token"), text("eos_token"), pieces);
    made.unwrap().with_time(NOW)
}

/// The conversation of a result, without what the reference adds for a template.
fn conversation(reference: &Value, result: &Value) -> Chat {
    let given = &reference["conversations"][result["conversation"].as_str().unwrap()];
    let messages = given["messages"].as_array().unwrap().iter().cloned().map(Message::from);
    let mut chat = Chat::new(messages.collect::<Vec<_>>());
    let tools = given["tools"].as_array();
    chat.tools = tools.map(|tools| tools.iter().cloned().map(Tool::from).collect());
    chat.variables = given["kwargs"].as_object().unwrap().clone();
    chat.ending = match result["add_generation_prompt"].as_bool().unwrap() {
        true => Ending::GenerationPrompt,
        false => Ending::Closed,
    };
    chat
}

fn each(mut check: impl FnMut(&str, &ChatTemplate, &Value, &Value, Chat)) {
    let reference = reference();
    for template in reference["templates"].as_array().unwrap() {
        let made = compiled(template);
        for result in template["results"].as_array().unwrap() {
            let name = template["name"].as_str().unwrap();
            let case = format!("{name}, {}", result["conversation"].as_str().unwrap());
            check(&case, &made, template, result, conversation(&reference, result));
        }
    }
}

#[test]
fn equals_the_reference_with_and_without_marks() {
    let (mut equal, mut refused, mut marked) = (0, 0, 0);
    each(|case, template, about, result, mut chat| {
        if let Some(name) = about["tools_also_as"].as_str() {
            let tools = chat.tools.iter().flatten().map(|tool| tool.as_json().clone());
            let tools = Value::from(tools.collect::<Vec<_>>());
            chat.variables.insert(name.to_owned(), tools);
        }
        let plain = template.render_plain(&chat);
        let guarded = template.render(&chat).map(|prompt| prompt.marked().to_owned());
        match result["error"].as_str() {
            Some(error) => {
                for result in [plain, guarded] {
                    let text = result.expect_err(case).to_string();
                    // Python's own errors have Python's words.
                    if let Some(said) = error.strip_prefix("TemplateError: ") {
                        assert!(text.contains(said), "{case}: {text}");
                    }
                }
                refused += 1;
            }
            None => {
                let expected = result["output"].as_str().unwrap();
                assert_eq!(plain.expect(case), expected, "{case}");
                let guarded = guarded.expect(case);
                assert_eq!(strip_marks(&guarded), expected, "{case}, marked");
                marked += usize::from(*guarded != *expected);
                equal += 1;
            }
        }
    });
    assert_eq!((equal, refused), (778, 50), "all renderings were compared");
    assert!(marked > 40, "{marked} renderings had marks");
}

/// Whether a rendering has the words of all messages and what is in their calls.
fn is_whole(text: &str, chat: &Chat) -> bool {
    let said = |message: &Message| {
        // Templates strip thoughts.
        let content = message.content();
        let answer = content.rsplit("</think>").next().unwrap();
        let mut words = leaves(&answer.into());
        for call in message.tool_calls() {
            words.push(call.name().to_owned());
            words.extend(leaves(&call.arguments()));
        }
        words
    };
    let escaped = |word: &str| Value::from(word).to_string().trim_matches('"').to_owned();
    let mut words = chat.messages.iter().flat_map(said);
    words.all(|word| text.contains(&word) || text.contains(&escaped(&word)))
}

fn leaves(value: &Value) -> Vec<String> {
    match value {
        Value::String(text) => text.split_whitespace().map(str::to_owned).collect(),
        Value::Array(items) => items.iter().flat_map(leaves).collect(),
        Value::Object(fields) => {
            let field = |(key, item): (&String, &Value)| [vec![key.clone()], leaves(item)].concat();
            fields.iter().flat_map(field).collect()
        }
        _ => Vec::new(),
    }
}

/// Where the reference needs a change of the input, the fold makes it.
#[test]
fn what_a_template_refuses_is_given_in_the_form_that_it_takes() {
    let (mut repaired, mut more, mut refused) = (0, 0, Vec::new());
    each(|case, template, _, result, chat| {
        if !result["error"].is_string() {
            return;
        }
        let folded = match template.fold(&chat) {
            Ok(folded) => folded,
            Err(error) => return refused.push(format!("{case}: {error}")),
        };
        let text = folded.prompt.to_string();
        assert!(is_whole(&text, &chat), "{case}: {text}");
        match result["output_with"].as_str() {
            // With the repair the reference renders, and leaves the calls out.
            Some(_) if folded.folds == [Fold::Calls] => {
                assert!(case.starts_with("granite-3.3"), "{case}");
                assert!(
                    text.contains(r#"{"name": "get_weather", "arguments": {"city": "Bergen"}}"#)
                );
                more += 1;
            }
            Some(expected) => {
                assert_eq!(text, expected, "{case}: {:?}", folded.folds);
                repaired += 1;
            }
            None => {
                assert!(folded.folds.contains(&Fold::SplitCalls), "{case}: {:?}", folded.folds);
                more += 1;
            }
        }
    });
    assert_eq!((repaired, more), (40, 6));
    // Its macros call themselves without end for nested schemas.
    assert_eq!(refused.len(), 4, "{refused:#?}");
    assert!(refused.iter().all(|case| case.starts_with("Hermes-3")), "{refused:#?}");
}

/// What the reference shows whole is what the fold gives.
#[test]
fn what_a_template_shows_stays_as_it_is() {
    let (mut same, mut better) = (0, 0);
    each(|case, template, _, result, chat| {
        let Some(expected) = result["output"].as_str() else { return };
        let folded = template.fold(&chat).expect(case);
        let text = folded.prompt.to_string();
        assert!(is_whole(&text, &chat), "{case}: {text}");
        if text == expected {
            same += 1;
            return;
        }
        // An answer without words beside each call; arguments as JSON of a JSON text.
        let without = expected.replace("<｜Assistant｜><｜end▁of▁sentence｜>", "");
        let same_else = text == without || case.ends_with("call-string-arguments");
        // Calls that are not shown, or not all of those of one message.
        let calls = matches!(folded.folds[..], [Fold::Calls | Fold::SplitCalls]);
        let lost = calls || !is_whole(expected, &chat);
        assert!(same_else || lost, "{case}: {expected}\n\n{text}");
        better += 1;
    });
    assert_eq!((same, better), (638, 140));
}

#[test]
fn thinking_is_switched_by_the_names_that_templates_use() {
    let reference = reference();
    let result =
        |conversation: &str| json!({"conversation": conversation, "add_generation_prompt": true});
    let mut changed = 0;
    for template in reference["templates"].as_array().unwrap() {
        let made = compiled(template);
        for (case, thinking) in [
            ("thinking-on", Thinking::On),
            ("thinking-off", Thinking::Off),
            ("thinking-off-no-tools", Thinking::Off),
            ("effort-high", Thinking::High),
        ] {
            let mut by_name = conversation(&reference, &result(case));
            by_name.variables.insert("thinking".to_owned(), thinking.is_on().into());
            let mut typed = by_name.clone();
            typed.variables.clear();
            let unset = made.fold(&typed).unwrap();
            typed.thinking = Some(thinking);
            let typed = made.fold(&typed).unwrap();
            assert_eq!(typed, made.fold(&by_name).unwrap(), "{}, {case}", template["name"]);
            changed += usize::from(typed != unset);
        }
    }
    assert!(changed > 10, "{changed} renderings were changed");
    // A level that gpt-oss does not know; what the caller sets counts.
    let templates = reference["templates"].as_array().unwrap();
    let harmony = templates.iter().find(|one| one["name"] == "gpt-oss-120b").unwrap();
    let harmony = compiled(harmony);
    let said = |chat: &Chat| harmony.render_plain(chat).unwrap();
    let chat = Chat::new([Message::user("2+2?")]);
    let max = chat.clone().with_thinking(Thinking::Max);
    assert!(said(&max).contains("Reasoning: high"), "{}", said(&max));
    let low = max.with_variable("reasoning_effort", "low");
    assert!(said(&low).contains("Reasoning: low"), "{}", said(&low));
}
