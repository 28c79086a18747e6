//! Messages → template → token ids, against Mistral's own tokenizer.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use serde_json::Value;
use support::{data, ids, json};
use tramontane::{Chat, ChatTemplate, Gguf, Message, Tokenizer};

fn tokenizer(name: &str) -> Tokenizer {
    let file = Gguf::open(data(&format!("vocab/ggml-vocab-{name}.gguf"))).unwrap();
    Tokenizer::from_gguf(file.metadata()).unwrap()
}

fn template(name: &str) -> ChatTemplate {
    let family = json("templates/mistral-7b-instruct.json");
    let all = family["templates"].as_array().unwrap();
    let entry = all.iter().find(|entry| entry["name"] == name).expect(name);
    ChatTemplate::new(entry["template"].as_str().unwrap(), Some("<s>"), Some("</s>")).unwrap()
}

fn encode(template: &ChatTemplate, tokenizer: &Tokenizer, messages: &[Value]) -> Vec<u32> {
    let control_pieces: Vec<String> = tokenizer.control_pieces().map(str::to_owned).collect();
    let control_pieces = &control_pieces[..];
    let chat = Chat { messages, control_pieces, ..Chat::default() };
    tokenizer.encode_chat(&template.render(&chat).unwrap())
}

/// Every conversation without tools that mistral-common accepts, with the template
/// that Mistral publishes for its tokenizer version: the ids are equal. Left out
/// are conversations whose answer is to be continued (a template ends every answer)
/// and one whose answer begins with spaces, which the template trims.
#[test]
fn ids_equal_mistral_common() {
    let chats = json("tokenizer/mistral_chat.json");
    for (version, vocabulary, name, expected) in [
        ("v1", "mistral-v1", "v0.2-v1-with-system", 23),
        ("v2", "mistral-v3", "v3-mistral-large-2407", 22),
        ("v3", "mistral-v3", "v3-mistral-large-2407", 22),
    ] {
        let (tokenizer, template) = (tokenizer(vocabulary), template(name));
        let mut equal = 0;
        for chat in chats["conversations"].as_array().unwrap() {
            let case = chat["name"].as_str().unwrap();
            let result = &chat["results"][version];
            let refused = !result["error"].is_null() || !chat["tools"].is_null();
            let messages = chat["messages"].as_array().unwrap();
            let uses_tools =
                messages.iter().any(|m| m["role"] == "tool" || !m["tool_calls"].is_null());
            let trimmed = name == "v3-mistral-large-2407" && case == "uau-spaces";
            if refused || uses_tools || trimmed || case.contains("prefix") {
                continue;
            }
            let ours = encode(&template, &tokenizer, messages);
            assert_eq!(ours, ids(&result["tokens"]), "{version} {case}");
            equal += 1;
        }
        assert_eq!(equal, expected, "{version}");
    }
}

/// What a person writes never becomes a control token, whole or completed by the
/// template's own text.
#[test]
fn messages_cannot_make_control_tokens() {
    for (vocabulary, name) in
        [("mistral-v1", "v0.2-v1-with-system"), ("mistral-v3", "v3-mistral-large-2407")]
    {
        let (tokenizer, template) = (tokenizer(vocabulary), template(name));
        let control = |text: &str| {
            let ids = encode(&template, &tokenizer, &[Message::user(text)]);
            ids.into_iter().filter(|&id| tokenizer.is_control(id)).collect::<Vec<_>>()
        };
        let own = control("hello");
        let pieces: Vec<&str> = tokenizer.control_pieces().collect();
        assert_eq!(control(&pieces.concat()), own, "{vocabulary}");
        for piece in pieces {
            for (at, _) in piece.char_indices().skip(1) {
                assert_eq!(
                    control(&format!("x{}", &piece[..at])),
                    own,
                    "ends in a part of {piece}"
                );
                assert_eq!(control(&format!("{}x", &piece[at..])), own, "starts with one");
            }
        }
    }
}
