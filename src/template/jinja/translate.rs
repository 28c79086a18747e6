//! Rewrites a template's source where the engine reads it otherwise than jinja2.
//!
//! | source | becomes | because |
//! |---|---|---|
//! | `a % b` | `(a)\|_remainder(b)` | the engine formats no texts with `%` |
//! | `+a` | `a` | the engine has no unary plus |
//! | `a.items` | `(a\|_member('items'))` | where no call follows, it is the dictionary's method |
//! | `a['items']` | `(a\|_item('items'))` | it is, if the dictionary has no such key |
//! | `{% generation %}` | `{% with %}` | transformers' mark of what to train on; only a scope here |
//! | `{% raw %}` | `{% raw +%}` | jinja2 trims no line break behind it |

use std::borrow::Cow;

use super::guard::{Edit, Rank, ends_operand, insert, operand_end};
use super::scan::{Kind, Tag, Token};

/// The left value modulo the right one, or a text with values put in.
pub(super) const REMAINDER: &str = "_remainder";
/// A member by `.name`, and by `['name']`.
pub(super) const MEMBER: &str = "_member";
pub(super) const ITEM: &str = "_item";

/// Methods of Python's dictionaries that templates may call.
pub(super) const DICT_METHODS: [&str; 6] = ["copy", "fromkeys", "get", "items", "keys", "values"];
/// Those that change them, which the sandbox hides.
pub(super) const DICT_CHANGES: [&str; 5] = ["clear", "pop", "popitem", "setdefault", "update"];

/// Edits a statement that is not jinja2's own; `true` if there is no more to edit in it.
pub(super) fn statement(tag: &Tag<'_>, edits: &mut Vec<Edit>) -> bool {
    let text = match tag.statement() {
        "generation" => "with",
        "endgeneration" => "endwith",
        "raw" if !tag.signed => {
            insert(tag.end - 2, Rank::Expression, "+", edits);
            return true;
        }
        _ => return false,
    };
    let [token] = tag.tokens.as_slice() else { return false };
    replace(token.start, token.end(), text, edits);
    true
}

/// Edits the expressions of a tag, of which the first `targets` tokens are assigned to.
pub(super) fn expressions(tag: &Tag<'_>, targets: usize, edits: &mut Vec<Edit>) {
    let tokens = &tag.tokens;
    for (index, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Operator {
            continue;
        }
        match token.text {
            "%" if ends_operand(tag, index) => remainder(tag, index, edits),
            "+" if !ends_operand(tag, index) && index + 1 < tokens.len() => {
                replace(token.start, token.end(), "", edits);
            }
            "." if index >= targets => {
                let name = tokens.get(index + 1).filter(|name| name.kind == Kind::Name);
                member(tag, index, index + 1, name.map(|name| name.text), MEMBER, edits);
            }
            "[" if index >= targets && token.partner == index + 2 && ends_operand(tag, index) => {
                let key = &tokens[index + 1];
                let name = key.text.get(1..key.text.len() - 1).filter(|_| key.kind == Kind::Text);
                member(tag, index, index + 2, name, ITEM, edits);
            }
            _ => {}
        }
    }
}

fn replace(from: usize, to: usize, text: impl Into<Cow<'static, str>>, edits: &mut Vec<Edit>) {
    edits.push(Edit { at: from, rank: Rank::Replace, removed: to - from, text: text.into() });
}

fn remainder(tag: &Tag<'_>, index: usize, edits: &mut Vec<Edit>) {
    let tokens = &tag.tokens;
    let Some(last) = power_end(tokens, index + 1) else { return };
    insert(tokens[term_start(tag, index - 1)].start, Rank::Open, "(", edits);
    replace(tokens[index].start, tokens[index].end(), ")|_remainder(", edits);
    insert(tokens[last].end(), Rank::Translated, ")", edits);
}

/// The last token of `a` or `a ** b` where `a` starts at `index`.
fn power_end(tokens: &[Token<'_>], index: usize) -> Option<usize> {
    let (mut last, _) = operand_end(tokens, index)?;
    while tokens.get(last + 1).is_some_and(|token| token.is("**")) {
        (last, _) = operand_end(tokens, last + 2)?;
    }
    Some(last)
}

/// The last token of the product that starts at `index`.
pub(super) fn term_end(tokens: &[Token<'_>], index: usize) -> Option<usize> {
    let mut last = power_end(tokens, index)?;
    while tokens.get(last + 1).is_some_and(is_product) {
        last = power_end(tokens, last + 2)?;
    }
    Some(last)
}

/// The first token of the product whose last is `last`.
pub(super) fn term_start(tag: &Tag<'_>, last: usize) -> usize {
    let mut start = operand_start(tag, last);
    while start > 1 && is_product(&tag.tokens[start - 1]) {
        start = operand_start(tag, start - 2);
    }
    start
}

/// Whether tokens `first..=last` are a product, not one operand.
pub(super) fn has_product(tag: &Tag<'_>, first: usize, last: usize) -> bool {
    operand_start(tag, last) > first
}

fn is_product(token: &Token<'_>) -> bool {
    ["*", "/", "//", "%", "**"].iter().any(|sign| token.is(sign))
}

/// Edits the member access of tokens `from..=to`, if `name` is that of a dictionary's method.
fn member(
    tag: &Tag<'_>,
    from: usize,
    to: usize,
    name: Option<&str>,
    filter: &str,
    edits: &mut Vec<Edit>,
) {
    let tokens = &tag.tokens;
    let Some(name) = name.filter(|name| DICT_METHODS.contains(name) || DICT_CHANGES.contains(name))
    else {
        return;
    };
    if from == 0 || tokens.get(to + 1).is_some_and(|next| next.is("(")) {
        return;
    }
    insert(tokens[primary_start(tag, from - 1)].start, Rank::Open, "(", edits);
    let text = format!("|{filter}('{name}'))");
    replace(tokens[from].start, tokens[to].end(), text, edits);
}

/// The first token of the operand whose last is `last`, signs included.
fn operand_start(tag: &Tag<'_>, last: usize) -> usize {
    let mut start = primary_start(tag, last);
    while start > 0
        && (tag.tokens[start - 1].is("-") || tag.tokens[start - 1].is("+"))
        && !ends_operand(tag, start - 1)
    {
        start -= 1;
    }
    start
}

/// The first token of the name, literal, call, subscript or filter whose last is `last`.
fn primary_start(tag: &Tag<'_>, last: usize) -> usize {
    let tokens: &[Token<'_>] = &tag.tokens;
    let mut at = last;
    loop {
        let is_group = tokens[at].kind == Kind::Operator;
        at = tokens[at].partner.min(at);
        let Some(before) = at.checked_sub(1) else { return at };
        let joined = tokens[at].kind == Kind::Text && tokens[before].kind == Kind::Text;
        at = match tokens[before].text {
            // The member's object, or what the filter is applied to.
            "." | "|" if before > 0 && tokens[before].kind == Kind::Operator => before - 1,
            // What is called or subscripted.
            _ if is_group && ends_operand(tag, at) => before,
            _ if joined => before,
            _ => return at,
        };
    }
}
