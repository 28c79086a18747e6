//! Control tokens spelled wherever a client can say something: in messages, tools, calls,
//! results and variables. They stay text, by every template and vocabulary.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use serde_json::json;
use support::{data, templates};
use tramontane::gguf::{Array, Gguf, Metadata, Strings, Value as GgufValue};
use tramontane::template::{Chat, ChatTemplate, Message, Tool, ToolCall, strip_marks};
use tramontane::{Thinking, Tokenizer};

/// 2025-01-15 12:34:56.
const NOW: u64 = 1_736_944_496;

/// A conversation that says `word` wherever a client can say something.
fn everywhere(word: &str) -> Chat {
    let schema = json!({
        "type": "object",
        "title": word,
        "description": word,
        "properties": {
            word: {"type": "string", "description": word, "enum": [word, "b"], "default": word, word: [word]},
            "city": {"type": "array", "items": {"type": "string", "description": word}},
        },
        "required": [word],
    });
    let call = |id: &str| {
        ToolCall::new(word, json!({word: word, "b": [word, {word: word}], "c": 1})).with_id(id)
    };
    let mut messages = vec![
        Message::system(word),
        Message::user(word),
        Message::assistant("").with_thinking(word).with_tool_calls([call(word)]),
        Message::tool(word, word).with_tool_call_id(word),
        Message::assistant(word).with_thinking(word),
        Message::user(word),
        Message::assistant(word).with_tool_calls([call("abcdefghi"), call("bcdefghij")]),
        Message::tool(word, json!({word: word}).to_string()).with_tool_call_id("abcdefghi"),
        Message::tool(word, word).with_tool_call_id("bcdefghij"),
    ];
    messages.push(Message::user(word));
    Chat::new(messages)
        .with_tools([
            Tool::function(word, word, schema),
            Tool::function("plain", "does it", json!({})),
        ])
        .with_variable("extra", word)
        .with_thinking(Thinking::On)
}

/// What may be a control token in a template's source: `<…>`, `[…]`, Cohere's and
/// DeepSeek's are of that form too.
fn markers(source: &str) -> Vec<String> {
    let mut found = Vec::new();
    for (open, close) in [('<', '>'), ('[', ']')] {
        for (at, _) in source.match_indices(open) {
            let Some(end) = source[at..].find(close) else { continue };
            let marker = &source[at..=at + end];
            let inner = &marker[1..marker.len() - 1];
            let plain = |c: char| c.is_alphanumeric() || "|/_▁｜ ".contains(c);
            let upper = open == '<' || inner.chars().all(|c| c.is_uppercase() || "/_".contains(c));
            if !inner.is_empty() && inner.chars().all(plain) && !inner.contains(' ') && upper {
                found.push(marker.to_owned());
            }
        }
    }
    found.sort_unstable();
    found.dedup();
    found
}

/// A vocabulary of bytes, and of `markers` as control tokens.
fn vocabulary(markers: &[String]) -> Tokenizer {
    let bytes = (0..256).map(|byte| format!("<0x{byte:02X}>"));
    let pieces: Vec<String> = ["<unk>", "\u{2581}"]
        .map(str::to_owned)
        .into_iter()
        .chain(bytes)
        .chain(markers.iter().cloned())
        .collect();
    let kinds = [2, 1].into_iter().chain([6; 256]).chain(markers.iter().map(|_| 3));
    let mut metadata = Metadata::new();
    let scores = vec![0.0; pieces.len()];
    let names: Strings = pieces.iter().map(String::as_str).collect();
    for (key, value) in [
        ("model", GgufValue::String("llama".into())),
        ("tokens", GgufValue::Array(Array::String(names))),
        ("scores", GgufValue::Array(Array::F32(scores))),
        ("token_type", GgufValue::Array(Array::I32(kinds.collect()))),
        ("add_bos_token", GgufValue::Bool(false)),
    ] {
        metadata.push(format!("tokenizer.ggml.{key}"), value).unwrap();
    }
    Tokenizer::from_gguf(&metadata).unwrap()
}

/// The control tokens of the folded conversation, in their order.
fn control(template: &ChatTemplate, tokenizer: &Tokenizer, word: &str) -> Option<Vec<u32>> {
    let folded = template.fold(&everywhere(word)).ok()?;
    let ids = tokenizer.encode_chat(&folded.prompt);
    Some(ids.into_iter().filter(|&id| tokenizer.is_control(id)).collect())
}

