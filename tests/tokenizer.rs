//! The tokenizer against reference vectors: llama.cpp, SentencePiece, tiktoken
//! and mistral-common (see `tests/data/README.md`).
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::fs;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::Value as Json;
use support::data;
use tramontane::Error;
use tramontane::gguf::{Array, Gguf, Metadata, Value};
use tramontane::tokenizer::{DecodeStream, EncodeOptions, Prompt, Tokenizer};

static PLAIN: LazyLock<EncodeOptions> = LazyLock::new(|| EncodeOptions::default().with_bos(false));
static SPECIAL: LazyLock<EncodeOptions> =
    LazyLock::new(|| EncodeOptions::default().with_bos(false).with_special(true));

fn load(file: &str) -> Tokenizer {
    let folder = if file.starts_with("stories") { "models" } else { "vocab" };
    let gguf = Gguf::open(data(&format!("{folder}/{file}"))).unwrap();
    Tokenizer::from_gguf(gguf.metadata()).unwrap()
}

fn json(file: &str) -> Json {
    serde_json::from_slice(&fs::read(data(&format!("tokenizer/{file}"))).unwrap()).unwrap()
}

fn ids(json: &Json) -> Vec<u32> {
    json.as_array().unwrap().iter().map(|id| id.as_u64().unwrap() as u32).collect()
}

fn texts(json: &Json) -> Vec<&str> {
    json.as_array().unwrap().iter().map(|text| text.as_str().unwrap()).collect()
}

/// 400 strings and 13 with special tokens, for seven vocabularies.
#[test]
fn reference_strings() {
    let reference = json("strings.json");
    let strings = texts(&reference["strings"]);
    let special = texts(&reference["special_strings"]);
    let vocabs = reference["vocabs"].as_object().unwrap();
    assert_eq!((strings.len(), special.len(), vocabs.len()), (400, 13, 7));
    for (name, expected) in vocabs {
        let tokenizer = load(expected["gguf"].as_str().unwrap());
        for (text, expected) in strings.iter().zip(expected["ids"].as_array().unwrap()) {
            assert_eq!(tokenizer.encode(text, *PLAIN), ids(expected), "{name} {text:?}");
        }
        for (text, expected) in special.iter().zip(expected["special"].as_array().unwrap()) {
            assert_eq!(tokenizer.encode(text, *SPECIAL), ids(expected), "{name} {text:?}");
        }
        for text in &strings {
            // SentencePiece spells a space U+2581: both decode to a space.
            let expected = if tokenizer.id("▁").is_some() {
                text.replace('\u{2581}', " ")
            } else {
                text.to_string()
            };
            assert_eq!(tokenizer.decode(&tokenizer.encode(text, *PLAIN)), expected, "{name}");
        }
    }
}

/// The strings and ids that llama.cpp keeps next to its test vocabularies.
#[test]
fn llama_cpp_test_vocabularies() {
    for name in ["llama-spm", "llama-bpe", "phi-3", "qwen2"] {
        let file = format!("ggml-vocab-{name}.gguf");
        let tokenizer = load(&file);
        let input = fs::read_to_string(data(&format!("vocab/{file}.inp"))).unwrap();
        let output = fs::read_to_string(data(&format!("vocab/{file}.out"))).unwrap();
        let separator = "\n__ggml_vocab_test__\n";
        let input = input.strip_suffix(separator).unwrap();
        let strings: Vec<&str> = input.split(separator).collect();
        let lines: Vec<&str> = output.lines().collect();
        assert_eq!(strings.len(), lines.len(), "{name}");
        for (text, line) in strings.into_iter().zip(lines) {
            let expected: Vec<u32> =
                line.split_ascii_whitespace().map(|id| id.parse().unwrap()).collect();
            assert_eq!(tokenizer.encode(text, *PLAIN), expected, "{name} {text:?}");
        }
    }
}

