//! The alternatives of the published pre-tokenizer patterns, each matched by
//! hand: in time linear in the match, look-ahead included.

use super::class::{CASELESS, LETTER, LINE_END, LOWER, MARK, NUMBER, SPACE, Set, UPPER, any, not};

/// One alternative of a pattern.
#[derive(Debug, Clone, Copy)]
pub(super) enum Rule {
    /// `'s|'t|'re|'ve|'m|'ll|'d`, or `(?i:…)` of it.
    Contraction { any_case: bool },
    /// `lead? of{least,most} tail{0,tail_most}`
    Run {
        lead: Option<Set>,
        of: Set,
        least: usize,
        most: usize,
        tail: &'static str,
        tail_most: usize,
    },
    /// `lead? [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]* [\p{Ll}\p{Lm}\p{Lo}\p{M}]+`, or else
    /// `lead? [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+ [\p{Ll}\p{Lm}\p{Lo}\p{M}]*`, with
    /// `lead` = `[^\r\n\p{L}\p{N}]`: a word begins at a change to upper case. Behind it
    /// `(?i:'s|'t|'re|'ve|'m|'ll|'d)?`, if `contraction`.
    CasedWord { contraction: bool },
    /// `lead of+`
    After { lead: Set, of: Set },
    /// `\p{L}\p{M}*(?: \p{L}\p{M}*)*` once or more, behind `[^\r\n\p{L}\p{N}]?`: words with
    /// single spaces between them.
    Words,
    /// `\s*[\r\n]+`
    LineEnds,
    /// `\s+(?!\S)|\s+`: a run of white space leaves its last character to what
    /// follows it.
    Space,
    /// `\s+$`, the only rule of its pattern: see [`Rule::split_end`].
    EndSpace,
}

/// One or more characters of `of`.
pub(super) const fn run(lead: Option<Set>, of: Set) -> Rule {
    Rule::Run { lead, of, least: 1, most: usize::MAX, tail: "", tail_most: 0 }
}

/// As [`run`], with any characters of `tail` behind it.
pub(super) const fn run_tail(lead: Option<Set>, of: Set, tail: &'static str) -> Rule {
    Rule::Run { lead, of, least: 1, most: usize::MAX, tail, tail_most: usize::MAX }
}

/// `of{least,most}`
pub(super) const fn some(of: Set, least: usize, most: usize) -> Rule {
    Rule::Run { lead: None, of, least, most, tail: "", tail_most: 0 }
}

/// What may stand in front of a word: `[^\r\n\p{L}\p{N}]`.
pub(super) const WORD_LEAD: Set = not(LINE_END | LETTER | NUMBER);

const UPPER_PART: Set = any(UPPER | CASELESS | MARK);
const LOWER_PART: Set = any(LOWER | CASELESS | MARK);

impl Rule {
    /// Bytes of the match at the start of `text`, which is not empty.
    pub fn find(&self, text: &str) -> Option<usize> {
        match *self {
            Rule::Contraction { any_case } => contraction(text, any_case),
            Rule::Run { lead, of, least, most, tail, tail_most } => {
                let match_run = |text: &str| {
                    let len = prefix(text, of, most);
                    // `least` is small: the run is counted only so far.
                    let enough = len > 0 && text[..len].chars().take(least).count() == least;
                    enough.then_some(len)
                };
                let len = with_lead(text, lead, match_run)?;
                // All of a tail are ASCII: as many bytes as characters.
                let rest = text[len..].bytes().take(tail_most);
                Some(len + rest.take_while(|&byte| tail.as_bytes().contains(&byte)).count())
            }
            Rule::CasedWord { contraction: suffix } => {
                let word = with_lead(text, Some(WORD_LEAD), lower_end)
                    .or_else(|| with_lead(text, Some(WORD_LEAD), upper_end))?;
                let suffix = if suffix { contraction(&text[word..], true) } else { None };
                Some(word + suffix.unwrap_or(0))
            }
            Rule::After { lead, of } => {
                let behind = text.strip_prefix(|c| lead.has(c))?;
                let len = prefix(behind, of, usize::MAX);
                (len > 0).then_some(text.len() - behind.len() + len)
            }
            Rule::Words => with_lead(text, Some(WORD_LEAD), words_end),
            Rule::LineEnds => {
                let run = &text[..prefix(text, any(SPACE), usize::MAX)];
                run.rfind(['\r', '\n']).map(|last| last + 1)
            }
            Rule::Space => {
                let run = &text[..prefix(text, any(SPACE), usize::MAX)];
                let last = run.chars().next_back()?.len_utf8();
                let whole = run.len() == text.len() || run.len() == last;
                Some(if whole { run.len() } else { run.len() - last })
            }
            Rule::EndSpace => None,
        }
    }

