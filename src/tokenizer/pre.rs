//! How byte-level BPE cuts text into words before it merges, by the name in
//! `tokenizer.ggml.pre`.
//!
//! The published patterns are alternations: at each place of the text the
//! first alternative that matches makes the next word. A row of [`FAMILIES`]
//! lists them as [`Rule`]s.

use crate::error::{Error, Place, Result};
use crate::gguf::Metadata;

use super::class::{ASCII_SYMBOL, BLANK, DIGIT, LETTER, NUMBER, PUNCTUATION, SPACE, Set, any, not};
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

/// As [`LLAMA3`], with `\p{N}` instead of `\p{N}{1,3}`.
const QWEN2: &[Rule] = &[
    Rule::Contraction { any_case: true },
    run(Some(WORD_LEAD), any(LETTER)),
    some(any(NUMBER), 1, 1),
    run_tail(Some(any(BLANK)), SIGN, "\r\n"),
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
    Rule::CasedWord,
    some(any(NUMBER), 1, 1),
    run_tail(Some(any(BLANK)), SIGN, "\r\n/"),
    Rule::LineEnds,
    Rule::Space,
];

/// `[\p{P}$+<=>^~|]+`
const PUNCTUATIONS: &[Rule] = &[run(None, any(PUNCTUATION | ASCII_SYMBOL))];
/// `\p{N}+`
const NUMBERS: &[Rule] = &[run(None, any(NUMBER))];
/// `[0-9][0-9][0-9]`
const THREE_DIGITS: &[Rule] = &[some(any(DIGIT), 3, 3)];

/// The names that converters write. Those in one row were published with the
/// same pattern.
const FAMILIES: [Family; 6] = [
    Family {
        names: &["llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "lfm2"],
        patterns: &[LLAMA3],
        ignore_merges: true,
        add_bos: true,
    },
    Family {
        names: &["dbrx", "smaug-bpe", "chatglm-bpe", "glm4"],
        patterns: &[LLAMA3],
        ignore_merges: false,
        add_bos: false,
    },
    Family {
        names: &["qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"],
        patterns: &[QWEN2],
        ignore_merges: false,
        add_bos: false,
    },
    Family {
        names: &["gpt-2", "phi-2", "mpt", "olmo", "jais", "gigachat", "roberta-bpe", "exaone4"],
        patterns: &[GPT2],
        ignore_merges: false,
        add_bos: false,
    },
    Family { names: &["tekken"], patterns: &[TEKKEN], ignore_merges: true, add_bos: true },
    Family {
        names: &["default"],
        patterns: &[PUNCTUATIONS, GPT2, NUMBERS, THREE_DIGITS],
        ignore_merges: false,
        add_bos: false,
    },
];

impl Family {
    /// The family that the file names; "default" where it names none.
    pub fn of(metadata: &Metadata) -> Result<&'static Family> {
        let name = metadata.opt_str(PRE)?.unwrap_or("default");
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

fn cut(patterns: &[&[Rule]], text: &str, each: &mut dyn FnMut(&str)) {
    let Some((pattern, others)) = patterns.split_first() else {
        each(text);
        return;
    };
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

    #[test]
    fn every_family_keeps_the_text() {
        for family in &FAMILIES {
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
        assert_eq!(words(&FAMILIES[0], text), expected);
    }

    #[test]
    fn gpt2() {
        let text = "we're  12345\n\n  x \ny  ";
        let expected = ["we", "'re", " ", " 12345", "\n\n ", " x", " ", "\n", "y", "  "];
        assert_eq!(words(&FAMILIES[3], text), expected);
    }

    #[test]
    fn tekken() {
        let text = "HelloWorld ABC 12/\n";
        assert_eq!(words(&FAMILIES[4], text), ["Hello", "World", " ABC", " ", "1", "2", "/\n"]);
    }

    #[test]
    fn default() {
        assert_eq!(words(&FAMILIES[5], "a b1234!? x"), ["a", " b", "123", "4", "!?", " x"]);
    }
}
