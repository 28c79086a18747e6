//! How byte-level BPE cuts text into words before it merges, by the name in
//! `tokenizer.ggml.pre`.
//!
//! The published patterns are alternations: at each place of the text the
//! first alternative that matches makes the next word. A row of [`FAMILIES`]
//! lists them as [`Rule`]s.

use crate::error::{Error, Place, Result, Warning};
use crate::gguf::{Metadata, Strings};

use super::class::{
    ASCII_SYMBOL, BLANK, DIGIT, LETTER, LINE_END, LOWER, MARK, NUMBER, PUNCTUATION, SPACE, SYMBOL,
    Set, UPPER, any, not, ranges,
};
use super::rule::{Rule, WORD_LEAD, run, run_tail, some};

const PRE: &str = "tokenizer.ggml.pre";

/// One row per way of cutting.
pub(super) struct Family {
    names: &'static [&'static str],
    /// Applied in turn, each to the pieces of the one before.
    patterns: &'static [&'static [Rule]],
    /// Whether a word that is a piece as a whole skips the merges.
    pub ignore_merges: bool,
    /// What a missing `add_bos_token` means.
    pub add_bos: bool,
}

/// `[^\s\p{L}\p{N}]`
const SIGN: Set = not(SPACE | LETTER | NUMBER);

/// `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
const LLAMA3: &[Rule] = &[
    Rule::Contraction { any_case: true },
    run(Some(WORD_LEAD), any(LETTER)),
    some(any(NUMBER), 1, 3),
    run_tail(Some(any(BLANK)), SIGN, "\r\n"),
    Rule::LineEnds,
    Rule::Space,
];

/// As [`LLAMA3`], with `\p{N}+` instead of `\p{N}{1,3}`.
const LLAMA3_NUMBERS: &[Rule] = &[
    Rule::Contraction { any_case: true },
    run(Some(WORD_LEAD), any(LETTER)),
    run(None, any(NUMBER)),
    run_tail(Some(any(BLANK)), SIGN, "\r\n"),
    Rule::LineEnds,
    Rule::Space,
];

/// As [`LLAMA3`], with `\p{N}` instead of `\p{N}{1,3}`.
const QWEN2: &[Rule] = &[
    Rule::Contraction { any_case: true },
    run(Some(WORD_LEAD), any(LETTER)),
    some(any(NUMBER), 1, 1),
    run_tail(Some(any(BLANK)), SIGN, "\r\n"),
    Rule::LineEnds,
    Rule::Space,
];

/// As [`QWEN2`], without contractions.
const QWEN2_APOSTROPHES: &[Rule] = QWEN2.split_at(1).1;

/// As [`QWEN2`], with marks in words: `[\p{L}\p{M}]+` and `[^\s\p{L}\p{M}\p{N}]+`.
const QWEN35: &[Rule] = &[
    Rule::Contraction { any_case: true },
    run(Some(WORD_LEAD), any(LETTER | MARK)),
    some(any(NUMBER), 1, 1),
    run_tail(Some(any(BLANK)), not(SPACE | LETTER | MARK | NUMBER), "\r\n"),
    Rule::LineEnds,
    Rule::Space,
];

/// As [`QWEN2`], with ` ?[^\s\p{L}\p{N}\r\n]+` for signs.
const SEED_CODER: &[Rule] = &[
    Rule::Contraction { any_case: true },
    run(Some(WORD_LEAD), any(LETTER)),
    some(any(NUMBER), 1, 1),
    run(Some(any(BLANK)), SIGN),
    Rule::LineEnds,
    Rule::Space,
];

/// `(?i:…)|[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]?|\s*[\r\n]|\s+(?!\S)|\s+`
const EXAONE_MOE: &[Rule] = &[
    Rule::Contraction { any_case: true },
    Rule::Words,
    some(any(NUMBER), 1, 1),
    Rule::Run {
        lead: Some(any(BLANK)),
        of: SIGN,
        least: 1,
        most: usize::MAX,
        tail: "\r\n/",
        tail_most: 1,
    },
    Rule::LineEnds,
    Rule::Space,
];

/// `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
const GPT2: &[Rule] = &[
    Rule::Contraction { any_case: false },
    run(Some(any(BLANK)), any(LETTER)),
    run(Some(any(BLANK)), any(NUMBER)),
    run(Some(any(BLANK)), SIGN),
    Rule::Space,
];

/// [`Rule::CasedWord`]`|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+`
const TEKKEN: &[Rule] = &[
    Rule::CasedWord { contraction: false },
    some(any(NUMBER), 1, 1),
    run_tail(Some(any(BLANK)), SIGN, "\r\n/"),
    Rule::LineEnds,
    Rule::Space,
];

