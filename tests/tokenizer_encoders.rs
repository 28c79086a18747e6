//! The tokenizers of encoders and of Gemma 4 against those that the models were trained
//! with: WordPiece (Hugging Face), unigram (SentencePiece), BPE over characters (Hugging
//! Face); and vocabularies that nobody should have made.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::time::{Duration, Instant};

use support::{data, ids, json};
use tramontane::gguf::{Array, Metadata, Value};
use tramontane::{EncodeOptions, Error, Gguf, Tokenizer};

fn metadata(name: &str) -> Metadata {
    Gguf::open(data(&format!("encoders/{name}.gguf"))).unwrap().metadata().clone()
}

fn tokenizer(name: &str) -> Tokenizer {
    let tokenizer = Tokenizer::from_gguf(&metadata(name)).unwrap();
    let said: Vec<String> = tokenizer.warnings().iter().map(ToString::to_string).collect();
    assert_eq!(said, [""; 0]);
    tokenizer
}

/// Texts and their ids.
fn oracle(name: &str) -> Vec<(String, Vec<u32>)> {
    let all = json(&format!("encoders/{name}.json"));
    let one = |case: &serde_json::Value| (case["text"].as_str().unwrap().into(), ids(&case["ids"]));
    all.as_array().unwrap().iter().map(one).collect()
}

const BARE: fn() -> EncodeOptions = || EncodeOptions::default().with_bos(false);
const WHOLE: fn() -> EncodeOptions = || EncodeOptions::default().with_eos(true);

/// Hugging Face finds the texts of control tokens in any text; here only where asked.
#[test]
fn wordpiece_equals_hugging_face() {
    let tokenizer = tokenizer("minilm");
    for (text, expected) in [oracle("minilm"), oracle("minilm-edge")].concat() {
        let found = tokenizer.encode(&text, WHOLE().with_bos(false).with_special(true));
        assert_eq!(found, expected[1..], "{text:?}");
        assert_eq!(tokenizer.encode("cat", WHOLE())[0], expected[0]);
    }
    let plain = tokenizer.encode("[SEP] x", BARE());
    assert!(!plain.contains(&tokenizer.sep().unwrap()), "{plain:?}");
}

#[test]
fn wordpiece_has_its_special_tokens() {
    let tokenizer = tokenizer("minilm");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(101), Some(102)));
    assert_eq!((tokenizer.sep(), tokenizer.pad()), (Some(102), Some(0)));
    assert_eq!(tokenizer.unknown(), Some(100));
    assert_eq!(tokenizer.encode("", WHOLE()), [101, 102]);
    let (pair, second) = tokenizer.encode_pair("a cat", "[SEP] cats");
    assert_eq!(&pair[..4], [101, 1037, 4937, 102]);
    assert_eq!((second, pair.last()), (4, Some(&102)));
    assert!(!pair[4..pair.len() - 1].contains(&102), "{pair:?}");
    let text = "the quick brown fox jumps";
    assert_eq!(tokenizer.decode(&tokenizer.encode(text, WHOLE())), text);
    assert_eq!(tokenizer.decode(&tokenizer.encode("Embeddings", WHOLE())), "embeddings");
}

/// What old files leave out: the ids by text, the control tokens around every text.
#[test]
fn wordpiece_of_old_files() {
    let mut metadata = metadata("minilm");
    for name in ["bos_token_id", "eos_token_id", "unknown_token_id", "seperator_token_id"] {
        metadata.remove(&format!("tokenizer.ggml.{name}"));
    }
    metadata.set("tokenizer.ggml.add_bos_token", Value::Bool(false)).unwrap();
    metadata.remove("tokenizer.ggml.add_eos_token");
    let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
    assert_eq!(tokenizer.encode("cat \u{1F600}", WHOLE()), [101, 4937, 100, 102]);
}