    /// `text` cut before the white space that ends it. (Looked for from the front, each
    /// place in a long run would be tried.)
    pub fn split_end(text: &str) -> (&str, &str) {
        text.split_at(text.trim_end_matches(|c| any(SPACE).has(c)).len())
    }
}

/// The end of words with single spaces between them: see [`Rule::Words`].
fn words_end(text: &str) -> Option<usize> {
    let word = |text: &str| {
        let letters = prefix(text, any(LETTER), usize::MAX);
        (letters > 0).then(|| letters + prefix(&text[letters..], any(LETTER | MARK), usize::MAX))
    };
    let mut end = word(text)?;
    while let Some(next) = text[end..].strip_prefix(' ').and_then(word) {
        end += 1 + next;
    }
    Some(end)
}

/// Bytes of the longest run of at most `most` characters of `of`.
fn prefix(text: &str, of: Set, most: usize) -> usize {
    let mut left = most;
    text.find(|c| {
        let ends = left == 0 || !of.has(c);
        left = left.saturating_sub(1);
        ends
    })
    .unwrap_or(text.len())
}

/// Matches `find` behind one character of `lead`, or else without it.
fn with_lead(text: &str, lead: Option<Set>, find: impl Fn(&str) -> Option<usize>) -> Option<usize> {
    let first = text.chars().next().filter(|&c| lead.is_some_and(|lead| lead.has(c)));
    let behind = first.and_then(|first| {
        let lead = first.len_utf8();
        Some(lead + find(&text[lead..])?)
    });
    behind.or_else(|| find(text))
}

/// The end of `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+`.
fn lower_end(text: &str) -> Option<usize> {
    let upper = prefix(text, UPPER_PART, usize::MAX);
    let lower = prefix(&text[upper..], any(LOWER), 1);
    if lower > 0 {
        return Some(upper + prefix(&text[upper..], LOWER_PART, usize::MAX));
    }
    // The first part gives back what the second needs: up to the last
    // character that both may have.
    let both = |c: char| any(CASELESS | MARK).has(c);
    let (last, c) = text[..upper].char_indices().rfind(|&(_, c)| both(c))?;
    Some(last + c.len_utf8())
}

/// The end of `[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*`.
fn upper_end(text: &str) -> Option<usize> {
    let upper = prefix(text, UPPER_PART, usize::MAX);
    (upper > 0).then(|| upper + prefix(&text[upper..], LOWER_PART, usize::MAX))
}

fn contraction(text: &str, any_case: bool) -> Option<usize> {
    let fold = |c: char| match c {
        // Unicode folds the long s to s.
        'ſ' if any_case => 's',
        _ if any_case => c.to_ascii_lowercase(),
        _ => c,
    };
    let mut chars = text.strip_prefix('\'')?.chars();
    let first = chars.next()?;
    match (fold(first), chars.next().map(fold)) {
        ('s' | 't' | 'm' | 'd', _) => Some(1 + first.len_utf8()),
        ('r' | 'v', Some('e')) | ('l', Some('l')) => Some(3),
        _ => None,
    }
}
