//! Conversations of every shape, by many templates: a prompt with every word, or one
//! sentence that says why not.

#![allow(clippy::unwrap_used, reason = "a failed expectation in a test is the report")]

mod support;

use serde_json::{Value, json};
use support::data;
use tramontane::gguf::{Array, Metadata, Strings, Value as GgufValue};
use tramontane::template::{Chat, ChatTemplate, Ending, Fold, Message, Tool, ToolCall};
use tramontane::{Engine, Error, GenerateOptions, Model, Tokenizer};

/// Sources by name, with what has the texts of BOS and EOS.
fn sources() -> Vec<(String, Value, Value)> {
    let packed = std::fs::File::open(data("templates/more.json.xz")).unwrap();
    let more = lzma_rust2::XzReader::new(packed, false);
    let more: Value = serde_json::from_reader(more).unwrap();
    let mut found: Vec<(String, Value, Value)> = more
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, one)| (name.clone(), one["template"].clone(), one.clone()))
        .collect();
    for family in ["llama-3.1", "mistral-7b-instruct", "phi-3", "qwen2.5"] {
        let family = family_of(family);
        for one in family["templates"].as_array().unwrap() {
            let name = one["name"].as_str().unwrap().to_owned();
            found.push((name, one["template"].clone(), family.clone()));
        }
    }
    found
}

fn templates() -> Vec<(String, ChatTemplate)> {
    let compile = |(name, source, tokens): (String, Value, Value)| {
        let (bos, eos) = (tokens["bos_token"].as_str(), tokens["eos_token"].as_str());
        let pieces = ["<s>", "</s>", "<|im_end|>", "<|eot_id|>", "[INST]", "[/INST]"];
        let pieces = pieces.map(str::to_owned).to_vec();
        let template = ChatTemplate::with_pieces(source.as_str().unwrap(), bos, eos, pieces);
        (name, template.unwrap().with_time(1_736_944_496))
    };
    sources().into_iter().map(compile).collect()
}

