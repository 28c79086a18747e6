//! The text of a grammar → its rules.

use std::collections::HashMap;

use foldhash::fast::RandomState;

use crate::error::{Bounded, Error, Result};

/// Bytes of a grammar at most.
const MAX_BYTES: usize = 256 << 10;

/// Groups within groups at most.
const MAX_DEPTH: usize = 100;

/// The largest number of repetitions, which is llama.cpp's too.
const MAX_REPEAT: usize = 2000;

/// Rules at most.
const MAX_RULES: usize = 2000;

/// The rules of a grammar.
#[derive(Debug)]
pub(super) struct Grammar {
    pub rules: Vec<Expr>,
    /// The rule `root`.
    pub root: usize,
}

/// What a rule matches.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Expr {
    Literal(String),
    /// One character in one of the ranges, or in none of them.
    Class {
        negated: bool,
        ranges: Vec<(char, char)>,
    },
    /// Any character.
    Any,
    /// A control token, as Lark writes it.
    Token(String),
    /// Another rule, by its index.
    Rule(usize),
    Sequence(Vec<Expr>),
    Choice(Vec<Expr>),
    Repeat(Box<Expr>, usize, Option<usize>),
}

/// Reads a grammar.
///
/// # Errors
/// [`Error::Misuse`] with line and column.
pub(super) fn grammar(text: &str) -> Result<Grammar> {
    if text.len() > MAX_BYTES {
        return Err(Error::limit(Bounded::Constraint("bytes of a grammar"), text.len(), MAX_BYTES));
    }
    let mut parser = Parser { text, at: 0, depth: 0, names: Names::default() };
    parser.space(true);
    while parser.at < text.len() {
        parser.rule()?;
    }
    let Names { ids, rules, first_use } = parser.names;
    if rules.len() > MAX_RULES {
        let what = Bounded::Constraint("rules of a grammar");
        return Err(Error::limit(what, rules.len(), MAX_RULES));
    }
    if let Some(missing) = rules.iter().position(Option::is_none) {
        let name = ids.iter().find(|(_, id)| **id == missing).map_or("", |(name, _)| name);
        return Err(wrong(text, first_use[missing], &format!("rule {name:?} is not defined")));
    }
    let Some(&root) = ids.get("root") else {
        return Err(wrong(text, 0, "there is no rule \"root\""));
    };
    Ok(Grammar { rules: rules.into_iter().flatten().collect(), root })
}

fn wrong(text: &str, at: usize, problem: &str) -> Error {
    let before = text.get(..at).unwrap_or(text);
    let line = before.matches('\n').count() + 1;
    let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    Error::misuse(format!("grammar, line {line}, column {column}: {problem}"))
}

/// Rules by name, in the order of their first mention.
#[derive(Default)]
struct Names<'t> {
    ids: HashMap<&'t str, usize, RandomState>,
    rules: Vec<Option<Expr>>,
    first_use: Vec<usize>,
}

impl<'t> Names<'t> {
    fn id(&mut self, name: &'t str, at: usize) -> usize {
        *self.ids.entry(name).or_insert_with(|| {
            self.rules.push(None);
            self.first_use.push(at);
            self.rules.len() - 1
        })
    }
}

struct Parser<'t> {
    text: &'t str,
    at: usize,
    depth: usize,
    names: Names<'t>,
}

impl<'t> Parser<'t> {
    fn rest(&self) -> &'t str {
        self.text.get(self.at..).unwrap_or_default()
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn next(&mut self) -> Option<char> {
        let next = self.peek()?;
        self.at += next.len_utf8();
        Some(next)
    }

    fn take(&mut self, text: &str) -> bool {
        let found = self.rest().starts_with(text);
        self.at += if found { text.len() } else { 0 };
        found
    }

    fn error<T>(&self, problem: &str) -> Result<T> {
        Err(wrong(self.text, self.at, problem))
    }

    /// Skips blanks and comments, and line breaks if they mean nothing here.
    fn space(&mut self, lines: bool) {
        while let Some(c) = self.peek() {
            match c {
                ' ' | '\t' => self.at += 1,
                '\r' | '\n' if lines => self.at += 1,
                '#' => self.at += self.rest().find(['\r', '\n']).unwrap_or(self.rest().len()),
                _ => break,
            }
        }
    }