/// Conversations for which no tokenizer can give mistral-common's ids from the
/// template's text, because the template writes another text.
fn differs(template: &str, conversation: &str) -> Option<&'static str> {
    let system = conversation.contains("system");
    Some(match (template, conversation) {
        (
            "v0.1" | "v0.2-old-no-system",
            "uau-spaces" | "uauau" | "7-turns" | "uau-code" | "assistant-prefix",
        ) => "no space between the plain text [/INST] and the answer",
        ("v0.3-tools-jsonschema" | "v0.3-CISCai", _) if system => "leaves the system message out",
        ("v0.3-tools-jsonschema" | "v0.3-CISCai", "two-users-in-a-row") => "two turns for one",
        ("v0.3-tools-jsonschema", "uau-spaces") => "keeps the spaces that end an answer",
        ("v0.3-CISCai", "uau-spaces") => "no space in front of an answer, which starts with one",
        ("v3-mistral-large-2407", "system-assistant-prefix") => {
            "puts the system message into the last user message only if that is the last"
        }
        ("v3-mistral-large-2407", "uau-spaces") => "removes the spaces that start an answer",
        _ => return None,
    })
}

/// The prompts that Mistral's templates render give mistral-common's ids.
#[test]
fn mistral_chat() {
    let chats = json("mistral_chat.json");
    let reference = |prompt: &Json| {
        let all = chats["conversations"].as_array().unwrap();
        let chat = all.iter().find(|chat| chat["name"] == prompt["conversation"]).unwrap();
        ids(&chat["results"][prompt["version"].as_str().unwrap()]["tokens"])
    };
    let v1 = load("ggml-vocab-mistral-v1.gguf");
    let v3 = load("ggml-vocab-mistral-v3.gguf");
    let (mut equal, mut wrong) = (0, Vec::new());
    for prompt in json("mistral_prompts.json").as_array().unwrap() {
        // Version 2 has the vocabulary of version 3.
        let tokenizer = if prompt["version"] == "v1" { &v1 } else { &v3 };
        let [template, conversation, text] =
            ["template", "conversation", "prompt"].map(|key| prompt[key].as_str().unwrap());
        let found = tokenizer.encode_chat(&Prompt::from_marked(text));
        let expected = reference(prompt);
        let difference = differs(template, conversation);
        if (found != expected) != difference.is_some() {
            wrong.push(format!("{template} {conversation} {text:?}"));
        }
        equal += usize::from(difference.is_none());
    }
    assert_eq!(wrong, [""; 0]);
    assert_eq!(equal, 171);
}

#[test]
fn chat_prompts_have_one_bos_and_no_control_tokens_from_marked_text() {
    for file in ["mistral-v1", "mistral-v3", "llama-spm", "llama-bpe", "phi-3", "qwen2"] {
        let tokenizer = load(&format!("ggml-vocab-{file}.gguf"));
        let bos: Vec<u32> = tokenizer.bos().filter(|_| tokenizer.adds_bos()).into_iter().collect();
        assert_eq!(tokenizer.encode_chat(&Prompt::from_marked("")), bos, "{file}");
        for id in &bos {
            let text = tokenizer.piece(*id).unwrap();
            assert_eq!(tokenizer.encode_chat(&Prompt::from_marked(text)), bos, "{file}");
        }
        for piece in tokenizer.control_pieces() {
            let plain = tokenizer.encode(piece, EncodeOptions::default());
            let control = plain.iter().filter(|id| tokenizer.is_control(**id)).count();
            assert_eq!(control, bos.len(), "{file} {piece:?}");
            let id = tokenizer.id(piece).unwrap();
            assert_eq!(tokenizer.encode(piece, *SPECIAL), [id]);
            // As a template renders it: marked after any of its characters.
            for (at, c) in piece.char_indices() {
                let (left, right) = piece.split_at(at + c.len_utf8());
                let marked = format!("{left}\u{fdd0}{right}");
                let expected = if right.is_empty() {
                    tokenizer.encode_chat(&Prompt::from_marked(piece))
                } else {
                    plain.clone()
                };
                assert_eq!(
                    tokenizer.encode_chat(&Prompt::from_marked(&*marked)),
                    expected,
                    "{file} {marked:?}"
                );
            }
        }
    }
}

