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
    metadata.set("tokenizer.ggml.pre", Value::String("default".into())).unwrap();
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
            let key = format!("tokenizer.ggml.{key}");
            let with = |value: Value| {
                from(model, |metadata| metadata.set(key.as_str(), value).unwrap()).unwrap()
            };
            for id in [8, u32::MAX - 1] {
                let odd = with(Value::U32(id));
                let said = odd.warnings()[0].to_string();
                assert!(said.contains(&key) && said.contains(&id.to_string()), "{said}");
            }
            assert!(with(Value::String("two".into())).warnings()[0].to_string().contains(&key));
            // −1 is how writers say "none".
            for none in [Value::U32(u32::MAX), Value::I32(-1), Value::U64(u64::MAX)] {
                assert!(with(none).warnings().is_empty());
            }
        }
        assert!(problem(model, "add_bos_token", Value::U32(2)).contains("boolean"));
    }
    assert!(problem("llama", "scores", f32s(&[0.0; 9])).contains("9 elements"));
    for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let bad = problem("llama", "scores", f32s(&[0., 0., 0., score, 0., 0., 0., 0.]));
        assert!(bad.contains("token 3"), "{bad}");
    }
    let bad = problem("rwkv", "pre", Value::String("x".into()));
    assert!(bad.contains("\"rwkv\"") && bad.contains("gpt2"), "{bad}");
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
    let none = none.unwrap();
    assert_eq!(none.encode("ab", *PLAIN), [4, 5]);
    assert!(none.warnings()[0].to_string().contains("merges\": is missing"));
}

fn set(metadata: &mut Metadata, key: &str, value: Value) {
    metadata.set(format!("tokenizer.ggml.{key}"), value).unwrap();
}

/// An id that is none leaves what the vocabulary has by itself.
#[test]
fn a_wrong_id_is_none_and_scores_may_be_missing() {
    let odd = from("llama", |metadata| {
        set(metadata, "eos_token_id", Value::U32(8));
        set(metadata, "bos_token_id", Value::I64(1));
        set(metadata, "unknown_token_id", Value::U8(0));
        set(metadata, "add_bos_token", Value::U8(1));
        let types = vec![2, 3, 3, 6, 1, 1, 1, 1];
        set(metadata, "token_type", Value::Array(Array::U32(types)));
        metadata.remove("tokenizer.ggml.scores");
    });
    let odd = odd.unwrap();
    assert_eq!((odd.bos(), odd.eos(), odd.unknown()), (Some(1), Some(2), Some(0)));
    let said: Vec<String> = odd.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("eos_token_id") && said[1].contains("scores"), "{said:?}");
    assert_eq!(odd.encode("ab", *PLAIN), [0, 6]);
    let whole = from("llama", |metadata| {
        set(metadata, "scores", Value::Array(Array::I32(vec![0; 8])));
    });
    assert!(whole.unwrap().warnings().is_empty());
}

/// A vocabulary of `pieces`, all ordinary text, changed by `change`.
fn vocabulary(pieces: &[&str], change: impl FnOnce(&mut Metadata)) -> Tokenizer {
    let result = from("llama", |metadata| {
        set(metadata, "tokens", strings(pieces));
        set(metadata, "scores", Value::Array(Array::F32(vec![0.0; pieces.len()])));
        set(metadata, "token_type", Value::Array(Array::I32(vec![1; pieces.len()])));
        change(metadata);
    });
    result.unwrap()
}

fn ends(tokenizer: &Tokenizer) -> Vec<&str> {
    let all = (0..tokenizer.n_vocab() as u32).filter(|&id| tokenizer.is_end_of_generation(id));
    all.filter_map(|id| tokenizer.piece(id)).collect()
}

/// Texts that end an answer whatever the file says about them.
#[test]
fn ends_are_known_by_their_text() {
    let texts = [
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<|return|>",
        "<|flush|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "</s>",
        "<|eom_id|>",
        "<EOT>",
        "▁<EOT>",
        "_<EOT>",
        "[EOT]",
        "[EOS]",
        "<|end_of_text|>",
        "<end_of_utterance>",
        "<eos>",
        "<turn|>",
        "<｜end▁of▁sentence｜>",
    ];
    let all = vocabulary(&[&texts[..], &["a", "<|im_start|>"]].concat(), |_| {});
    assert_eq!(ends(&all), texts);
    for text in texts {
        let id = all.id(text).unwrap();
        assert!(all.is_control(id) && !all.encode(text, *PLAIN).contains(&id), "{text}");
    }
    // A user may write what ends a file of a code model.
    let files = ["<|fim_pad|>", "<|repo_name|>", "<|file_sep|>", "<fim_pad>", "<reponame>"];
    let all = vocabulary(&files, |_| {});
    assert_eq!(ends(&all), files);
    assert!(!all.is_control(0));
    // Not the end of the answer where others are: gpt-oss, Solar, Gemma 4.
    let harmony = ["<|end|>", "<|return|>", "<|call|>"];
    assert_eq!(ends(&vocabulary(&harmony, |_| {})), harmony[1..]);
    let solar = ["<|end|>", "<|flush|>", "<|calls|>"];
    assert_eq!(ends(&vocabulary(&solar, |_| {})), solar[1..]);
    let gemma = ["</s>", "<|tool_response>", "<turn|>"];
    let named = vocabulary(&gemma, |metadata| set(metadata, "eos_token_id", Value::U32(2)));
    assert_eq!(ends(&named), gemma[1..]);
}

