//! Rewrites a template's source so that no value can outgrow its bounds.
//!
//! The engine charges fuel for text, but not for the *shape* of a value:
//! `{% set x = [x, x] %}` forty times is 2⁴⁰ items in 40 small lists, which
//! any comparison or conversion to text then visits. Jinja's lists and maps
//! cannot be changed once made, so their size is bounded where they are made:
//! around list, map and tuple literals, at the operands of `+` and `*`, and
//! where they get a name with `set`. What visits them whole, which is comparing,
//! `in`, `~` and a subscript's key, is charged for it. The filters named here
//! do both (see [`super::bounds`]); values within bounds pass through unchanged.
//!
//! The same pass makes the edits of [`super::translate`].

use super::edit::{Edit, Rank, apply, insert};
use super::operands::{ends_operand, has_product, is_plain, operand_end, term_end, term_start};
use super::scan::{Kind, Tag, Token};
use super::translate;

/// Passes a value through if it is within the bounds of values.
pub(super) const GUARD: &str = "_bounded";
/// The same, and refuses namespaces: one inside itself would be a cycle.
pub(super) const GUARD_MEMBER: &str = "_bounded_member";
/// Passes a value through whose items are about to be visited, for a price.
pub(super) const GUARD_VISITED: &str = "_visited";
/// Passes anything but lists: `list * n` has no bound.
pub(super) const GUARD_FACTOR: &str = "_factor";
/// The text of an operand of `~`.
pub(super) const GUARD_SHOWN: &str = "_shown";
/// What `for` runs over: not none, which the engine takes for empty.
pub(super) const GUARD_ITEMS: &str = "_items";

const AFTER_LITERAL: &str = "|_bounded)";
const AFTER_TERM: &str = "|_bounded";
const AFTER_VISITED: &str = "|_visited";
const AFTER_SHOWN: &str = "|_shown";
const AFTER_SHOWN_TERM: &str = ")|_shown";
const AFTER_FACTOR: &str = "|_factor";
const AFTER_SET: &str = ")|_bounded";
const AFTER_ITEMS: &str = ")|_items";
const AFTER_KEY: &str = ")|_visited";
const AFTER_SET_MEMBER: &str = ")|_bounded_member";