#[test]
fn special_ids_and_defaults() {
    let llama = load("ggml-vocab-llama-bpe.gguf");
    assert_eq!((llama.bos(), llama.eos()), (Some(128_000), Some(128_001)));
    assert_eq!((llama.eot(), llama.eom()), (Some(128_009), None));
    assert!(llama.adds_bos() && !llama.adds_eos());
    assert!(llama.is_end_of_generation(128_009) && llama.is_end_of_generation(128_001));
    assert!(!llama.is_end_of_generation(128_006) && llama.is_control(128_006));

    let qwen = load("ggml-vocab-qwen2.gguf");
    assert_eq!((qwen.eot(), qwen.n_vocab()), (Some(151_645), 151_936));
    assert!(!qwen.adds_bos() && qwen.is_end_of_generation(151_643));

    let phi = load("ggml-vocab-phi-3.gguf");
    assert_eq!((phi.eos(), phi.eot(), phi.unknown()), (Some(32_000), Some(32_007), Some(0)));
    // User-defined in the file, but it ends an answer: no user may write it.
    assert!(phi.is_control(2) && phi.is_end_of_generation(2));

    let stories = load("stories260K.gguf");
    assert_eq!((stories.bos(), stories.eos(), stories.eot()), (Some(1), Some(2), None));
    assert_eq!(
        stories.encode("Once upon a time", EncodeOptions::default()),
        [1, 403, 407, 261, 378]
    );
    assert_eq!((stories.piece(1), stories.piece(512)), (Some("<s>"), None));
    assert_eq!(stories.id("<s>"), Some(1));
    assert!(!stories.is_control(512) && stories.token_bytes(512).is_empty());
    assert_eq!((stories.token_bytes(1), stories.token_bytes(3 + 10)), (vec![], vec![b'\n']));
}

#[test]
fn decode() {
    let tokenizer = load("ggml-vocab-mistral-v3.gguf");
    let ids = tokenizer.encode_chat(&Prompt::from_marked("<s>[INST] Hi [/INST] Yo</s>"));
    assert_eq!(tokenizer.decode(&ids), "Hi  Yo");
    assert_eq!(tokenizer.decode_with_special(&ids), "<s>[INST] Hi [/INST] Yo</s>");
    // Half a character, an id that does not exist.
    let byte = tokenizer.id("<0xC3>").unwrap();
    assert_eq!(tokenizer.decode(&[byte]), "\u{fffd}");
    assert_eq!(tokenizer.decode(&[byte, u32::MAX, byte]), "\u{fffd}\u{fffd}");

    let hi = tokenizer.id("▁Hi").unwrap();
    assert_eq!(tokenizer.decode_stream().push(&tokenizer, hi), "Hi");
    assert_eq!(DecodeStream::continuing().push(&tokenizer, hi), " Hi");
}

/// The time is far above what a linear tokenizer needs and far below what a
/// quadratic one does.
#[test]
fn a_megabyte_is_quick() {
    let n = 1 << 20;
    let words = "The quick brown fox, 12345 jumps.\n".repeat(n / 34);
    for file in
        ["ggml-vocab-llama-spm.gguf", "ggml-vocab-llama-bpe.gguf", "ggml-vocab-mistral-v3.gguf"]
    {
        let tokenizer = load(file);
        let repeated = ["a", " ", "\n", " \n", "\u{a0}", "[", "é", "'", "1", "\u{fdd0}"];
        for text in repeated.map(|part| part.repeat(n / part.len())).iter().chain([&words]) {
            let start = Instant::now();
            let ids = tokenizer.encode(text, *PLAIN);
            let taken = start.elapsed();
            assert!(taken < Duration::from_secs(30), "{file} {:?} {taken:?}", text.chars().next());
            assert_eq!(&tokenizer.decode(&ids), text);
        }
    }
}