fn family_of(name: &str) -> Value {
    let text = std::fs::read_to_string(data(&format!("templates/{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

fn template(name: &str) -> ChatTemplate {
    templates().into_iter().find(|(known, _)| known == name).unwrap().1
}

/// Many templates print the token that begins a sequence, and vocabularies ask for it: there
/// is one. What a user writes never becomes one.
#[test]
fn a_prompt_begins_once() {
    let mut printed = 0;
    for (name, source, tokens) in sources() {
        let Some(bos) = tokens["bos_token"].as_str().filter(|bos| !bos.is_empty()) else {
            continue;
        };
        let source = source.as_str().unwrap();
        let mut metadata = Metadata::new();
        let pieces: Strings = ["<unk>", bos, "\u{2581}", "a"].into_iter().collect();
        for (key, value) in [
            ("model", GgufValue::String("llama".into())),
            ("tokens", GgufValue::Array(Array::String(pieces))),
            ("scores", GgufValue::Array(Array::F32(vec![0.0; 4]))),
            ("token_type", GgufValue::Array(Array::I32(vec![2, 3, 1, 1]))),
            ("bos_token_id", GgufValue::U32(1)),
            ("add_bos_token", GgufValue::Bool(true)),
        ] {
            metadata.push(format!("tokenizer.ggml.{key}"), value).unwrap();
        }
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        let template = ChatTemplate::new(source, &tokenizer).unwrap().with_time(1_736_944_496);
        let chat = Chat::new(vec![Message::user(format!("a{bos}a"))]);
        let prompt = template.fold(&chat).unwrap().prompt;
        printed += usize::from(prompt.marked().starts_with(bos));
        let ids = tokenizer.encode_chat(&prompt);
        let places: Vec<usize> = (0..ids.len()).filter(|&place| ids[place] == 1).collect();
        // Granite's is the end of every turn as well.
        if name.starts_with("granite") {
            assert!(places[0] == 0 && !places.contains(&1), "{name}: {places:?}");
        } else {
            assert_eq!(places, [0], "{name}");
        }
    }
    assert!(printed > 10, "{printed} templates print it");
}

/// Histories by name. Words are numbered, so that no template has them of its own.
fn histories() -> Vec<(&'static str, Vec<Message>)> {
    let system = |text: &str| Message::system(text);
    let user = |text: &str| Message::user(text);
    let assistant = |text: &str| Message::assistant(text);
    let json = |value: Value| Message::from(value);
    let call = ToolCall::new("weather9", json!({"city": "Nice"})).with_id("abcdefghi");
    let asks = Message::assistant("").with_tool_calls([call]);
    let says = Message::tool("weather9", "sunny1 warm2").with_tool_call_id("abcdefghi");
    vec![
        ("user", vec![user("hello1 there2")]),
        ("three turns", vec![user("one1"), assistant("two2 "), user(" three3\nfour4")]),
        ("system first", vec![system("be1 brief2"), user("hello3")]),
        ("system and turns", vec![system("be1"), user("hi2"), assistant("yes3"), user("go4")]),
        ("systems", vec![system("be1"), system("brief2"), user("hello3")]),
        ("late system", vec![user("hi1"), assistant("yes2"), system("be3"), user("go4")]),
        ("system behind user", vec![system("be1"), user("hi2"), system("brief3")]),
        ("two late systems", vec![user("hi1"), system("be2"), system("brief3"), user("go4")]),
        ("only system", vec![system("be1 brief2")]),
        ("only systems", vec![system("be1"), system("brief2")]),
        ("users", vec![user("hi1"), user("there2"), user("again3")]),
        ("users later", vec![user("hi1"), assistant("yes2"), user("go3"), user("on4")]),
        ("assistants", vec![user("hi1"), assistant("yes2"), assistant("no3"), user("go4")]),
        ("assistant first", vec![assistant("welcome1"), user("hi2")]),
        ("system, assistant", vec![system("be1"), assistant("welcome2"), user("hi3")]),
        ("systems, assistant", vec![system("a1"), system("b2"), assistant("c3"), user("d4")]),
        ("only assistant", vec![assistant("welcome1")]),
        ("assistant last", vec![user("hi1"), assistant("sure2 here3")]),
        ("system, assistant last", vec![system("be1"), user("hi2"), assistant("sure3")]),
        ("assistants last", vec![user("hi1"), assistant("sure2"), assistant("here3")]),
        ("assistant without words last", vec![user("hi1"), assistant("")]),
        ("developer", vec![Message::new("developer", "be1 brief2"), user("hi3")]),
        ("developer, system", vec![Message::new("developer", "be1"), system("b2"), user("hi3")]),
        ("tool", vec![user("how1"), asks.clone(), says.clone(), user("thanks3")]),
        ("tool last", vec![system("be3"), user("how4"), asks, says.clone()]),
        ("tool without a call", vec![user("how3"), assistant("wait4"), says]),
        (
            "parts",
            vec![
                json(json!({"role": "system", "content": [{"type": "text", "text": "be1"}]})),
                json(json!({"role": "user", "content": [
                    {"type": "text", "text": "hi2"}, {"type": "text", "text": "there3"}]})),
                json(json!({"role": "assistant", "content": [{"type": "text", "text": "yes4"}]})),
                json(json!({"role": "user", "content": [{"type": "text", "text": "go5"}]})),
            ],
        ),
        (
            "parts last",
            vec![
                user("hi1"),
                json(json!({"role": "assistant", "content": [{"type": "text", "text": "sure2"}]})),
            ],
        ),
        (
            "null content",
            vec![
                user("hi1"),
                json(json!({"role": "assistant", "content": null})),
                user("go2"),
                json(json!({"role": "assistant"})),
                user("on3"),
            ],
        ),
        ("a stranger", vec![user("hi1"), Message::new("narrator", "meanwhile2"), user("go3")]),
    ]
}

/// Words of a conversation, without the texts of its structure.
fn words(messages: &[Message]) -> Vec<String> {
    let of = |message: &Message| {
        let calls = message.tool_calls().iter().map(|call| call.name().to_owned()).collect();
        let content = message.content().into_owned();
        // Parts have no white space between them.
        let split = content.split(|c: char| c.is_whitespace()).map(str::to_owned);
        split.chain::<Vec<String>>(calls).collect::<Vec<_>>()
    };
    messages.iter().flat_map(of).filter(|word| !word.is_empty()).collect()
}

#[test]
fn every_word_is_in_the_prompt_or_the_refusal_is_one_sentence() {
    let (mut whole, mut refused) = (0, Vec::new());
    for (name, template) in templates() {
        for (history, messages) in histories() {
            let case = format!("{name}, {history}");
            let folded = match template.fold(&Chat::new(messages.clone())) {
                Ok(folded) => folded,
                Err(Error::Template(text)) => {
                    assert!(!text.is_empty() && !text.contains('\n'), "{case}: {text}");
                    refused.push(format!("{case}: {text}"));
                    continue;
                }
                Err(other) => panic!("{case}: {other}"),
            };
            let text = folded.prompt.to_string();
            for part in messages.iter().flat_map(parts) {
                for word in part.split_whitespace() {
                    assert!(text.contains(word), "{case}: {word} is lost in {text:?}");
                }
            }
            for word in words(&messages).iter().filter(|word| word.ends_with('9')) {
                assert!(text.contains(word), "{case}: {word} is lost in {text:?}");
            }
            let last = messages.last().unwrap();
            let continues = last.role() == "assistant" && !last.content().is_empty();
            assert_eq!(folded.continues, continues, "{case}");
            if continues {
                assert!(text.ends_with(&*last.content()), "{case}: {text:?}");
            }
            whole += 1;
        }
    }
    // Roles that a template does not know, and calls of tools, are not folded.
    let folding = |case: &&String| !case.contains(", a stranger: ") && !case.contains(", tool");
    let odd: Vec<_> = refused.iter().filter(folding).collect();
    assert!(odd.is_empty(), "{odd:#?}");
    assert!(whole > 9 * refused.len(), "{} of {} refused", refused.len(), whole + refused.len());
}

fn parts(message: &Message) -> Vec<String> {
    match message.get("content") {
        Some(Value::Array(parts)) => {
            parts.iter().map(|part| part["text"].as_str().unwrap().to_owned()).collect()
        }
        _ => vec![message.content().into_owned()],
    }
}

/// What a template shows as it is stays as it is: the references of transformers.
#[test]
fn prompts_of_ordinary_histories_do_not_change() {
    let mut compared = 0;
    for (name, template) in templates() {
        for (history, messages) in histories() {
            let ordinary = ["user", "three turns"].contains(&history);
            let chat = Chat::new(messages).with_ending(Ending::GenerationPrompt);
            let Ok(plain) = template.render_plain(&chat) else { continue };
            let folded = match template.fold(&chat) {
                Ok(folded) => folded,
                // What the template itself leaves out without a word.
                Err(_) if history == "a stranger" || history.starts_with("tool") => continue,
                Err(error) => panic!("{name}, {history}: {error}"),
            };
            assert!(!ordinary || folded.folds.is_empty(), "{name}, {history}: {:?}", folded.folds);
            // DeepSeek's shows an empty answer beside a call whose content is not null.
            let plain = match history.starts_with("tool") {
                true => plain.replace("<｜Assistant｜><｜end▁of▁sentence｜>", ""),
                false => plain,
            };
            if folded.folds.is_empty() && history != "null content" {
                assert_eq!(folded.prompt.to_string(), plain, "{name}, {history}");
                compared += 1;
            }
        }
    }
    assert!(compared > 500, "only {compared} compared");
    for family in ["llama-3.1", "mistral-7b-instruct", "phi-3", "qwen2.5"] {
        let family = family_of(family);
        for one in family["templates"].as_array().unwrap() {
            let template = template(one["name"].as_str().unwrap());
            for result in one["results"].as_array().unwrap() {
                references(&family, &template, result, one["name"].as_str().unwrap());
            }
        }
    }
}

/// A rendering of the reference that shows all words is what the folded prompt is too.
fn references(family: &Value, template: &ChatTemplate, result: &Value, name: &str) {
    let conversation = &family["conversations"][result["conversation"].as_str().unwrap()];
    let messages = conversation["messages"].as_array().unwrap().iter().cloned();
    let mut chat = Chat::new(messages.map(Message::from).collect::<Vec<_>>());
    let tools = conversation["tools"].as_array();
    chat.tools = tools.map(|tools| tools.iter().cloned().map(Tool::from).collect());
    chat.ending = match result["add_generation_prompt"].as_bool().unwrap() {
        true => Ending::GenerationPrompt,
        false => Ending::Closed,
    };
    let Some(expected) = result["output"].as_str() else { return };
    let words = words(&chat.messages);
    // The fold makes an object of it.
    let text_arguments = result["conversation"] == "tools-string-arguments";
    if !text_arguments && words.iter().all(|word| expected.contains(word)) {
        let folded = template.fold(&chat).unwrap();
        let case = format!("{name}, {}", result["conversation"]);
        assert_eq!(folded.prompt.to_string(), expected, "{case}: {:?}", folded.folds);
    }
}

/// Forms that say what is done, one each.
#[test]
fn histories_are_folded_to_what_the_template_takes() {
    let mistral = template("v0.1");
    let fold = |messages: &[Message]| {
        let folded = mistral.fold(&Chat::new(messages)).unwrap();
        (folded.prompt.to_string(), folded.folds)
    };
    let (system, user, assistant) =
        (Message::system("S"), Message::user("U"), Message::assistant("A"));
    for (messages, text, folds) in [
        (vec![system.clone(), user.clone()], "<s>[INST] S\n\nU [/INST]", vec![Fold::System]),
        (vec![user.clone(), user.clone()], "<s>[INST] U\n\nU [/INST]", vec![Fold::Turns]),
        (vec![user.clone(), assistant.clone()], "<s>[INST] U [/INST]A", vec![]),
        (
            vec![assistant.clone(), user.clone()],
            "<s>[INST]  [/INST]A</s> [INST] U [/INST]",
            vec![Fold::Opening],
        ),
        (
            vec![system.clone(), assistant.clone(), user.clone()],
            "<s>[INST] S [/INST]A</s> [INST] U [/INST]",
            vec![Fold::System],
        ),
        (
            vec![user.clone(), assistant, Message::new("developer", "D"), user],
            "<s>[INST] U [/INST]A</s> [INST] D\n\nU [/INST]",
            vec![Fold::Developer, Fold::System],
        ),
    ] {
        assert_eq!(fold(&messages), (text.to_owned(), folds));
    }
}

const PARTS: &str = "{% for m in messages %}<|{{ m.role }}|>{% for p in m.content %}\
                     {% if p.type == 'text' %}{{ p.text }}{% endif %}{% endfor %}<|end|>\
                     {% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}";

#[test]
fn content_is_given_in_the_form_that_the_template_reads() {
    let template = ChatTemplate::with_pieces(PARTS, None, None, Vec::new()).unwrap();
    let chat = Chat::new([Message::user("hello"), Message::assistant("well")]);
    let folded = template.fold(&chat).unwrap();
    assert_eq!(folded.prompt.to_string(), "<|user|>hello<|end|><|assistant|>well");
    assert_eq!((folded.folds, folded.continues), (vec![Fold::Parts], true));
}

/// Mistral's later templates show the system's text beside the last message, if that is a
/// user's.
#[test]
fn a_system_text_survives_an_answer_that_is_continued() {
    let model = Model::open("models/storyteller-q4_k_m.gguf").unwrap();
    let chat = [Message::system("S"), Message::user("U"), Message::assistant("A")];
    let folded = model.chat_template().unwrap().fold(&Chat::new(&chat[..])).unwrap();
    assert_eq!(folded.prompt.to_string(), "<s>[INST] S\n\nU[/INST] A");
    assert_eq!(folded.folds, [Fold::System]);
    let folded = model.chat_template().unwrap().fold(&Chat::new(&chat[..2])).unwrap();
    assert_eq!(folded.prompt.to_string(), "<s>[INST] S\n\nU[/INST]");
    assert_eq!(folded.folds, []);
}

#[test]
fn missing_special_tokens_are_empty_texts() {
    let source = "{% for m in messages %}{{ bos_token + m.content + unk_token }}{% endfor %}";
    let template = ChatTemplate::with_pieces(source, None, None, Vec::new()).unwrap();
    assert_eq!(template.render_plain(&Chat::new([Message::user("hello")])).unwrap(), "hello");
}

#[test]
fn words_that_no_fold_saves_are_an_error_that_names_the_message() {
    let source = "{% for m in messages %}{% if loop.first %}{{ m.content }}{% endif %}{% endfor %}";
    let template = ChatTemplate::with_pieces(source, None, None, Vec::new()).unwrap();
    let chat = Chat::new([Message::user("a1"), Message::assistant("b2"), Message::user("c3")]);
    let error = template.fold(&chat).unwrap_err().to_string();
    assert!(error.contains("the text of message 2 (role \"assistant\")"), "{error}");
}

/// `Session::chat` and `Engine::chat` take what the template takes.
#[test]
fn sessions_and_engines_fold() {
    let model = Model::open("models/storyteller-q4_k_m.gguf").unwrap();
    let chat = Chat::new([
        Message::new("developer", "Be kind."),
        Message::user("Tell me a story"),
        Message::user("about a dog."),
    ]);
    let options = GenerateOptions::default().with_num_predict(3);
    let mut session = model.session(&Default::default()).unwrap();
    let by_session = session.chat(&chat, &options).unwrap().wait().unwrap();
    let engine = Engine::new(&model, &Default::default()).unwrap();
    let by_engine = engine.chat(&chat, &options).unwrap().wait().unwrap();
    assert_eq!(by_session.summary.timings.prompt_tokens, by_engine.summary.timings.prompt_tokens);
    let prompt = model.chat_prompt(&chat).unwrap();
    assert_eq!(prompt.tokens, model.chat_tokens(&chat).unwrap());
    let text = model.tokenizer().decode(&prompt.tokens);
    for word in ["kind", "story", "dog"] {
        assert!(text.contains(word), "{text}");
    }
}

/// Four times as many messages take about four times as long, not sixteen times.
#[test]
fn folding_takes_time_in_proportion_to_the_messages() {
    let template = template("v0.1");
    let time = |count: usize| {
        // Two of one role in a row, so that all are folded.
        let message = |n: usize| match n / 2 % 2 {
            0 => Message::user(format!("a{n}")),
            _ => Message::assistant(format!("b{n}")),
        };
        let chat = Chat::new((0..count).map(message).collect::<Vec<_>>());
        let once = || {
            let begun = std::time::Instant::now();
            let folded = template.fold(&chat).unwrap();
            assert_eq!(folded.folds, [Fold::Turns]);
            begun.elapsed()
        };
        (0..4).map(|_| once()).min().unwrap()
    };
    let (few, many) = (time(500), time(2000));
    assert!(many < 9 * few, "{few:?} for 500, {many:?} for 2000");
}