#[test]
fn wordpiece_of_cased_files() {
    let mut metadata = metadata("minilm");
    let key = "tokenizer.ggml.normalizer.lowercase";
    metadata.set(key, Value::Bool(false)).unwrap();
    let cased = Tokenizer::from_gguf(&metadata).unwrap();
    assert_eq!(cased.encode("cat Cat caté", BARE()), [4937, 100, 100]);
    metadata.set("tokenizer.ggml.normalizer.strip_accents", Value::Bool(true)).unwrap();
    let cased = Tokenizer::from_gguf(&metadata).unwrap();
    assert_eq!(cased.encode("cat Cat cát", BARE()), [4937, 100, 4937]);
    // Stripped although the case stays, and the other way around.
    metadata.set(key, Value::Bool(true)).unwrap();
    metadata.set("tokenizer.ggml.normalizer.strip_accents", Value::Bool(false)).unwrap();
    let accents = Tokenizer::from_gguf(&metadata).unwrap();
    assert_eq!(accents.encode("CAT Cát", BARE()), [4937, 100]);
}

/// Ways to cut of the same sum of scores are equally right.
#[test]
fn unigram_equals_sentencepiece() {
    let tokenizer = tokenizer("unigram");
    let scores = metadata("unigram").opt_f32s("tokenizer.ggml.scores").unwrap().unwrap().to_vec();
    let sum = |ids: &[u32]| ids.iter().map(|&id| f64::from(scores[id as usize])).sum::<f64>();
    let mut ties = 0;
    for (text, expected) in oracle("unigram") {
        let found = tokenizer.encode(&text, BARE());
        if found != expected {
            ties += 1;
            let text: String = text.chars().take(80).collect();
            let spelled = |ids: &[u32]| tokenizer.decode(ids);
            assert_eq!(spelled(&found), spelled(&expected), "{text:?}");
            let (ours, theirs) = (sum(&found), sum(&expected));
            assert!((ours - theirs).abs() <= 1e-6 * theirs.abs(), "{text:?}: {ours} {theirs}");
        }
    }
    assert!(ties <= 5, "{ties} texts are cut in another way");
}

#[test]
fn unigram_has_its_special_tokens() {
    let tokenizer = tokenizer("unigram");
    assert_eq!((tokenizer.bos(), tokenizer.eos()), (Some(0), Some(2)));
    assert_eq!((tokenizer.unknown(), tokenizer.pad()), (Some(3), Some(1)));
    assert_eq!(tokenizer.encode("", WHOLE()), [0, 2]);
    assert_eq!(tokenizer.encode("\u{A000}\u{A001}", BARE()), [5, 3], "one unknown token");
    let (pair, second) = tokenizer.encode_pair("Hello", "world");
    assert_eq!(pair, [0, 944, 2, 2, 904, 2]);
    assert_eq!(second, 4);
    assert_eq!(tokenizer.decode(&tokenizer.encode("  Hello\t world ", WHOLE())), "Hello world");
}

/// As Ollama's library holds the table of some models: base64, one character per string.
#[test]
fn unigram_with_a_table_in_base64() {
    let mut metadata = metadata("unigram");
    let key = "tokenizer.ggml.precompiled_charsmap";
    let Some(Value::Array(Array::U8(bytes))) = metadata.get(key).cloned() else { panic!() };
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let all = three.iter().fold(0u32, |all, &byte| all << 8 | u32::from(byte));
        let all = all << (8 * (3 - three.len()));
        for i in 0..4 {
            let digit = DIGITS[(all >> (18 - 6 * i) & 63) as usize];
            text.push(if i <= three.len() { char::from(digit) } else { '=' });
        }
    }
    let texts = text.split("").filter(|text| !text.is_empty()).collect();
    metadata.set(key, Value::Array(Array::String(texts))).unwrap();
    let usual = tokenizer("unigram");
    let other = Tokenizer::from_gguf(&metadata).unwrap();
    for text in ["ﬁne ½", "Ｆｕｌｌ", "e\u{301}"] {
        assert_eq!(other.encode(text, BARE()), usual.encode(text, BARE()), "{text}");
        metadata.remove(key);
        let without = Tokenizer::from_gguf(&metadata).unwrap();
        assert_ne!(without.encode(text, BARE()), usual.encode(text, BARE()), "{text}");
    }
}