static SPM: LazyLock<Tokenizer> = LazyLock::new(|| load("ggml-vocab-phi-3.gguf"));
static BPE: LazyLock<Tokenizer> = LazyLock::new(|| load("ggml-vocab-qwen2.gguf"));

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    /// Any text survives, except that SentencePiece writes a space as U+2581.
    #[test]
    fn any_text_round_trips(text in prop::collection::vec(any::<char>(), 0..32).prop_map(String::from_iter), special in any::<bool>()) {
        for tokenizer in [&*SPM, &*BPE] {
            tokenizer.encode(&text, EncodeOptions::default().with_special(special));
            tokenizer.encode_chat(&Prompt::from_marked(&*text));
        }
        prop_assert_eq!(BPE.decode(&BPE.encode(&text, *PLAIN)), text.clone());
        prop_assert_eq!(SPM.decode(&SPM.encode(&text, *PLAIN)), text.replace('\u{2581}', " "));
    }

    /// Texts around special tokens and spaces: no panic, and never a control
    /// token unless asked.
    #[test]
    fn special_texts(parts in proptest::collection::vec(
        prop::sample::select(vec!["<s>", "</s>", "<|end|>", "<|user|>", "<|", "|>", "<", " ", "\n",
            "\u{fdd0}", "x", "é", "<|im_end|>", "[PAD151646]"]), 0..12)) {
        let text = parts.concat();
        for tokenizer in [&*SPM, &*BPE] {
            let ids = tokenizer.encode(&text, *PLAIN);
            prop_assert!(ids.iter().all(|id| !tokenizer.is_control(*id)));
            tokenizer.encode(&text, *SPECIAL);
            let chat = tokenizer.encode_chat(&Prompt::from_marked(&*text));
            let marked = tokenizer.decode(&chat).contains('\u{fdd0}');
            prop_assert!(!marked);
        }
    }

    /// Token by token gives the same text as all at once, holds back less than
    /// a character, and holds back nothing that is complete.
    #[test]
    fn streams_equal_the_whole(ids in proptest::collection::vec(
        prop_oneof![0u32..400, 0u32..200_000], 0..40)) {
        for tokenizer in [&*SPM, &*BPE] {
            let mut stream = tokenizer.decode_stream();
            let mut text = String::new();
            for (n, id) in ids.iter().enumerate() {
                text += &stream.push(tokenizer, *id);
                let whole = tokenizer.decode(&ids[..=n]);
                let held = whole.strip_prefix(&text).expect("a prefix of the whole");
                prop_assert!(held.is_empty() || held == "\u{fffd}", "{held:?}");
            }
            text += &stream.finish();
            prop_assert_eq!(text, tokenizer.decode(&ids));
        }
    }
}

fn strings(strings: &[&str]) -> Value {
    Value::Array(Array::String(strings.iter().copied().collect()))
}

/// A small valid vocabulary of either model, changed by `change`.
fn from(model: &str, change: impl FnOnce(&mut Metadata)) -> Result<Tokenizer, Error> {
    let mut metadata = Metadata::new();
    metadata.set("tokenizer.ggml.model", Value::String(model.into())).unwrap();
    let pieces = ["<unk>", "<s>", "</s>", "<0x41>", "a", "b", "ab", "Ġ"];
    metadata.set("tokenizer.ggml.tokens", strings(&pieces)).unwrap();
    metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; 8]))).unwrap();
    let types = vec![2, 3, 3, 6, 1, 1, 1, 1];
    metadata.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types))).unwrap();
    metadata.set("tokenizer.ggml.merges", strings(&["a b"])).unwrap();
    change(&mut metadata);
    Tokenizer::from_gguf(&metadata)
}

fn problem(model: &str, key: &str, value: Value) -> String {
    let key = format!("tokenizer.ggml.{key}");
    match from(model, |metadata| metadata.set(key.as_str(), value.clone()).unwrap()) {
        Ok(_) => panic!("{key} = {value} is accepted"),
        Err(error @ (Error::File { .. } | Error::Unsupported { .. } | Error::Limit { .. })) => {
            error.to_string()
        }
        Err(error) => panic!("{key}: {error}"),
    }
}

#[test]
fn damaged_vocabularies_are_refused() {
    let f32s = |scores: &[f32]| Value::Array(Array::F32(scores.to_vec()));
    let i32s = |types: &[i32]| Value::Array(Array::I32(types.to_vec()));
    for model in ["llama", "gpt2"] {
        assert!(from(model, |_| {}).is_ok());
        let empty = from(model, |metadata| *metadata = Metadata::new()).unwrap_err().to_string();
        assert!(empty.contains("tokenizer.ggml.model") && empty.contains("missing"), "{empty}");
        assert!(problem(model, "tokens", strings(&[])).contains("empty"));
        assert!(problem(model, "tokens", i32s(&[1])).contains("array of strings"));
        assert!(problem(model, "tokens", strings(&["a"])).contains("8 elements"));
        assert!(problem(model, "token_type", i32s(&[1; 7])).contains("7 elements"));
        let bad = problem(model, "token_type", i32s(&[1, 1, 1, 1, 7, 1, 1, 1]));
        assert!(bad.contains("token 4") && bad.contains("is 7"), "{bad}");
        for key in
            ["bos_token_id", "eos_token_id", "unknown_token_id", "eot_token_id", "eom_token_id"]
        {
            for id in [8, u32::MAX - 1] {
                let bad = problem(model, key, Value::U32(id));
                assert!(bad.contains(key) && bad.contains(&id.to_string()), "{bad}");
            }
            // −1 is how writers say "none".
            let key = format!("tokenizer.ggml.{key}");
            assert!(
                from(model, |metadata| metadata.set(key, Value::U32(u32::MAX)).unwrap()).is_ok()
            );
        }
        assert!(problem(model, "add_bos_token", Value::U32(1)).contains("bool"));
    }
    assert!(problem("llama", "scores", f32s(&[0.0; 9])).contains("9 elements"));
    for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bad = problem("llama", "scores", f32s(&[0., 0., 0., score, 0., 0., 0., 0.]));
        assert!(bad.contains("token 3"), "{bad}");
    }
    let bad = problem("bert", "pre", Value::String("x".into()));
    assert!(bad.contains("\"bert\"") && bad.contains("gpt2"), "{bad}");
    let bad = problem("gpt2", "pre", Value::String("no-such".into()));
    assert!(bad.contains("no-such") && bad.contains("qwen2"), "{bad}");
}

