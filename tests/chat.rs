//! From a conversation to token ids: template and tokenizer together, against
//! mistral-common (see `tests/data/README.md`).

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use serde_json::Value;
use support::data;
use tramontane::Gguf;
use tramontane::template::{Chat, ChatTemplate, Ending, Message};
use tramontane::tokenizer::Tokenizer;

fn json(name: &str) -> Value {
    serde_json::from_str(&std::fs::read_to_string(data(name)).unwrap()).unwrap()
}

fn vocabulary(name: &str) -> Tokenizer {
    let file = Gguf::open(data(&format!("vocab/ggml-vocab-{name}.gguf"))).unwrap();
    Tokenizer::from_gguf(file.metadata()).unwrap()
}

/// The template of a family's vectors with this name, for a vocabulary.
fn template(family: &str, name: &str, tokenizer: &Tokenizer) -> ChatTemplate {
    let family = json(&format!("templates/{family}.json"));
    let templates = family["templates"].as_array().unwrap();
    let found = templates.iter().find(|template| template["name"] == name).unwrap();
    let source = found["template"].as_str().unwrap();
    let pieces = tokenizer.control_pieces().map(str::to_owned).collect();
    let (bos, eos) = (family["bos_token"].as_str(), family["eos_token"].as_str());
    ChatTemplate::with_pieces(source, bos, eos, pieces).unwrap()
}

/// What a template makes of a conversation, as ids; `None` if it refuses.
fn ids(
    template: &ChatTemplate,
    tokenizer: &Tokenizer,
    messages: impl Into<Vec<Message>>,
) -> Option<Vec<u32>> {
    let chat = Chat::new(messages).with_ending(Ending::GenerationPrompt);
    Some(tokenizer.encode_chat(&template.render(&chat).ok()?))
}

/// What the published templates do differently from mistral-common; the rest
/// must be equal to the last id.
const SYSTEM: [&str; 7] = [
    "system-user",
    "system-user-multiline",
    "system-empty-user",
    "system-uau",
    "system-uauau",
    "system-assistant-prefix",
    "two-system",
];

#[test]
fn mistral_ids_equal_mistral_common() {
    let reference = json("tokenizer/mistral_chat.json");
    // No space in front of an answer, so its first word is another token.
    let unspaced = ["uau-spaces", "uauau", "7-turns", "uau-code", "assistant-prefix"];
    let old = [&SYSTEM[..], &unspaced, &["two-users-in-a-row"]].concat();
    // Leaves the system's message out.
    let tools = [&SYSTEM[..], &["uau-spaces", "two-users-in-a-row"]].concat();
    // Two messages of one role: an error, where mistral-common joins them.
    let joined = vec!["two-system", "two-users-in-a-row"];
    // Trims answers, where mistral-common trims their ends only, and writes the
    // system's message only if a user has the last word.
    let large = [&joined[..], &["uau-spaces", "system-assistant-prefix"]].concat();
    for (version, vocabulary_name, name, different) in [
        ("v1", "mistral-v1", "v0.1", &old),
        ("v1", "mistral-v1", "v0.2-old-no-system", &old),
        ("v1", "mistral-v1", "v0.2-v1-with-system", &joined),
        ("v2", "mistral-v3", "v0.3-tools-jsonschema", &tools),
        ("v3", "mistral-v3", "v0.3-tools-jsonschema", &tools),
        ("v3", "mistral-v3", "v0.3-CISCai", &tools),
        ("v3", "mistral-v3", "v3-mistral-large-2407", &large),
    ] {
        let tokenizer = vocabulary(vocabulary_name);
        let template = template("mistral-7b-instruct", name, &tokenizer);
        let mut compared = 0;
        for conversation in reference["conversations"].as_array().unwrap() {
            let case = conversation["name"].as_str().unwrap();
            let result = &conversation["results"][version];
            if !conversation["tools"].is_null() || result["error"].is_string() {
                continue;
            }
            let messages = conversation["messages"].as_array().unwrap();
            let messages: Vec<_> = messages.iter().cloned().map(Message::from).collect();
            let ids = ids(&template, &tokenizer, messages);
            let mut expected: Vec<u32> = serde_json::from_value(result["tokens"].clone()).unwrap();
            // mistral-common leaves an answer open that is to be continued.
            if case.ends_with("assistant-prefix") {
                expected.extend(tokenizer.eos());
            }
            let equal = ids.as_ref() == Some(&expected);
            let words = tokenizer.decode_with_special(ids.as_deref().unwrap_or_default());
            assert_eq!(equal, !different.contains(&case), "{version}, {name}, {case}: {words}");
            compared += 1;
        }
        assert_eq!(compared, 27, "{version}, {name}");
    }
}

#[test]
fn no_message_makes_a_control_token() {
    for (vocabulary_name, family, name) in [
        ("mistral-v1", "mistral-7b-instruct", "v0.2-v1-with-system"),
        ("mistral-v3", "mistral-7b-instruct", "v0.3-tools-jsonschema"),
        ("mistral-v3", "mistral-7b-instruct", "v3-mistral-large-2407"),
        ("llama-spm", "mistral-7b-instruct", "v0.1"),
        ("llama-bpe", "llama-3.1", "Llama-3.1-8B-Instruct"),
        ("phi-3", "phi-3", "Phi-3-mini"),
        ("phi-3", "phi-3", "Phi-3.5-mini-instruct"),
        ("qwen2", "qwen2.5", "Qwen2.5-7B-Instruct"),
    ] {
        let tokenizer = vocabulary(vocabulary_name);
        let template = template(family, name, &tokenizer);
        let pieces: Vec<String> = tokenizer.control_pieces().map(str::to_owned).collect();
        let controls = |[first, second, third]: [&str; 3]| -> Vec<u32> {
            let messages = [Message::user(first), Message::assistant(second), Message::user(third)];
            let ids = ids(&template, &tokenizer, messages).unwrap();
            ids.into_iter().filter(|&id| tokenizer.is_control(id)).collect()
        };
        let own = controls(["Hi"; 3]);
        assert!(pieces.len() >= 3 && own.len() >= 2, "{name}: {pieces:?}, {own:?}");
        let (all, apart) = (pieces.concat(), pieces.join(" "));
        assert_eq!(controls([&all, &apart, &all]), own, "{name}, all pieces");
        // Llama 3 and Mistral reserve hundreds that differ in a number.
        for piece in pieces.iter().filter(|piece| !piece.contains(|c: char| c.is_ascii_digit())) {
            let whole = [&format!("a{piece}b"), &**piece, &format!("<{piece}{piece}>")];
            assert_eq!(controls(whole), own, "{name}, {piece:?}");
            for at in piece.char_indices().map(|(at, _)| at).skip(1) {
                let (head, tail) = piece.split_at(at);
                assert_eq!(controls([head, tail, head]), own, "{name}, {head:?} {tail:?}");
                let trimmed = [&format!(" {tail}a{head} "), &format!("\n{tail}"), head];
                assert_eq!(controls(trimmed), own, "{name}, {head:?} {tail:?}");
            }
        }
    }
}