/// All control tokens of the template's own source are spelled in all places at once; and
/// texts begin and end with halves of them.
#[test]
fn control_tokens_come_from_the_template_alone() {
    let (mut compared, mut found, mut refused) = (0, 0, Vec::new());
    for source in templates::all() {
        let mut pieces = markers(&source.text);
        pieces.extend(source.bos.clone().into_iter().chain(source.eos.clone()));
        pieces.retain(|piece| !piece.is_empty() && *piece != "<unk>");
        pieces.sort_unstable();
        pieces.dedup();
        let tokenizer = vocabulary(&pieces);
        let template = ChatTemplate::new(&source.text, &tokenizer).unwrap().with_time(NOW);
        let Some(harmless) = control(&template, &tokenizer, "word") else {
            refused.push(source.name.clone());
            continue;
        };
        found += harmless.len();
        let halves = |piece: &String| {
            let middle = piece.char_indices().nth(piece.chars().count() / 2).unwrap().0;
            format!("{}x{}", &piece[middle..], &piece[..middle])
        };
        let mut words = vec![pieces.concat(), format!(" {} ", pieces.join(" "))];
        words.extend(pieces.iter().map(halves));
        words.extend(
            pieces
                .iter()
                .map(|piece| format!("{}x", &piece[piece.chars().next().unwrap().len_utf8()..])),
        );
        for word in words {
            let Some(hostile) = control(&template, &tokenizer, &word) else {
                refused.push(format!("{}, {word}", source.name));
                continue;
            };
            let own = |id: u32| harmless.iter().filter(|&&known| known == id).count();
            for &id in &hostile {
                let count = hostile.iter().filter(|&&known| known == id).count();
                let piece = tokenizer.piece(id).unwrap();
                assert!(
                    count <= own(id),
                    "{}, {word:?}: {piece} {count} times, not {}",
                    source.name,
                    own(id)
                );
            }
            compared += 1;
        }
    }
    assert!(compared > 500 && found > 500, "{compared} compared, {found} control tokens");
    assert!(refused.len() < 20, "{} refused: {refused:#?}", refused.len());
}

/// The same with real vocabularies and their control tokens.
#[test]
fn control_tokens_of_real_vocabularies_stay_text() {
    let sources = templates::all();
    let mut compared = 0;
    for name in ["llama-bpe", "qwen2", "llama-spm", "phi-3", "mistral-v1", "mistral-v3"] {
        let file = Gguf::open(data(&format!("vocab/ggml-vocab-{name}.gguf"))).unwrap();
        let tokenizer = Tokenizer::from_gguf(file.metadata()).unwrap();
        let pieces: Vec<&str> = tokenizer.control_pieces().collect();
        // Some hundred of Llama 3 are reserved.
        let step = pieces.len().div_ceil(24);
        let word: Vec<&str> = pieces.iter().copied().step_by(step).collect();
        for source in &sources {
            let template = ChatTemplate::new(&source.text, &tokenizer).unwrap().with_time(NOW);
            let Some(harmless) = control(&template, &tokenizer, "word") else { continue };
            for word in [word.concat(), word.join(" ")] {
                let Some(hostile) = control(&template, &tokenizer, &word) else { continue };
                let case = format!("{name}, {}", source.name);
                assert!(
                    hostile.len() <= harmless.len(),
                    "{case}: {} {}",
                    hostile.len(),
                    harmless.len()
                );
                compared += 1;
            }
        }
    }
    assert!(compared > 300, "{compared} compared");
}

/// What is marked is the same text.
#[test]
fn marks_do_not_change_the_text() {
    let mut compared = 0;
    for source in templates::all() {
        let pieces = markers(&source.text);
        let (bos, eos) = (source.bos.as_deref(), source.eos.as_deref());
        let make = |pieces| {
            ChatTemplate::with_pieces(&source.text, bos, eos, pieces).unwrap().with_time(NOW)
        };
        // Templates look for these in texts, and do not find them with marks.
        let looked_for = |piece: &String| source.text.contains(&format!("'{piece}'"));
        let word: String = pieces.iter().filter(|piece| !looked_for(piece)).cloned().collect();
        let (marked, plain) = (make(pieces.clone()), make(Vec::new()));
        let chat = everywhere(&format!("a{word}"));
        if let (Ok(marked), Ok(plain)) = (marked.fold(&chat), plain.fold(&chat)) {
            assert_eq!(
                strip_marks(marked.prompt.marked()),
                plain.prompt.marked(),
                "{}",
                source.name
            );
            compared += 1;
        }
    }
    assert!(compared > 60, "{compared} compared");
}
