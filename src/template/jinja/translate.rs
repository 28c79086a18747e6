//! Rewrites a template's source where the engine reads it otherwise than jinja2.
//!
//! | source | becomes | because |
//! |---|---|---|
//! | `a % b` | `(a)\|_remainder(b)` | the engine formats no texts with `%` |
//! | `+a` | `a` | the engine has no unary plus |
//! | `a\|safe + b` | `(a\|safe)\|_joined(b)` | jinja2 escapes the text that is added to a safe one |
//! | `a.items` | `(a\|_member('items'))` | where no call follows, it is the dictionary's method |
//! | `a['items']` | `(a\|_item('items'))` | it is, if the dictionary has no such key |
//! | `{% generation %}` | `{% with %}` | transformers' mark of what to train on; only a scope here |
//! | `{% raw %}` | `{% raw +%}` | jinja2 trims no line break behind it |

use super::edit::{Edit, Rank, insert, replace};
use super::operands::{ends_operand, power_end, primary_start, term_end, term_start};
use super::scan::{Kind, Tag, Token};

/// The left value modulo the right one, or a text with values put in.
pub(super) const REMAINDER: &str = "_remainder";
/// The left text and the right one, escaped where the other is safe.
pub(super) const JOINED: &str = "_joined";
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
    let is_safe = tokens.iter().any(|token| token.text == "safe");
    for (index, token) in tokens.iter().enumerate() {
        if token.kind != Kind::Operator {
            continue;
        }
        match token.text {
            "+" if is_safe && ends_operand(tag, index) => joined(tag, index, edits),
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

fn remainder(tag: &Tag<'_>, index: usize, edits: &mut Vec<Edit>) {
    let tokens = &tag.tokens;
    let Some(last) = power_end(tokens, index + 1) else { return };
    insert(tokens[term_start(tag, index - 1)].start, Rank::Open, "(", edits);
    replace(tokens[index].start, tokens[index].end(), ")|_remainder(", edits);
    insert(tokens[last].end(), Rank::Translated, ")", edits);
}

/// Edits a `+` of a sum that has a safe text among its terms.
fn joined(tag: &Tag<'_>, index: usize, edits: &mut Vec<Edit>) {
    let tokens = &tag.tokens;
    let is_sum = |at: usize| tokens.get(at).is_some_and(|token| token.is("+") || token.is("-"));
    let left = term_start(tag, index - 1);
    let mut first = left;
    while first > 1 && is_sum(first - 1) && ends_operand(tag, first - 1) {
        first = term_start(tag, first - 2);
    }
    let Some(right) = term_end(tokens, index + 1) else { return };
    let mut last = right;
    while is_sum(last + 1) {
        let Some(end) = term_end(tokens, last + 2) else { return };
        last = end;
    }
    if !has_safe(tokens, first, last) {
        return;
    }
    if left == first {
        insert(tokens[first].start, Rank::Open, "(", edits);
    }
    let text = if left == first { ")|_joined(" } else { "|_joined(" };
    replace(tokens[index].start, tokens[index].end(), text, edits);
    insert(tokens[right].end(), Rank::Translated, ")", edits);
}

/// Whether tokens `first..=last` have the filter `safe` outside brackets.
fn has_safe(tokens: &[Token<'_>], first: usize, last: usize) -> bool {
    let mut at = first;
    while at < last {
        if tokens[at].is("|") && tokens[at + 1].text == "safe" {
            return true;
        }
        at = tokens[at].partner.max(at) + 1;
    }
    false
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