/// `source` with guards, given its tags.
pub(super) fn guarded(source: &str, tags: &[Tag<'_>]) -> String {
    let mut edits = Vec::new();
    for tag in tags {
        edit_tag(tag, &mut edits);
    }
    apply(source, edits)
}

fn edit_tag(tag: &Tag<'_>, edits: &mut Vec<Edit>) {
    let tokens = &tag.tokens;
    if translate::statement(tag, edits) {
        return;
    }
    let targets = target_end(tag);
    translate::expressions(tag, targets, edits);
    for (index, token) in tokens.iter().enumerate() {
        if token.kind == Kind::Name && token.text == "in" && index >= targets {
            guard_in(tag, index, edits);
        }
        if token.kind != Kind::Operator {
            continue;
        }
        match token.text {
            "[" | "{" if !ends_operand(tag, index) => wrap(tokens, index, edits),
            "(" if index >= targets && !ends_operand(tag, index) && is_tuple(tokens, index) => {
                wrap(tokens, index, edits);
            }
            "[" if !is_slice(tokens, index) => guard_group(tokens, index, edits),
            "+" if ends_operand(tag, index) => operands(tokens, index, AFTER_TERM, edits),
            "~" if ends_operand(tag, index) => shown_operands(tag, index, edits),
            "==" | "!=" | "<" | ">" | "<=" | ">=" if ends_operand(tag, index) => {
                operands(tokens, index, AFTER_VISITED, edits);
            }
            "*" if ends_operand(tag, index) => operands(tokens, index, AFTER_FACTOR, edits),
            _ => {}
        }
    }
    match tag.statement() {
        "set" => guard_assignment(tag, targets, edits),
        "for" => guard_items(tag, targets, edits),
        _ => {}
    }
}

fn wrap(tokens: &[Token<'_>], open: usize, edits: &mut Vec<Edit>) {
    insert(tokens[open].start, Rank::Open, "(", edits);
    insert(tokens[tokens[open].partner].end(), Rank::Literal, AFTER_LITERAL, edits);
}

/// `a in b` and `a not in b`, but not the test of `a is in b`.
fn guard_in(tag: &Tag<'_>, index: usize, edits: &mut Vec<Edit>) {
    let negated = index > 0 && tag.tokens[index - 1].text == "not";
    let operator = index - usize::from(negated);
    if ends_operand(tag, operator) {
        left_operand(&tag.tokens, operator, AFTER_VISITED, edits);
        right_operand(&tag.tokens, index, AFTER_VISITED, edits);
    }
}

/// Guards what is in the brackets of a subscript: a key is hashed.
fn guard_group(tokens: &[Token<'_>], open: usize, edits: &mut Vec<Edit>) {
    let (first, last) = (open + 1, tokens[open].partner - 1);
    if first < last || tokens[first].kind == Kind::Name {
        insert(tokens[first].start, Rank::Open, "(", edits);
        insert(tokens[last].end(), Rank::Expression, AFTER_KEY, edits);
    }
}

/// Whether the brackets have a colon of their own: `list[1:]`.
fn is_slice(tokens: &[Token<'_>], open: usize) -> bool {
    has(tokens, ":", open + 1, tokens[open].partner)
}

fn is_tuple(tokens: &[Token<'_>], open: usize) -> bool {
    has(tokens, ",", open + 1, tokens[open].partner)
}

/// Whether `tokens[from..to]` has the operator outside brackets.
fn has(tokens: &[Token<'_>], operator: &str, from: usize, to: usize) -> bool {
    let mut index = from;
    while index < to {
        if tokens[index].is(operator) {
            return true;
        }
        index = tokens[index].partner.max(index) + 1;
    }
    false
}

/// Where the expression of a `set` or `for` starts: names are before it.
fn target_end(tag: &Tag<'_>) -> usize {
    let ends = |token: &Token<'_>| match tag.statement() {
        "set" => token.is("="),
        "for" => token.kind == Kind::Name && token.text == "in",
        _ => false,
    };
    tag.tokens.iter().position(ends).map_or(0, |index| index + 1)
}

/// Guards both operands of the operator at `index`.
fn operands(tokens: &[Token<'_>], index: usize, guard: &'static str, edits: &mut Vec<Edit>) {
    left_operand(tokens, index, guard, edits);
    right_operand(tokens, index, guard, edits);
}

fn left_operand(tokens: &[Token<'_>], index: usize, guard: &'static str, edits: &mut Vec<Edit>) {
    let before = &tokens[index - 1];
    if !is_plain(before) {
        insert(before.end(), Rank::Operand, guard, edits);
    }
}

fn right_operand(tokens: &[Token<'_>], index: usize, guard: &'static str, edits: &mut Vec<Edit>) {
    if let Some((last, false)) = operand_end(tokens, index + 1) {
        insert(tokens[last].end(), Rank::Operand, guard, edits);
    }
}

/// Shows both operands of the `~` at `index`, which binds less than `*` and its like.
fn shown_operands(tag: &Tag<'_>, index: usize, edits: &mut Vec<Edit>) {
    let tokens = &tag.tokens;
    let left = (term_start(tag, index - 1), index - 1);
    let right = term_end(tokens, index + 1).map(|last| (index + 1, last));
    for (first, last) in [Some(left), right].into_iter().flatten() {
        let end = tokens[last].end();
        let is_test = tokens.get(last + 1).is_some_and(|next| next.text == "is");
        if (first == last && is_plain(&tokens[first])) || is_test {
            continue;
        }
        if has_product(tag, first, last) {
            insert(tokens[first].start, Rank::Open, "(", edits);
            insert(end, Rank::Term, AFTER_SHOWN_TERM, edits);
        } else {
            insert(end, Rank::Term, AFTER_SHOWN, edits);
        }
    }
}

/// `{% set x = … %}` becomes `{% set x = (…)|_bounded %}`.
fn guard_assignment(tag: &Tag<'_>, targets: usize, edits: &mut Vec<Edit>) {
    if targets == 0 {
        return;
    }
    let (Some(first), Some(last)) = (tag.tokens.get(targets), tag.tokens.last()) else { return };
    if matches!(first.kind, Kind::Text) && first.start == last.start {
        return;
    }
    let member = tag.tokens[..targets].iter().any(|token| token.is("."));
    insert(first.start, Rank::Open, "(", edits);
    insert(last.end(), Rank::Expression, if member { AFTER_SET_MEMBER } else { AFTER_SET }, edits);
}

/// `{% for x in … if … %}` becomes `{% for x in (…)|_items if … %}`.
fn guard_items(tag: &Tag<'_>, targets: usize, edits: &mut Vec<Edit>) {
    let tokens = &tag.tokens;
    let mut end = targets;
    while let Some(token) = tokens.get(end) {
        if token.kind == Kind::Name && matches!(token.text, "if" | "recursive") {
            break;
        }
        end = token.partner.max(end) + 1;
    }
    if targets == 0 || end == targets || end > tokens.len() {
        return;
    }
    insert(tokens[targets].start, Rank::Open, "(", edits);
    insert(tokens[end - 1].end(), Rank::Expression, AFTER_ITEMS, edits);
}
