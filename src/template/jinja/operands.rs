//! Where operands begin and end in the tokens of a tag.

use super::scan::{Kind, Tag, Token};

/// Whether the token before `index` ends an operand, so that the one at
/// `index` is a binary operator, a call or a subscript.
pub(super) fn ends_operand(tag: &Tag<'_>, index: usize) -> bool {
    let Some(previous) = index.checked_sub(1).map(|before| tag.tokens[before]) else {
        return false;
    };
    match previous.kind {
        Kind::Number | Kind::Text => true,
        Kind::Name if tag.is_block && index == 1 => previous.text == "call",
        Kind::Name => !matches!(previous.text, "and" | "or" | "not" | "in" | "is" | "if" | "else"),
        Kind::Operator => matches!(previous.text, ")" | "]" | "}"),
    }
}

/// Whether the token is a text or an integer, which need no guard.
pub(super) fn is_plain(token: &Token<'_>) -> bool {
    match token.kind {
        Kind::Number => !token.text.contains(['.', 'e', 'E']) || token.text.starts_with("0x"),
        kind => kind == Kind::Text,
    }
}

/// The last token of the operand that starts at `index`, filters included, and whether
/// it is a plain literal, which needs no guard; `None` if there is no operand.
pub(super) fn operand_end(tokens: &[Token<'_>], index: usize) -> Option<(usize, bool)> {
    let mut at = index;
    while tokens.get(at).is_some_and(|token| token.is("-") || token.is("+")) {
        at += 1;
    }
    let first = tokens.get(at)?;
    let mut plain = is_plain(first);
    let mut last = first.partner;
    let is_text = |at| tokens.get(at).is_some_and(|token: &Token<'_>| token.kind == Kind::Text);
    while is_text(last) && is_text(last + 1) {
        last += 1;
    }
    while let Some(next) = tokens.get(last + 1) {
        last = match next.text {
            _ if next.kind != Kind::Operator => break,
            "." | "|" if tokens.get(last + 2).is_some() => last + 2,
            "(" | "[" => next.partner,
            _ => break,
        };
        plain = false;
    }
    Some((last, plain))
}

/// The last token of `a` or `a ** b` where `a` starts at `index`.
pub(super) fn power_end(tokens: &[Token<'_>], index: usize) -> Option<usize> {
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

/// The first token of the operand whose last is `last`, signs included.
pub(super) fn operand_start(tag: &Tag<'_>, last: usize) -> usize {
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
pub(super) fn primary_start(tag: &Tag<'_>, last: usize) -> usize {
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
