//! Finds the tags of a Jinja source and the tokens in them.
//!
//! The engine has its own lexer; this one exists for what must happen before
//! the engine sees the source: bounding what its recursive parser recurses
//! over, and placing the guards of [`super::guard`].

use crate::error::{Bounded, Error, Result};

/// Nesting of brackets in one tag, and of blocks in one another.
const MAX_NESTING: usize = 100;
/// Tokens in one tag: a chain `a + a + …` becomes a tree of that depth.
const MAX_TAG_TOKENS: usize = 4096;
/// `elif` branches of a template: the parser nests them.
const MAX_ELIFS: usize = 1000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Name,
    Number,
    Text,
    Operator,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    pub text: &'a str,
    /// Byte offset in the source.
    pub start: usize,
    /// For a bracket, the index of its counterpart in the tag.
    pub partner: usize,
}

impl Token<'_> {
    pub fn end(&self) -> usize {
        self.start + self.text.len()
    }

    pub fn is(&self, operator: &str) -> bool {
        self.kind == Kind::Operator && self.text == operator
    }
}

/// The tokens of one `{% … %}` or `{{ … }}`.
#[derive(Debug)]
pub(super) struct Tag<'a> {
    /// `{% … %}`.
    pub is_block: bool,
    pub tokens: Vec<Token<'a>>,
    /// Byte offset behind the closing delimiter.
    pub end: usize,
    /// Whether a sign stands before that delimiter: `-%}`.
    pub signed: bool,
}

impl Tag<'_> {
    /// The statement's name, for a block.
    pub fn statement(&self) -> &str {
        match self.tokens.first() {
            Some(token) if self.is_block && token.kind == Kind::Name => token.text,
            _ => "",
        }
    }
}

/// All tags of `source`, outside comments and raw sections, within the limits.
pub(super) fn scan(source: &str) -> Result<Vec<Tag<'_>>> {
    let mut tags = Vec::new();
    let mut at = 0;
    let mut nesting = 0_usize;
    let mut elifs = 0_usize;
    while let Some(found) = source[at..].find('{') {
        let open = at + found;
        let rest = &source[open..];
        if rest.starts_with("{#") {
            at = match rest.find("#}") {
                Some(end) => open + end + 2,
                None => return Err(unclosed(open)),
            };
        } else if rest.starts_with("{%") || rest.starts_with("{{") {
            let tag = scan_tag(source, open)?;
            at = tag.end;
            match tag.statement() {
                "raw" => at = skip_raw(source, at)?,
                "elif" => elifs += 1,
                name if opens_block(name, &tag) => nesting += 1,
                name if name.starts_with("end") => nesting = nesting.saturating_sub(1),
                _ => {}
            }
            tags.push(tag);
        } else {
            at = open + 1;
        }
        check("nested blocks in a chat template", nesting, MAX_NESTING)?;
        check("elif branches in a chat template", elifs, MAX_ELIFS)?;
    }
    Ok(tags)
}

fn opens_block(name: &str, tag: &Tag<'_>) -> bool {
    match name {
        "for" | "if" | "macro" | "call" | "filter" | "with" | "autoescape" | "generation" => true,
        "set" => !tag.tokens.iter().any(|token| token.is("=")),
        _ => false,
    }
}

fn skip_raw(source: &str, from: usize) -> Result<usize> {
    let mut at = from;
    while let Some(found) = source[at..].find("{%") {
        at += found + 2;
        let inside = source[at..].trim_start_matches(['-', '+']).trim_start();
        if inside.starts_with("endraw") {
            return Ok(at);
        }
    }
    Err(unclosed(from))
}

fn unclosed(at: usize) -> Error {
    Error::Template(format!("syntax error: the tag opened at byte {at} is not closed"))
}

pub(super) fn check(what: &'static str, needed: usize, allowed: usize) -> Result<()> {
    if needed > allowed {
        return Err(Error::limit(Bounded::Template(what), needed, allowed));
    }
    Ok(())
}