/// As [`TEKKEN`], with contractions behind words and `\p{N}{1,3}`.
const GPT4O: &[Rule] = &[
    Rule::CasedWord { contraction: true },
    some(any(NUMBER), 1, 3),
    run_tail(Some(any(BLANK)), SIGN, "\r\n/"),
    Rule::LineEnds,
    Rule::Space,
];

/// `[!-/:-@\[-`{-~]`
const ASCII_SIGNS: Set = ranges(&[('!', '/'), (':', '@'), ('[', '`'), ('{', '~')]);
/// `[A-Za-z]`
const ASCII_LETTERS: Set = ranges(&[('A', 'Z'), ('a', 'z')]);

/// `[!-/:-@\[-`{-~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
const DEEPSEEK_V3: &[Rule] = &[
    Rule::After { lead: ASCII_SIGNS, of: ASCII_LETTERS },
    run(Some(not(LINE_END | LETTER | PUNCTUATION | SYMBOL)), any(LETTER | MARK)),
    run_tail(Some(any(BLANK)), any(PUNCTUATION | SYMBOL), "\r\n"),
    Rule::LineEnds,
    Rule::Space,
];

/// `[一-龥ぁ-ヿ]+` with the whole blocks of Hiragana and Katakana.
const CHINESE_AND_KANA: &[Rule] = &[run(None, ranges(&[('一', '龥'), ('\u{3040}', '\u{30ff}')]))];
/// `[一-龥ࠀ-一가-퟿]+`
const EAST_ASIAN: &[Rule] = &[run(None, ranges(&[('\u{800}', '龥'), ('가', '\u{d7ff}')]))];

/// `[\r\n]`
const LINE_END_ALONE: &[Rule] = &[some(any(LINE_END), 1, 1)];
/// `\s?[A-Za-zµÀ-Ö…]+`, a list of the letters with case that were known to its author.
const CASED_LETTERS: &[Rule] = &[run(
    Some(any(SPACE)),
    any(UPPER | LOWER).without(&[
        ('\u{560}', '\u{588}'),
        ('\u{10c7}', '\u{10ff}'),
        ('\u{1c80}', '\u{1c8f}'),
        ('\u{2d00}', '\u{2d2d}'),
        ('\u{a78f}', '\u{a7ff}'),
        ('\u{ab30}', '\u{ab6f}'),
        ('\u{10570}', '\u{105bf}'),
        ('\u{10d50}', '\u{10d85}'),
        ('\u{16e40}', '\u{16eff}'),
        ('\u{1d400}', '\u{1d7ff}'),
        ('\u{1df00}', '\u{1dfff}'),
    ]),
)];
/// `\s?[!-/:-~！-／：-～‘-‟　-。]+`
const WIDE_SIGNS: &[Rule] = &[run(
    Some(any(SPACE)),
    ranges(&[
        ('!', '/'),
        (':', '~'),
        ('！', '／'),
        ('：', '～'),
        ('\u{2018}', '\u{201f}'),
        ('\u{3000}', '\u{3002}'),
    ]),
)];
/// `\s+$`
const END_SPACE: &[Rule] = &[Rule::EndSpace];
/// `\s?\p{L}+`
const LETTERS: &[Rule] = &[run(Some(any(SPACE)), any(LETTER))];
/// `\s?\p{P}+`
const PUNCTUATION_RUNS: &[Rule] = &[run(Some(any(SPACE)), any(PUNCTUATION))];

/// ` ?[^(\s|.,!?…。，、।۔،)]+`
const BLOOM: &[Rule] = &[run(
    Some(any(BLANK)),
    not(SPACE).without(&[
        ('(', ')'),
        ('|', '|'),
        ('.', '.'),
        (',', ','),
        ('!', '!'),
        ('?', '?'),
        ('…', '…'),
        ('。', '。'),
        ('，', '，'),
        ('、', '、'),
        ('।', '।'),
        ('۔', '۔'),
        ('،', '،'),
    ]),
)];

/// `[^\n]+|[\n]+`
const LINES: &[Rule] =
    &[run(None, not(0).without(&[('\n', '\n')])), run(None, ranges(&[('\n', '\n')]))];

