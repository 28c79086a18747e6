//! Byte-level BPE against the `tokenizers` crate with the published patterns:
//! every vocabulary of the test data, each also cut by every other pattern.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a failed expectation is the report")]

mod support;

use std::fs;
use std::sync::LazyLock;

use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use support::data;
use tokenizers::models::bpe::{BPE, Vocab};
use tokenizers::pre_tokenizers::PreTokenizerWrapper;
use tokenizers::pre_tokenizers::byte_level::ByteLevel;
use tokenizers::pre_tokenizers::sequence::Sequence;
use tokenizers::pre_tokenizers::split::{Split, SplitPattern};
use tokenizers::{SplitDelimiterBehavior, Tokenizer as Reference};
use tramontane::gguf::{Metadata, Value};
use tramontane::{EncodeOptions, Gguf, Tokenizer};

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const QWEN35: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const GPT4O: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const SEED_CODER: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1}| ?[^\s\p{L}\p{N}\r\n]+|\s*[\r\n]+|\s+(?!\S)|\s+";
const BAILING: &str = r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]++[\r\n]*|\s*[\r\n]|\s+(?!\S)|\s+";
const MINICPM5: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}+| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const EXAONE_MOE: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+";
const DEEPSEEK_V3: &str = r"[!\x22#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+";
const CHINESE_AND_KANA: &str = "[一-龥\u{3040}-ゟ゠-ヿ]+";
const EAST_ASIAN: &str = "[一-龥\u{800}-一가-\u{d7ff}]+";
const CASED: &str = "\\s?[A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\u{1f5f}-\u{1f7d}ᾀ-ᾴᾶ-ᾼ\u{1fbe}ῂ-ῄῆ-ῌ\u{1fd0}-\u{1fd3}\u{1fd6}-\u{1fdb}ῠ-Ῥῲ-ῴῶ-ῼℂℇℊ-ℓℕℙ-ℝℤ\u{2126}ℨ\u{212a}-ℭℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃]+";
const WIDE: &str = "\\s?[!-/:-~！-／：-～‘-‟\u{3000}-。]+";
const BLOOM: &str = r" ?[^(\s|.,!?…。，、।۔،)]+";

/// How many of the families come first that are rarer, or alike.
const RARE: usize = 16;