fn scan_tag(source: &str, open: usize) -> Result<Tag<'_>> {
    let is_block = source[open..].starts_with("{%");
    let closer = if is_block { "%}" } else { "}}" };
    let mut tokens: Vec<Token<'_>> = Vec::new();
    let mut brackets: Vec<usize> = Vec::new();
    let mut at = open + 2;
    if source[at..].starts_with(['-', '+']) {
        at += 1;
    }
    loop {
        let rest = &source[at..];
        let Some(first) = rest.chars().next() else { return Err(unclosed(open)) };
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if brackets.is_empty() {
            let sign = usize::from(first == '-' || first == '+');
            if rest[sign..].starts_with(closer) {
                return Ok(Tag { is_block, tokens, end: at + sign + 2, signed: sign > 0 });
            }
        }
        let member = tokens.last().is_some_and(|token| token.is("."));
        let (kind, length) = token_length(rest, first, member).ok_or_else(|| unclosed(open))?;
        let text = &rest[..length];
        let index = tokens.len();
        tokens.push(Token { kind, text, start: at, partner: index });
        if kind == Kind::Operator {
            match_bracket(&mut tokens, &mut brackets, index)?;
        }
        check("nested brackets in a chat template", brackets.len(), MAX_NESTING)?;
        check("tokens in one tag of a chat template", tokens.len(), MAX_TAG_TOKENS)?;
        at += length;
    }
}

/// The kind and the bytes of the token at the start of `rest`; `None` for a
/// string without an end. `member`: it follows a dot, so that `list.0.1` has no float.
fn token_length(rest: &str, first: char, member: bool) -> Option<(Kind, usize)> {
    if first == '"' || first == '\'' {
        let mut escaped = false;
        for (index, letter) in rest.char_indices().skip(1) {
            match letter {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                _ if letter == first => return Some((Kind::Text, index + 1)),
                _ => {}
            }
        }
        return None;
    }
    let run = |accept: fn(char) -> bool| rest.find(|c| !accept(c)).unwrap_or(rest.len());
    if first.is_ascii_digit() {
        let prefixed = rest.len() > 1 && matches!(rest.as_bytes()[1], b'x' | b'o' | b'b');
        return Some((
            Kind::Number,
            match prefixed {
                true => run(|c| c.is_ascii_alphanumeric() || c == '_'),
                false if member => run(is_digit),
                false => decimal_length(rest),
            },
        ));
    }
    if first == '_' || first.is_alphabetic() {
        return Some((Kind::Name, run(|c| c == '_' || c.is_alphanumeric())));
    }
    let two = ["**", "//", "==", "!=", "<=", ">="].iter().any(|o| rest.starts_with(o));
    Some((Kind::Operator, if two { 2 } else { first.len_utf8() }))
}

fn is_digit(letter: char) -> bool {
    letter.is_ascii_digit() || letter == '_'
}

/// Bytes of the number at the start of `rest`, with fraction and exponent.
fn decimal_length(rest: &str) -> usize {
    let digits = |from: usize| rest[from..].find(|c| !is_digit(c)).unwrap_or(rest.len() - from);
    let mut length = digits(0);
    if rest[length..].starts_with('.') && digits(length + 1) > 0 {
        length += 1 + digits(length + 1);
    }
    if rest[length..].starts_with(['e', 'E']) {
        let sign = usize::from(rest[length + 1..].starts_with(['-', '+']));
        match digits(length + 1 + sign) {
            0 => {}
            exponent => length += 1 + sign + exponent,
        }
    }
    length
}

fn match_bracket(tokens: &mut [Token<'_>], open: &mut Vec<usize>, index: usize) -> Result<()> {
    let expected = match tokens[index].text {
        "(" | "[" | "{" => {
            open.push(index);
            return Ok(());
        }
        ")" => "(",
        "]" => "[",
        "}" => "{",
        _ => return Ok(()),
    };
    match open.pop() {
        Some(partner) if tokens[partner].text == expected => {
            tokens[partner].partner = index;
            tokens[index].partner = partner;
            Ok(())
        }
        _ => Err(Error::Template(format!(
            "syntax error: unexpected {:?} at byte {}",
            tokens[index].text, tokens[index].start
        ))),
    }
}