/// `[\p{P}$+<=>^~|]+`
const PUNCTUATIONS: &[Rule] = &[run(None, any(PUNCTUATION | ASCII_SYMBOL))];
/// ``[\p{P}$+<=>^~|`]+``
const FALCON_SIGNS: &[Rule] = &[run(None, any(PUNCTUATION | ASCII_SYMBOL).with(&[('`', '`')]))];
/// `\p{N}+`
const NUMBERS: &[Rule] = &[run(None, any(NUMBER))];
/// `\p{N}`
const NUMBER_ALONE: &[Rule] = &[some(any(NUMBER), 1, 1)];
/// `\p{N}{1,3}`
const THREE_NUMBERS: &[Rule] = &[some(any(NUMBER), 1, 3)];
/// `[0-9][0-9][0-9]`
const THREE_DIGITS: &[Rule] = &[some(any(DIGIT), 3, 3)];

/// The names that converters write. Those in one row were published with the
/// same pattern.
const FAMILIES: &[Family] = &[
    Family {
        ignore_merges: true,
        add_bos: true,
        ..family(
            &[
                LLAMA3_NAME,
                "llama3",
                "llama-v3",
                "falcon3",
                "falcon-h1",
                "pixtral",
                "lfm2",
                "midm-2.0",
                "jina-v5-nano",
            ],
            &[LLAMA3],
        )
    },
    family(&["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"], &[LLAMA3]),
    family(
        &[
            "qwen2",
            "deepseek-r1-qwen",
            "stablelm2",
            "hunyuan",
            "megrez",
            "solar-open",
            "grok-2",
            "kormo",
            "f2llmv2",
            // The same words by another expression.
            "bailingmoe",
            "bailingmoe2",
            "llada-moe",
        ],
        &[QWEN2],
    ),
    family(&["qwen35"], &[QWEN35]),
    family(&["ufakzeka"], &[QWEN2_APOSTROPHES]),
    family(&["laguna"], &[LINES, QWEN2]),
    family(&["seed-coder"], &[SEED_CODER]),
    family(&["exaone-moe"], &[EXAONE_MOE]),
    Family { ignore_merges: true, ..family(&["minicpm5"], &[THREE_NUMBERS, LLAMA3_NUMBERS]) },
    family(
        &[
            "gpt-2",
            "phi-2",
            "mpt",
            "olmo",
            "jais",
            "gigachat",
            "roberta-bpe",
            "exaone4",
            "modern-bert",
            "jina-v1-en",
            "jina-v2-code",
            "jina-v2-de",
            "jina-v2-es",
            "jina-de",
            "jina-es",
            "mellum",
            "a.x-4.0",
            "trillion",
            "granite-docling",
        ],
        &[GPT2],
    ),
    family(
        &[
            "starcoder",
            "refact",
            "command-r",
            "smollm",
            "codeshell",
            "exaone",
            "minerva-7b",
            "mellum2",
        ],
        &[NUMBER_ALONE, GPT2],
    ),
    family(&["gpt-4o", "llama4", "kanana2", "talkie", "minimax-m2"], &[GPT4O]),
    Family { ignore_merges: true, ..family(&["granite-embed-multi-97m"], &[GPT4O]) },
    Family { ignore_merges: true, add_bos: true, ..family(&[TEKKEN_NAME], &[TEKKEN]) },
    family(
        &["deepseek-v3", "hunyuan-dense", "joyai-llm", "hy_v4"],
        &[THREE_NUMBERS, CHINESE_AND_KANA, DEEPSEEK_V3],
    ),
    family(
        &["deepseek-llm"],
        &[LINE_END_ALONE, CASED_LETTERS, WIDE_SIGNS, END_SPACE, EAST_ASIAN, NUMBERS],
    ),
    family(
        &["deepseek-coder"],
        &[LINE_END_ALONE, LETTERS, PUNCTUATION_RUNS, EAST_ASIAN, NUMBER_ALONE],
    ),
    family(&["falcon"], &[FALCON_SIGNS, GPT2, THREE_DIGITS]),
    family(&["bloom", "poro-chat", "gpt3-finnish"], &[BLOOM]),
    family(&["viking"], &[BLOOM, NUMBER_ALONE]),
    family(&[DEFAULT_NAME], &[PUNCTUATIONS, GPT2, NUMBERS, THREE_DIGITS]),
];

const LLAMA3_NAME: &str = "llama-bpe";
const TEKKEN_NAME: &str = "tekken";
const DEFAULT_NAME: &str = "default";

/// A row with the usual defaults.
const fn family(names: &'static [&'static str], patterns: &'static [&'static [Rule]]) -> Family {
    Family { names, patterns, ignore_merges: false, add_bos: false }
}