#[test]
fn damaged_merges_are_refused() {
    for (merge, what) in [
        ("ab", "no space"),
        ("", "no space"),
        (" b", "not two pieces"),
        ("a ", "not two pieces"),
        ("a b b", "not two pieces"),
        ("a  b", "not two pieces"),
        ("a x", "part"),
        ("b a", "joins"),
    ] {
        let bad = problem("gpt2", "merges", strings(&["a b", merge]));
        assert!(bad.contains("merge 1") && bad.contains(what), "{bad}");
    }
    assert!(problem("gpt2", "merges", Value::Array(Array::I32(vec![1]))).contains("strings"));
    let none = from("gpt2", |metadata| {
        let mut without = Metadata::new();
        for (key, value) in metadata.iter().filter(|(key, _)| !key.ends_with("merges")) {
            without.set(key, value.clone()).unwrap();
        }
        *metadata = without;
    });
    assert!(none.unwrap_err().to_string().contains("missing"));
}

#[test]
fn odd_but_harmless_vocabularies_load() {
    let set_tokens = |metadata: &mut Metadata, pieces: &[&str], types: &[i32]| {
        metadata.set("tokenizer.ggml.tokens", strings(pieces)).unwrap();
        metadata
            .set("tokenizer.ggml.scores", Value::Array(Array::F32(vec![0.0; pieces.len()])))
            .unwrap();
        metadata
            .set("tokenizer.ggml.token_type", Value::Array(Array::I32(types.to_vec())))
            .unwrap();
    };
    // One token: the defaults of the special ids are not in the vocabulary.
    let one = from("llama", |metadata| set_tokens(metadata, &["a"], &[1])).unwrap();
    assert_eq!((one.bos(), one.eos(), one.unknown()), (None, None, None));
    assert_eq!(one.encode("aéa", EncodeOptions::default()), [0, 0]);
    // Duplicates and empty pieces; byte tokens that name no byte.
    let pieces = ["a", "a", "", "<0x-1>", "<0xZZ>", "<0x100>", "<0x42>", "<0x42>"];
    let odd = from("llama", |metadata| set_tokens(metadata, &pieces, &[1, 1, 1, 6, 6, 6, 6, 6]));
    let odd = odd.unwrap();
    assert_eq!(odd.id("a"), Some(0));
    assert_eq!(odd.encode("aBa", *PLAIN), [0, 6, 0]);
    assert_eq!(odd.decode(&[0, 1, 2, 3, 7]), "aa<0x-1>B");
    // Special tokens that are empty, duplicate, or hold the mark.
    let pieces = ["", "<x>", "<x>", "<\u{fdd0}y>", "<", "y", ">", "x"];
    for model in ["llama", "gpt2"] {
        let odd = from(model, |metadata| {
            set_tokens(metadata, &pieces, &[3, 3, 3, 3, 1, 1, 1, 1]);
            metadata.set("tokenizer.ggml.merges", strings(&[])).unwrap();
        });
        let odd = odd.unwrap();
        assert_eq!(odd.encode_chat(&Prompt::from_marked("<x><\u{fdd0}y>")), [1, 4, 5, 6]);
        assert_eq!(odd.encode_chat(&Prompt::from_marked("<\u{fdd0}x>")), [4, 7, 6]);
    }
    let long = "a".repeat(1 << 20);
    let limit = from("llama", |metadata| set_tokens(metadata, &[&long], &[1]));
    assert!(matches!(limit, Err(Error::Limit { allowed: 65_536, .. })));
}