/// A name in `tokenizer.ggml.pre`, the published patterns, `ignore_merges`.
const FAMILIES: [(&str, &[&str], bool); 22] = [
    ("qwen35", &[QWEN35], false),
    ("gpt-4o", &[GPT4O], false),
    ("seed-coder", &[SEED_CODER], false),
    ("bailingmoe", &[BAILING], false),
    ("minicpm5", &[r"\p{N}{1,3}", MINICPM5], true),
    ("exaone-moe", &[EXAONE_MOE], false),
    ("smollm", &[r"\p{N}", GPT2], false),
    ("deepseek-v3", &[r"\p{N}{1,3}", CHINESE_AND_KANA, DEEPSEEK_V3], false),
    ("deepseek-llm", &["[\r\n]", CASED, WIDE, r"\s+$", EAST_ASIAN, r"\p{N}+"], false),
    ("deepseek-coder", &["[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", EAST_ASIAN, r"\p{N}"], false),
    ("falcon", &[r"[\p{P}$+<=>^~|`]+", GPT2, "[0-9][0-9][0-9]"], false),
    ("poro-chat", &[BLOOM], false),
    ("viking", &[BLOOM, r"\p{N}"], false),
    ("laguna", &[r"[^\n]+|[\n]+", QWEN2], false),
    (
        "ufakzeka",
        &[r"[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"],
        false,
    ),
    ("granite-embed-multi-97m", &[GPT4O], true),
    ("llama-bpe", &[LLAMA3], true),
    ("dbrx", &[LLAMA3], false),
    ("qwen2", &[QWEN2], false),
    ("gpt-2", &[GPT2], false),
    ("tekken", &[TEKKEN], true),
    ("default", &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"], false),
];

struct Pair {
    name: String,
    ours: Tokenizer,
    reference: Reference,
}

/// Every vocabulary with every family.
static PAIRS: LazyLock<Vec<Pair>> = LazyLock::new(|| {
    let mut pairs = Vec::new();
    for (file, metadata) in vocabularies() {
        // What is merged does not depend on the family: the rarer ones with one vocabulary.
        let families = if file == "qwen2" { &FAMILIES[..] } else { &FAMILIES[RARE..] };
        for &(pre, patterns, ignore_merges) in families {
            let mut metadata = metadata.clone();
            metadata.set("tokenizer.ggml.pre", Value::String(pre.into())).unwrap();
            let ours = Tokenizer::from_gguf(&metadata).unwrap();
            let reference = reference(&metadata, &ours, patterns, ignore_merges);
            pairs.push(Pair { name: format!("{file} cut as {pre}"), ours, reference });
        }
    }
    pairs
});

fn vocabularies() -> Vec<(String, Metadata)> {
    let open = |name: &str| {
        let gguf = Gguf::open(data(&format!("vocab/ggml-vocab-{name}.gguf"))).unwrap();
        (name.to_owned(), gguf.metadata().clone())
    };
    vec![open("llama-bpe"), open("qwen2")]
}

fn reference(
    metadata: &Metadata,
    ours: &Tokenizer,
    patterns: &[&str],
    ignore_merges: bool,
) -> Reference {
    let strings = |key: &str| metadata.strings(key).unwrap().iter().map(str::to_owned);
    let vocab: Vocab = strings("tokenizer.ggml.tokens")
        .zip(0..)
        // Control tokens are never made from text.
        .filter(|&(_, id)| !ours.is_control(id))
        .collect();
    let merges = strings("tokenizer.ggml.merges")
        .map(|merge| merge.split_once(' ').map(|(a, b)| (a.to_owned(), b.to_owned())).unwrap())
        // Nor are they merged.
        .filter(|(a, b)| [a, b, &format!("{a}{b}")].iter().all(|piece| vocab.contains_key(*piece)))
        .collect();
    let model = BPE::builder()
        .vocab_and_merges(vocab, merges)
        .ignore_merges(ignore_merges)
        .build()
        .unwrap();
    let split = |pattern: &&str| {
        let pattern = SplitPattern::Regex((*pattern).to_owned());
        Split::new(pattern, SplitDelimiterBehavior::Isolated, false).unwrap().into()
    };
    let mut steps: Vec<PreTokenizerWrapper> = patterns.iter().map(split).collect();
    steps.push(ByteLevel::new(false, false, false).into());
    let mut reference = Reference::new(model);
    reference.with_pre_tokenizer(Some(Sequence::new(steps)));
    reference
}

impl Pair {
    fn check(&self, text: &str) {
        let ours = self.ours.encode(text, EncodeOptions::default().with_bos(false));
        let expected = self.reference.encode(text, false).unwrap();
        if ours != expected.get_ids() {
            let at = ours.iter().zip(expected.get_ids()).take_while(|(a, b)| a == b).count();
            let before = self.ours.decode(&ours[..at]).len();
            let near: String = text.get(before..).unwrap_or(text).chars().take(60).collect();
            panic!("{}: token {at} differs, near {near:?}", self.name);
        }
    }
}

#[test]
fn corpora_and_reference_strings() {
    let strings = fs::read(data("tokenizer/strings.json")).unwrap();
    let strings: serde_json::Value = serde_json::from_slice(&strings).unwrap();
    for pair in &*PAIRS {
        for file in ["wiki.test.raw", "tinystories-val.txt"] {
            pair.check(&fs::read_to_string(data(&format!("corpora/{file}"))).unwrap());
        }
        for text in strings["strings"].as_array().unwrap() {
            pair.check(text.as_str().unwrap());
        }
    }
}

/// What a heap, a list or a look-ahead could get wrong.
#[test]
fn adversarial_strings() {
    let parts = [
        "a",
        "ab",
        " ",
        "  a",
        "\n",
        " \n",
        "\r\n",
        "\t",
        "\u{a0}",
        "\u{3000}x",
        "[",
        "'",
        "'s",
        "'ſ",
        "'S'LL",
        "1",
        "12 ",
        "é",
        "e\u{301}",
        "\u{301}A",
        "ʰA",
        "Aʰb",
        "ǅx",
        "字A",
        "Ⅷ",
        "½",
        "👍🏽",
        "\u{200d}",
        "/\n",
        "$+`<",
        "\u{85}",
        "\u{2028} ",
        "\0",
        "\u{fffd}",
        "\u{10ffff}",
        "the",
        " the",
    ];
    for pair in &*PAIRS {
        for a in parts {
            pair.check(&a.repeat(1000));
            for b in parts {
                pair.check(&format!("{a}{b}"));
                pair.check(&format!("{b} {a}{a}\n{b}").repeat(3));
            }
        }
    }
}

/// Random text: any characters, and characters of the classes that the
/// patterns tell apart close together.
#[test]
fn random_text() {
    let mixed = " \n\r\taAzZſ'’sStTlLmMdDrReEvV019½Ⅷéñǅʰ字のأ\u{301}\u{903}\u{a0}\u{2028}!/$`<_€👍";
    let mixed = prop::sample::select(mixed.chars().collect::<Vec<_>>());
    let texts = prop_oneof![
        prop::collection::vec(any::<char>(), 0..61).prop_map(String::from_iter),
        prop::collection::vec(mixed, 0..41).prop_map(String::from_iter),
    ];
    TestRunner::new(ProptestConfig { cases: 500, failure_persistence: None, ..Default::default() })
        .run(&texts, |text| {
            PAIRS.iter().for_each(|pair| pair.check(&text));
            Ok(())
        })
        .unwrap();
}

/// Every character by itself and in a word: the classes agree with the
/// reference's tables.
#[test]
fn every_character() {
    // Above are private use, noncharacters, and more ideographs.
    let characters: Vec<char> = ('\0'..'\u{20000}').chain('\u{e0000}'..'\u{e0200}').collect();
    let pairs = PAIRS.iter().filter(|pair| pair.name.starts_with("qwen2"));
    for pair in pairs {
        for some in characters.chunks(1 << 14) {
            let text: String = some.iter().flat_map(|&c| [c, 'a', ' ', c, 'A', c]).collect();
            pair.check(&text);
        }
    }
}
