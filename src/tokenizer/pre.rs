//! How byte-level BPE cuts text into words before it merges, by the name in
//! `tokenizer.ggml.pre`.
//!
//! The published patterns end in `\s+(?!\S)`: a run of white space leaves its
//! last character to the word that follows. The `regex` crate has no
//! look-ahead (which is why it is linear in the text, whatever the text), so
//! the patterns here match the run and [`Pattern::end`] gives that one
//! character back.

use regex::Regex;

use crate::error::{Error, Place, Result};
use crate::gguf::Metadata;

const PRE: &str = "tokenizer.ggml.pre";

/// One row per way of cutting.
pub(super) struct Family {
    names: &'static [&'static str],
    /// Applied in turn, each to the pieces of the one before.
    patterns: &'static [&'static str],
    /// Whether a word that is a piece as a whole skips the merges.
    pub ignore_merges: bool,
    /// What a missing `add_bos_token` means.
    pub add_bos: bool,
}

const LLAMA3: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const QWEN2: &str = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+";
const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+";
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+";

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
        patterns: &[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", "[0-9][0-9][0-9]"],
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
}

pub(super) struct PreTokenizer {
    patterns: Vec<Pattern>,
}

struct Pattern {
    regex: Regex,
    /// Whether white space up to a line end is a word of its own: such a run
    /// keeps its last character.
    keeps_line_ends: bool,
}

impl PreTokenizer {
    pub fn new(family: &Family) -> Result<Self> {
        let compile = |pattern: &&str| match Regex::new(pattern) {
            Ok(regex) => Ok(Pattern { regex, keeps_line_ends: pattern.contains(r"\s*[\r\n]+") }),
            // The patterns are constants; a test compiles every one.
            Err(problem) => Err(Error::misuse(problem.to_string())),
        };
        Ok(PreTokenizer { patterns: family.patterns.iter().map(compile).collect::<Result<_>>()? })
    }

    /// Calls `each` with the words of `text`, in order; together they are the text.
    pub fn words(&self, text: &str, each: &mut dyn FnMut(&str)) {
        cut(&self.patterns, text, each);
    }
}

fn cut(patterns: &[Pattern], text: &str, each: &mut dyn FnMut(&str)) {
    let Some((pattern, rest)) = patterns.split_first() else {
        each(text);
        return;
    };
    let mut done = 0;
    while let Some(found) = pattern.regex.find_at(text, done) {
        let end = pattern.end(text, found.start(), found.end());
        if found.start() > done {
            cut(rest, &text[done..found.start()], each);
        }
        cut(rest, &text[found.start()..end], each);
        done = end;
    }
    if done < text.len() {
        cut(rest, &text[done..], each);
    }
}

impl Pattern {
    /// Where the match of `start..end` ends once `(?!\S)` is heeded. Only a
    /// run of white space ends in white space (or, where line ends may close
    /// a word, in white space that is no line end).
    fn end(&self, text: &str, start: usize, end: usize) -> usize {
        let Some(last) = text[start..end].chars().next_back() else { return end };
        let is_run = last.is_whitespace() && !(self.keeps_line_ends && matches!(last, '\r' | '\n'));
        let shorter = end - last.len_utf8();
        if is_run && end < text.len() && shorter > start { shorter } else { end }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(family: &Family, text: &str) -> Vec<String> {
        let mut words = Vec::new();
        PreTokenizer::new(family).unwrap().words(text, &mut |word| words.push(word.to_owned()));
        assert_eq!(words.concat(), text);
        words
    }

    #[test]
    fn every_pattern_compiles_and_keeps_the_text() {
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