/// Keys name one token or several.
#[test]
fn ends_are_known_by_their_keys() {
    let pieces = ["a", "b", "c", "d", "e", "f"];
    let list = |ids: &[i32]| Value::Array(Array::I32(ids.to_vec()));
    let all = vocabulary(&pieces, |metadata| {
        set(metadata, "eos_token_id", list(&[1, 2]));
        set(metadata, "eot_token_id", Value::U32(3));
        set(metadata, "fim_pad_token_id", Value::U32(5));
        set(metadata, "eos_token_ids", Value::Array(Array::U32(vec![2, 4, 77])));
    });
    assert_eq!(ends(&all), pieces[1..]);
    assert_eq!((all.eos(), all.eot()), (Some(1), Some(3)));
    let said = all.warnings()[0].to_string();
    assert!(all.warnings().len() == 1 && said.contains("eos_token_ids"), "{said}");
    let several = vocabulary(&pieces, |metadata| set(metadata, "eos_token_ids", list(&[4, 5])));
    assert_eq!((several.eos(), ends(&several)), (Some(4), vec!["e", "f"]));
}

/// What starts and what ends a sequence is added where it belongs, and once.
#[test]
fn a_sequence_starts_and_ends_once() {
    let file = |bos: bool, eos: bool| {
        vocabulary(&["<unk>", "<s>", "</s>", "▁", "a", "▁a"], |metadata| {
            let types = vec![2, 3, 3, 1, 1, 1];
            set(metadata, "token_type", Value::Array(Array::I32(types)));
            set(metadata, "add_bos_token", Value::Bool(bos));
            set(metadata, "add_eos_token", Value::Bool(eos));
        })
    };
    let (both, none) = (file(true, true), file(false, false));
    let whole = EncodeOptions::default().with_special(true);
    let vector = EncodeOptions::default().with_eos(true);
    assert_eq!(both.encode("a", EncodeOptions::default()), [1, 5], "to be continued");
    assert_eq!(both.encode("a", vector), [1, 5, 2]);
    assert_eq!(both.encode("<s>a", whole), [1, 5]);
    assert_eq!(both.encode("<s><s>a", whole), [1, 1, 5], "what was written stays");
    assert_eq!(both.encode("a</s>", whole.with_eos(true)), [1, 5, 2]);
    assert_eq!(none.encode("a", vector), [5]);
    assert_eq!(both.encode_chat(&Prompt::from_marked("<s>a")), [1, 5]);

    // In the middle nothing is added, behind a control token its space.
    assert_eq!(both.encode_after(&[], "a"), [1, 5]);
    assert_eq!(both.encode_after(&[1], "a"), [5]);
    assert_eq!(both.encode_after(&[1, 5], "a"), [4]);
    assert_eq!(both.encode_after(&[1, 5], " a"), [5]);
    assert_eq!(none.encode_after(&[5, 2], "a"), [5]);
}

/// What a file does not say about its pre-tokenizer is guessed, and said.
#[test]
fn a_missing_pre_tokenizer_is_a_warning() {
    let gguf = Gguf::open(data("vocab/ggml-vocab-llama-bpe.gguf")).unwrap();
    let named = Tokenizer::from_gguf(gguf.metadata()).unwrap();
    assert!(named.warnings().is_empty());
    let mut metadata = gguf.metadata().clone();
    metadata.remove("tokenizer.ggml.pre");
    let old = Tokenizer::from_gguf(&metadata).unwrap();
    assert!(old.warnings()[0].to_string().contains("pre\": is missing; \"llama-bpe\""));
    let text = "(really)!!\n\n  ok 3333+777?";
    assert_eq!(old.encode(text, *PLAIN), named.encode(text, *PLAIN));

    let unknown = from("gpt2", |metadata| drop(metadata.remove("tokenizer.ggml.pre"))).unwrap();
    let said = unknown.warnings()[0].to_string();
    assert!(said.contains("is missing; \"default\""), "{said}");
    let default = |architecture: &str| {
        from("gpt2", |metadata| {
            metadata.set("general.architecture", Value::String(architecture.into())).unwrap();
            set(metadata, "pre", Value::String("default".into()));
        })
        .unwrap()
    };
    assert!(default("llama").warnings().is_empty());
    assert!(default("mistral3").warnings()[0].to_string().contains("\"tekken\" is used"));
}

#[test]
fn keys_that_would_change_tokens_are_said() {
    let odd = from("llama", |metadata| {
        set(metadata, "remove_extra_whitespaces", Value::Bool(true));
        set(metadata, "add_sep_token", Value::Bool(false));
        set(metadata, "precompiled_charsmap", Value::Array(Array::U8(vec![1])));
    });
    let odd = odd.unwrap();
    let said: Vec<String> = odd.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(said.len(), 2, "{said:?}");
    assert!(said[0].contains("white space") && said[1].contains("charsmap"), "{said:?}");
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
