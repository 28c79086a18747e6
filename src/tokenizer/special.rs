//! Finds the tokens that are matched as whole texts, before any algorithm
//! sees the rest.

use aho_corasick::{AhoCorasick, MatchKind};

use crate::error::{Error, Result};
use crate::gguf::Metadata;

use super::PLAIN_TEXT_MARK;
use super::vocab::{Kind, Vocab};

/// A part of a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fragment<'t> {
    Text(&'t str),
    Token(u32),
}

pub(super) struct Specials {
    /// User-defined tokens: matched in every text.
    user: Matcher,
    /// Those, control tokens and unknown tokens: matched on request.
    all: Matcher,
    /// Whether control tokens swallow the white space behind them.
    swallow: bool,
}

struct Matcher {
    /// `None` where there is nothing to match.
    automaton: Option<AhoCorasick>,
    ids: Vec<u32>,
}

impl Specials {
    pub fn new(vocab: &Vocab, metadata: &Metadata) -> Result<Self> {
        // Phi-3's own tokenizer does this, and no key of the file says so.
        let name = metadata.opt_str("general.name").ok().flatten();
        let name = name.unwrap_or_default().to_lowercase();
        let name: String = name.chars().filter(|c| !matches!(c, '-' | '_' | ' ')).collect();
        Ok(Specials {
            user: Matcher::new(vocab, |kind| kind == Kind::UserDefined)?,
            all: Matcher::new(vocab, is_special)?,
            swallow: name.contains("phi3"),
        })
    }

    /// Cuts `text` at its special tokens: the leftmost first, the longest of
    /// those that start at one place. No text fragment is empty.
    pub fn split<'t>(&self, vocab: &Vocab, text: &'t str, control: bool) -> Vec<Fragment<'t>> {
        let matcher = if control { &self.all } else { &self.user };
        let mut fragments = Vec::new();
        let mut done = 0;
        for (start, end, id) in matcher.find(text) {
            // A match inside white space that was swallowed is gone with it.
            if start < done {
                continue;
            }
            push_text(&mut fragments, &text[done..start]);
            fragments.push(Fragment::Token(id));
            done = end;
            if self.swallow && swallows(vocab, id) {
                let rest = &text[end..];
                done += rest.len() - rest.trim_start_matches(is_ascii_space).len();
            }
        }
        push_text(&mut fragments, &text[done..]);
        fragments
    }
}

fn push_text<'t>(fragments: &mut Vec<Fragment<'t>>, text: &'t str) {
    if !text.is_empty() {
        fragments.push(Fragment::Text(text));
    }
}

/// Whether tokens of the kind are matched as whole texts.
fn is_special(kind: Kind) -> bool {
    matches!(kind, Kind::Control | Kind::Unknown | Kind::UserDefined)
}

/// Phi-3's exceptions: these three keep the white space behind them.
fn swallows(vocab: &Vocab, id: u32) -> bool {
    !matches!(vocab.piece(id), None | Some("<unk>" | "<s>" | "<|endoftext|>"))
}

fn is_ascii_space(c: char) -> bool {
    matches!(c, ' ' | '\t'..='\r')
}

impl Matcher {
    fn new(vocab: &Vocab, wanted: impl Fn(Kind) -> bool) -> Result<Self> {
        // A piece with the mark in it would match across the mark.
        let (ids, pieces): (Vec<u32>, Vec<&str>) = vocab
            .iter()
            .filter(|&(id, piece, kind)| {
                wanted(kind) && vocab.id(piece) == Some(id) && !piece.contains(PLAIN_TEXT_MARK)
            })
            .map(|(id, piece, _)| (id, piece))
            .unzip();
        if ids.is_empty() {
            return Ok(Matcher { automaton: None, ids });
        }
        let automaton = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(pieces);
        match automaton {
            Ok(automaton) => Ok(Matcher { automaton: Some(automaton), ids }),
            Err(problem) => Err(Error::key(
                "tokenizer.ggml.token_type",
                format!("marks too many tokens as special: {problem}"),
            )),
        }
    }

    /// Start, end and id of each match.
    fn find(&self, text: &str) -> impl Iterator<Item = (usize, usize, u32)> {
        self.automaton
            .iter()
            .flat_map(move |automaton| automaton.find_iter(text))
            .map(|found| (found.start(), found.end(), self.ids[found.pattern().as_usize()]))
    }
}