impl Family {
    /// The family that the file names; where it names none, what its other keys suggest.
    pub fn of(metadata: &Metadata, warnings: &mut Vec<Warning>) -> Result<&'static Family> {
        let name = match metadata.opt_str(PRE)? {
            Some(name) if name != DEFAULT_NAME => name,
            named => suggested(metadata, named.is_some(), warnings),
        };
        FAMILIES.iter().find(|family| family.names.contains(&name)).ok_or_else(|| {
            let known: Vec<&str> =
                FAMILIES.iter().flat_map(|family| family.names).copied().collect();
            let name: String = name.chars().take(80).collect();
            let problem = format!("is {name:?}; supported are {}", known.join(", "));
            Error::unsupported(Place::Key(PRE.to_owned()), problem)
        })
    }

    /// Calls `each` with the words of `text`, in order; together they are the text.
    pub fn words(&self, text: &str, each: &mut dyn FnMut(&str)) {
        cut(self.patterns, text, each);
    }
}

/// What files mean that name no pre-tokenizer, or "default": old Llama 3 files have no such
/// key, and Ollama's converter writes "default" for Mistral's newer models.
fn suggested(metadata: &Metadata, is_default: bool, warnings: &mut Vec<Warning>) -> &'static str {
    let has = |piece: &str| {
        let pieces: Option<&Strings> = metadata.opt_strings("tokenizer.ggml.tokens").ok().flatten();
        pieces.is_some_and(|pieces| pieces.iter().any(|other| other == piece))
    };
    let architecture = metadata.opt_str("general.architecture").ok().flatten();
    let (name, why) = match is_default {
        true if architecture == Some("mistral3") => (TEKKEN_NAME, "as Mistral's newer models have"),
        true => return DEFAULT_NAME,
        false if has("<|begin_of_text|>") && has("<|eot_id|>") => {
            (LLAMA3_NAME, "as the vocabulary is that of Llama 3")
        }
        false => {
            (DEFAULT_NAME, "which may cut text in another way than the model was trained with")
        }
    };
    let found = if is_default { "is \"default\"" } else { "is missing" };
    warnings.push(Warning::key(PRE, format!("{found}; {name:?} is used, {why}")));
    name
}

fn cut(patterns: &[&[Rule]], text: &str, each: &mut dyn FnMut(&str)) {
    let Some((pattern, others)) = patterns.split_first() else {
        each(text);
        return;
    };
    if let [Rule::EndSpace] = pattern {
        let (text, space) = Rule::split_end(text);
        [text, space]
            .into_iter()
            .filter(|part| !part.is_empty())
            .for_each(|part| cut(others, part, each));
        return;
    }
    let mut rest = text;
    // What no rule matches, up to the next match, is a piece too.
    let mut unmatched = 0;
    while let Some(c) = rest[unmatched..].chars().next() {
        let start = &rest[unmatched..];
        let Some(len) = pattern.iter().find_map(|rule| rule.find(start)) else {
            unmatched += c.len_utf8();
            continue;
        };
        if unmatched > 0 {
            cut(others, &rest[..unmatched], each);
        }
        let (word, behind) = start.split_at(len);
        cut(others, word, each);
        (rest, unmatched) = (behind, 0);
    }
    if !rest.is_empty() {
        cut(others, rest, each);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(family: &Family, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        family.words(text, &mut |word| words.push(word.to_owned()));
        assert_eq!(words.concat(), text);
        words
    }

    fn named(name: &str) -> &'static Family {
        FAMILIES.iter().find(|family| family.names.contains(&name)).unwrap()
    }

    #[test]
    fn no_name_stands_in_two_rows() {
        let mut names: Vec<_> = FAMILIES.iter().flat_map(|family| family.names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }

    #[test]
    fn every_family_keeps_the_text() {
        for family in FAMILIES {
            words(family, "Ab'Ll  c1234\n\n \n x\t\ty \u{a0}Zé́ ...\r\n!");
        }
    }

    #[test]
    fn llama3() {
        let text = "I'M here  now 12345\n\n  x \n y!\n";
        let expected = [
            "I", "'M", " here", " ", " now", " ", "123", "45", "\n\n", " ", " x", " \n", " y",
            "!\n",
        ];
        assert_eq!(words(named("llama-bpe"), text), expected);
    }

    #[test]
    fn gpt2() {
        let text = "we're  12345\n\n  x \ny  ";
        let expected = ["we", "'re", " ", " 12345", "\n\n ", " x", " ", "\n", "y", "  "];
        assert_eq!(words(named("gpt-2"), text), expected);
    }

    #[test]
    fn tekken() {
        let text = "HelloWorld ABC 12/\n";
        assert_eq!(words(named("tekken"), text), ["Hello", "World", " ABC", " ", "1", "2", "/\n"]);
    }

    #[test]
    fn default() {
        assert_eq!(words(named("default"), "a b1234!? x"), ["a", " b", "123", "4", "!?", " x"]);
    }
}