    fn name(&mut self) -> Result<&'t str> {
        let rest = self.rest();
        let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'));
        match end.unwrap_or(rest.len()) {
            0 => self.error("expected the name of a rule"),
            length => {
                self.at += length;
                Ok(&rest[..length])
            }
        }
    }

    /// `name ::= alternatives`, up to the end of the line.
    fn rule(&mut self) -> Result<()> {
        let at = self.at;
        let name = self.name()?;
        self.space(false);
        if !self.take("::=") {
            return self.error("expected \"::=\"");
        }
        self.space(true);
        let expr = self.choice(false)?;
        let id = self.names.id(name, at);
        if self.names.rules[id].replace(expr).is_some() {
            self.at = at;
            return self.error(&format!("rule {name:?} is defined twice"));
        }
        match self.peek() {
            None | Some('\r' | '\n') => self.space(true),
            Some(')') => return self.error("there is no group to close"),
            Some(_) => return self.error("expected the end of the line"),
        }
        Ok(())
    }

    /// Alternatives. `nested`: in a group, where line breaks mean nothing.
    fn choice(&mut self, nested: bool) -> Result<Expr> {
        let mut all = vec![self.sequence(nested)?];
        while self.take("|") {
            self.space(true);
            all.push(self.sequence(nested)?);
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Expr::Choice(all) })
    }

    fn sequence(&mut self, nested: bool) -> Result<Expr> {
        let mut all = Vec::new();
        while let Some(item) = self.item()? {
            self.space(nested);
            let item = self.repeated(item, nested)?;
            all.push(item);
        }
        Ok(if all.len() == 1 { all.swap_remove(0) } else { Expr::Sequence(all) })
    }

    /// One element of a sequence; `None` at its end.
    fn item(&mut self) -> Result<Option<Expr>> {
        let Some(c) = self.peek() else { return Ok(None) };
        let item = match c {
            '"' => self.literal()?,
            '[' => self.class()?,
            '.' => {
                self.at += 1;
                Expr::Any
            }
            '<' | '!' => self.token()?,
            '(' => self.group()?,
            c if c.is_ascii_alphanumeric() || c == '-' || c == '_' => {
                let at = self.at;
                let name = self.name()?;
                Expr::Rule(self.names.id(name, at))
            }
            '*' | '+' | '?' | '{' => return self.error("there is nothing to repeat"),
            _ => return Ok(None),
        };
        Ok(Some(item))
    }

    fn group(&mut self) -> Result<Expr> {
        let start = self.at;
        self.at += 1;
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return self.error("groups are nested too deep");
        }
        self.space(true);
        let inner = self.choice(true)?;
        self.depth -= 1;
        if !self.take(")") {
            if self.peek().is_none() {
                self.at = start;
                return self.error("the group is not closed");
            }
            return self.error("expected an element of a rule, \"|\" or \")\"");
        }
        // A group stays one element, also if it has one alternative.
        Ok(match inner {
            Expr::Sequence(_) | Expr::Choice(_) => Expr::Choice(vec![inner]),
            other => other,
        })
    }

    /// What is repeated, if a sign says so; signs can follow each other.
    fn repeated(&mut self, mut item: Expr, nested: bool) -> Result<Expr> {
        for _ in 0..MAX_DEPTH {
            let (least, most) = match self.peek() {
                Some('*') => (0, None),
                Some('+') => (1, None),
                Some('?') => (0, Some(1)),
                Some('{') => self.bounds()?,
                _ => return Ok(item),
            };
            self.at += 1;
            self.space(nested);
            item = Expr::Repeat(Box::new(item), least, most);
        }
        self.error("too many signs of repetition")
    }

    /// `{n}`, `{n,}` or `{n,m}`, up to its last character.
    fn bounds(&mut self) -> Result<(usize, Option<usize>)> {
        self.at += 1;
        self.space(false);
        let least = self.number()?;
        self.space(false);
        let most = if self.take(",") {
            self.space(false);
            if self.peek() == Some('}') { None } else { Some(self.number()?) }
        } else {
            Some(least)
        };
        self.space(false);
        if self.peek() != Some('}') {
            return self.error("expected \"}\"");
        }
        if most.is_some_and(|most| most < least) {
            return self.error("the most repetitions are fewer than the least");
        }
        Ok((least, most))
    }

    fn number(&mut self) -> Result<usize> {
        let rest = self.rest();
        let length = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        match rest[..length].parse() {
            Ok(number) if number <= MAX_REPEAT => {
                self.at += length;
                Ok(number)
            }
            Ok(_) => self.error(&format!("more than {MAX_REPEAT} repetitions")),
            Err(_) if length > 0 => self.error(&format!("more than {MAX_REPEAT} repetitions")),
            Err(_) => self.error("expected a number"),
        }
    }

    fn literal(&mut self) -> Result<Expr> {
        let start = self.at;
        self.at += 1;
        let mut text = String::new();
        loop {
            match self.peek() {
                Some('"') => break,
                Some('\n') | None => {
                    self.at = start;
                    return self.error("the text is not closed with a quote");
                }
                Some(_) => text.push(self.character()?),
            }
        }
        self.at += 1;
        Ok(Expr::Literal(text))
    }

    fn class(&mut self) -> Result<Expr> {
        let start = self.at;
        self.at += 1;
        let negated = self.take("^");
        let mut ranges = Vec::new();
        loop {
            match self.peek() {
                Some(']') => break,
                Some('\n') | None => {
                    self.at = start;
                    return self.error("the class is not closed with \"]\"");
                }
                Some(_) => {}
            }
            let first = self.character()?;
            let mut last = first;
            if self.rest().starts_with('-') && !self.rest().starts_with("-]") {
                self.at += 1;
                last = self.character()?;
            }
            if last < first {
                return self.error("the range ends before it begins");
            }
            ranges.push((first, last));
        }
        self.at += 1;
        if ranges.is_empty() && !negated {
            self.at = start;
            return self.error("the class is empty");
        }
        Ok(Expr::Class { negated, ranges })
    }

    /// A character, or an escape that means one.
    fn character(&mut self) -> Result<char> {
        let Some(c) = self.next() else { return self.error("the grammar ends here") };
        if c != '\\' {
            return Ok(c);
        }
        let Some(escape) = self.next() else { return self.error("the grammar ends here") };
        match escape {
            'n' => Ok('\n'),
            'r' => Ok('\r'),
            't' => Ok('\t'),
            '\\' | '"' | '[' | ']' => Ok(escape),
            'x' => self.hexadecimal(2),
            'u' => self.hexadecimal(4),
            'U' => self.hexadecimal(8),
            _ => {
                self.at -= escape.len_utf8();
                self.error(
                    "unknown escape; there are \\n \\r \\t \\\\ \\\" \\[ \\] \\xNN \\uNNNN \
                     \\UNNNNNNNN",
                )
            }
        }
    }

    fn hexadecimal(&mut self, digits: usize) -> Result<char> {
        let code =
            self.rest().get(..digits).filter(|code| code.bytes().all(|b| b.is_ascii_hexdigit()));
        let code = code.and_then(|code| u32::from_str_radix(code, 16).ok());
        match code.and_then(char::from_u32) {
            Some(c) => {
                self.at += digits;
                Ok(c)
            }
            None => self.error(&format!("expected {digits} digits of a character's number")),
        }
    }

    /// `<[id]>` or `<text>`; with `!` any other token.
    fn token(&mut self) -> Result<Expr> {
        let start = self.at;
        let negated = self.take("!");
        let rest = self.rest();
        let end = rest.find('>').filter(|_| rest.starts_with('<'));
        let text = end.map(|end| &rest[..=end]);
        let fine = |text: &&str| {
            text.len() > 2 && !text.contains(|c: char| c.is_whitespace() || c.is_control())
        };
        let Some(text) = text.filter(fine) else {
            return self.error("expected a token: <[id]> or <text>");
        };
        self.at += text.len();
        let number = text.strip_prefix("<[").and_then(|text| text.strip_suffix("]>"));
        let number = number.and_then(|number| number.parse::<u32>().ok());
        match (negated, number) {
            (false, Some(id)) => Ok(Expr::Token(format!("<[{id}]>"))),
            (true, Some(id)) => Ok(Expr::Token(format!("<[^{id}]>"))),
            (false, None) if !text.starts_with("<[") && !text[1..].contains('<') => {
                Ok(Expr::Token(text.to_owned()))
            }
            _ => {
                self.at = start;
                self.error("a token that is excluded must be named by its id: !<[id]>")
            }
        }
    }
}