#[test]
fn gemma4_equals_hugging_face() {
    let mut metadata = metadata("gemma4");
    let oracle = oracle("gemma4");
    for (text, expected) in &oracle {
        assert_eq!(&tokenizer("gemma4").encode(text, BARE()), expected, "{text:?}");
    }
    // Files of Ollama's library name another algorithm.
    metadata.set("tokenizer.ggml.model", Value::String("llama".into())).unwrap();
    let other = Tokenizer::from_gguf(&metadata).unwrap();
    for (text, expected) in oracle.iter().take(20) {
        assert_eq!(&other.encode(text, BARE()), expected, "{text:?}");
    }
    assert_eq!((other.bos(), other.eos(), other.pad()), (Some(2), Some(1), Some(0)));
}

#[test]
fn gemma4_decodes_what_it_encodes() {
    let tokenizer = tokenizer("gemma4");
    for text in ["Hello  world\n\n x", " lead", "日本語 🎉 \u{7}", "tail "] {
        let ids = tokenizer.encode(text, EncodeOptions::default());
        assert_eq!(ids[0], 2);
        assert_eq!(tokenizer.decode(&ids), text);
    }
}

#[test]
fn damaged_vocabularies_are_refused_by_name() {
    let problem = |name: &str, key: &str, value: Option<Value>| {
        let mut metadata = metadata(name);
        metadata.remove(key);
        if let Some(value) = value {
            metadata.set(key, value).unwrap();
        }
        match Tokenizer::from_gguf(&metadata) {
            Err(Error::File { at, problem }) => format!("{at}: {problem}"),
            other => panic!("{key}: {other:?}"),
        }
    };
    let scores = "tokenizer.ggml.scores";
    let with = |score: f32| {
        let mut all = metadata("unigram").opt_f32s(scores).unwrap().unwrap().to_vec();
        all[7] = score;
        Some(Value::Array(Array::F32(all)))
    };
    assert!(problem("unigram", scores, None).contains("tokenizer.ggml.scores"));
    for score in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        assert!(problem("unigram", scores, with(score)).contains("token 7"));
    }
    let short = Some(Value::Array(Array::F32(vec![0.0; 3])));
    assert!(problem("unigram", scores, short).contains("3 elements"));
    let map = "tokenizer.ggml.precompiled_charsmap";
    for value in [
        Value::U32(1),
        Value::Array(Array::U8(vec![1, 2])),
        Value::Array(Array::U8(vec![255; 40])),
        Value::Array(Array::F32(vec![1.0])),
        Value::Array(Array::String(["?"].into_iter().collect())),
    ] {
        assert!(problem("unigram", map, Some(value)).contains("precompiled_charsmap"));
    }
    let lower = "tokenizer.ggml.normalizer.lowercase";
    assert!(problem("minilm", lower, Some(Value::String("x".into()))).contains("lowercase"));
    for name in ["minilm", "unigram", "gemma4"] {
        assert!(problem(name, "tokenizer.ggml.tokens", None).contains("tokenizer.ggml.tokens"));
    }
}

/// Extreme scores overflow nothing and hide no text.
#[test]
fn absurd_scores_still_cut_every_text() {
    for score in [f32::MAX, f32::MIN, 0.0] {
        let mut metadata = metadata("unigram");
        let all = vec![score; metadata.strings("tokenizer.ggml.tokens").unwrap().len()];
        metadata.set("tokenizer.ggml.scores", Value::Array(Array::F32(all))).unwrap();
        let tokenizer = Tokenizer::from_gguf(&metadata).unwrap();
        let ids = tokenizer.encode("hello world", BARE());
        assert_eq!(tokenizer.decode(&ids), "hello world", "{score}");
    }
}

/// A megabyte without a space, with accents without end, or with spaces alone.
#[test]
fn long_texts_take_linear_time() {
    for name in ["minilm", "unigram", "gemma4"] {
        let tokenizer = tokenizer(name);
        for unit in ["a", " ", "\n", "e\u{301}", "\u{301}", "字", "\u{1F600}", "\u{2581}", ".a"] {
            let start = Instant::now();
            let ids = tokenizer.encode(&unit.repeat(1_000_000 / unit.len()), WHOLE());
            tokenizer.decode(&ids);
            let time = start.elapsed();
            assert!(time < Duration::from_secs(20), "{name} {unit:?}: {time:?}");
        }
    }
}
